"""`ticketrouter schema`: the statements that a database needs, what each locks, and how to undo it.

Law of this file: options and streams; it knows no statement, and runs none.
"""

from __future__ import annotations

import click

from ticketrouter.cli.desk import Desk, desk_options, looked_at, mapping_error
from ticketrouter.cli.fatal import FatalError
from ticketrouter.cli.files import written
from ticketrouter.sqlalchemy import MappingError, TicketMapping
from ticketrouter.sqlalchemy.ddl import DIALECTS, Step, missing_steps, own_schema, schema_steps, script


@click.command()
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
    preset: str,
    table: str | None,
    column: dict[str, str],
    active: tuple[str, ...],
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
    desk = Desk(preset, table, column, active)
    if database is not None:
        with looked_at(database, desk) as (connection, mapping):
            steps = missing_steps(connection, mapping)
    else:
        steps = _all_steps(desk, str(dialect), drop)
    text = script(steps) if steps else "-- Nothing is missing.\n"
    if plan is None:
        click.echo(text, nl=False)
        return
    with written(plan) as file:
        file.write(text)


def _all_steps(desk: Desk, dialect: str, drop: tuple[str, ...]) -> tuple[Step, ...]:
    try:
        mapping: TicketMapping = desk.usual_mapping()
        if desk.is_of_the_line:
            return schema_steps(mapping, dialect, drop=drop)
        if drop:
            raise FatalError("--drop is for a table that is there: ours is made with the right rule")
        return own_schema(mapping, dialect)
    except MappingError as error:
        raise mapping_error(error) from error
