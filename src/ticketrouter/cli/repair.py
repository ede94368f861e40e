"""`ticketrouter repair`: a file of statements that close duplicates, for the host to read and to run.

Law of this file: it writes the file, and nothing else anywhere.
"""

from __future__ import annotations

from typing import TextIO

import click
from sqlalchemy import Connection

from ticketrouter.checks import printable
from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.files import written
from ticketrouter.cli.options import SaidOnce, database_option
from ticketrouter.cli.tables import Tables, looked_at
from ticketrouter.sqlalchemy import TicketMapping
from ticketrouter.sqlalchemy.dialects import database_of
from ticketrouter.sqlalchemy.health.repair import BATCH, LONGEST_BATCH, Closing, plan_repair

_HEAD = """\
-- The plan of `ticketrouter repair` for {table}. Read it before you run it.
-- It closes active tickets, and changes nothing else. Of each key the most recently active ticket stays, ties to the
-- highest id. Messages stay with the ticket that they are in.
-- Each statement is a transaction of its own, and finds its rows by their ids. It looks again: a ticket is left alone
-- where the one that was to stay has been closed meanwhile, or was not used later any more. To run it twice changes
-- nothing more.
-- To undo it: the ids stand in the statements; set the status again that they had.
"""


@click.command(cls=SaidOnce)
@database_option("The database that is looked at.")
@desk_options
@click.option("--plan", required=True, metavar="FILE", help="Where the statements are written.")
@click.option(
    "--batch",
    type=click.IntRange(1, LONGEST_BATCH),
    default=BATCH,
    show_default=True,
    metavar="N",
    help="How many tickets a statement closes at most.",
)
@click.option(
    "--orphans",
    is_flag=True,
    help="Close active tickets without contact, connection or company, too.",
)
def repair(
    database: str,
    *,
    tables: Tables,
    plan: str,
    batch: int,
    orphans: bool,
) -> None:
    """Write a plan that closes duplicates, and leave it to you to run it.

    The database is only read. Run the plan with the client of your database, before the index on active tickets
    is built.

    Exit status: 0, or 2 if the plan cannot be written.
    """
    with looked_at(database, tables) as (connection, mapping):
        counts = write_plan(plan, connection, mapping, batch, orphans=orphans)
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "nothing to close"
    click.echo(f"{printable(plan)}: {told}", err=True)


def write_plan(
    plan: str, connection: Connection, mapping: TicketMapping, batch: int, *, orphans: bool
) -> dict[str, int]:
    """Write the plan to a file.

    Returns:
        How many tickets it closes, by what they are.
    """
    closings = plan_repair(connection, mapping, batch=batch, orphans=orphans)
    counts: dict[str, int] = {}
    with written(plan) as file:
        file.write(_HEAD.format(table=printable(mapping.table.fullname)))
        file.write(database_of(connection.dialect).names.opening)
        for closing in closings:
            _write_one(file, closing)
            counts[closing.what] = counts.get(closing.what, 0) + len(closing.ticket_ids)
        if not counts:
            file.write("\n-- Nothing is to be closed.\n")
    return counts


def _write_one(file: TextIO, closing: Closing) -> None:
    number = len(closing.ticket_ids)
    tickets = f"{number:,} ticket{'s' if number > 1 else ''}"
    file.write(f"\n-- {closing.what}: {tickets}\n{closing.statement};\n")
