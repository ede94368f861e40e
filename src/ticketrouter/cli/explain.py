"""`ticketrouter explain`: what would become of one message, why, and what would change that.

Law of this file: it writes nothing, makes no table, and knows no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import assert_never

import click
from attrs import evolve

from ticketrouter import presets
from ticketrouter.checks import printable
from ticketrouter.cli import jsonl
from ticketrouter.cli.desk_options import desk_options
from ticketrouter.cli.fatal import FatalError, without_url
from ticketrouter.cli.items import Bad, Message, Skipped
from ticketrouter.cli.options import SaidOnce, database_option, policy_option
from ticketrouter.cli.store import Store
from ticketrouter.cli.tables import Tables
from ticketrouter.cli.wording import warned
from ticketrouter.explain import Explanation
from ticketrouter.model import InboundMessage, Ticket, newest_first


@click.command(cls=SaidOnce)
@click.argument("message", metavar="MESSAGE")
@database_option("Where the tickets are kept.")
@policy_option
@desk_options
def explain(message: str, *, database: str, policy: str, tables: Tables) -> None:
    """Say what would become of a message, without routing it.

    MESSAGE is one line of the format jsonl, such as '{"company_id": 1, "contact_id": 5, "connection_id": 10}'.

    Exit status: 0, or 2 if the message is no good or the database cannot be read.
    """
    parsed = _parsed(message)
    with (
        warned(tables.told),
        closing(Store.open(database, presets.ALL[policy], tables, create=False)) as store,
    ):
        for line in lines(store.explain(parsed), tables.told):
            click.echo(printable(line))


def lines(found: Explanation, told: Callable[[str], str] = str) -> list[str]:
    """Return an explanation as lines of text.

    Args:
        found: the explanation.
        told: says a text of the library as whoever reads it knows it.
    """
    facts = found.facts
    known = [
        *(_fact("active", ticket) for ticket in newest_first(facts.active)),
        *(_fact("last closed", ticket) for ticket in (facts.latest_closed,) if ticket is not None),
        *(_fact("of an unknown status", ticket) for ticket in (facts.unknown,) if ticket is not None),
        *(_fact("in the way", ticket) for ticket in (facts.in_the_way(),) if ticket is not None),
        *(_fact("had this message", ticket) for ticket in (facts.routed,) if ticket is not None),
        f"unique rule: {facts.unique_rule}",
    ]
    others = [f"{other.change}: {other.answer}" for other in found.alternatives]
    refusal = found.answer.refusal
    if refusal is not None:
        said = " ".join(told(str(refusal)).split())
        return [f"answer: refused: {said}", "facts:", *(f"  {fact}" for fact in known)]
    return [
        f"answer: {found.answer}",
        "facts:",
        *(f"  {fact}" for fact in known),
        "what would change it:" if others else "nothing that is known here would change it",
        *(f"  {other}" for other in others),
    ]


def _fact(what: str, ticket: Ticket) -> str:
    closed = "" if ticket.closed_at is None else f", closed at {ticket.closed_at.isoformat()}"
    return f"{what}: ticket {ticket.id} on connection {ticket.connection_id}, {ticket.status}{closed}"


def _parsed(text: str) -> InboundMessage:
    (item,) = jsonl.parse(text)
    match item:
        case Message():
            return item.message
        case Bad():
            raise FatalError(f"MESSAGE: {without_url(str(evolve(item, hint='')))}")
        case Skipped():
            raise FatalError(f"MESSAGE: {item.what} is no message")
        case _:
            assert_never(item)
