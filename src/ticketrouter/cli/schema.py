"""`ticketrouter schema`: the statements that a database needs, what each locks, and how to undo it.

Law of this file: options and streams; it knows no statement, and runs none.
"""

from __future__ import annotations

import sys

import click

from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.files import written
from ticketrouter.cli.options import SaidOnce
from ticketrouter.cli.tables import Tables, looked_at, said
from ticketrouter.sqlalchemy import MappingError
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.health.ddl import DIALECTS, missing_steps, script
from ticketrouter.sqlalchemy.steps import Step


@click.command(cls=SaidOnce)
@click.option("--dialect", type=click.Choice(DIALECTS), help="The database that the statements are for.")
@click.option(
    "--database", metavar="URL", help="A database that is looked at: only what is missing there is printed."
)
@desk_options
@click.option(
    "--drop",
    multiple=True,
    metavar="NAME",
    help="With --dialect: a unique constraint that is dropped at the end; may be given again.",
)
@click.option("--plan", metavar="FILE", help="Where the statements are written, instead of standard output.")
def schema(
    dialect: str | None,
    *,
    database: str | None,
    tables: Tables,
    drop: tuple[str, ...],
    plan: str | None,
) -> None:
    """Print the statements that a database needs. None of them is run.

    With --dialect all of them, for the usual tables of the preset. With --database those that are missing there,
    the end of an old unique rule among them.

    Exit status: 0, or 2 if the statements cannot be written.
    """
    if (dialect is None) is (database is None):
        raise click.UsageError("Say either --dialect or --database.")
    if drop and database is not None:
        raise click.UsageError("--drop is for --dialect: with --database the old rule is found.")
    if database is not None:
        with looked_at(database, tables) as (connection, mapping):
            steps = missing_steps(connection, mapping)
            dialect = database_of(connection.dialect).name
    else:
        steps = _all_steps(tables, str(dialect), drop)
    text = script(steps, str(dialect)) if steps else "-- Nothing is missing.\n"
    if plan is None:
        if sys.stdout.isatty() and not text.replace("\n", "").isprintable():
            raise FatalError("a name has control characters, which a terminal obeys: say --plan FILE")
        click.echo(text, nl=False)
        return
    with written(plan) as file:
        file.write(text)


def _all_steps(tables: Tables, dialect: str, drop: tuple[str, ...]) -> tuple[Step, ...]:
    try:
        return tables.steps(dialect, drop)
    except MappingError as error:
        raise FatalError(said(tables, error)) from error
