"""Answers in the words of the scheme, whatever words the table has.

Law of this file: `ticketrouter.sqlalchemy.words`; what a collation takes words for is asked once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import evolve

from ticketrouter.decisions import Lookup, Snapshot
from ticketrouter.log import tell_unknown
from ticketrouter.model import Ticket, altered
from ticketrouter.sqlalchemy.codecs import NO_WORD
from ticketrouter.sqlalchemy.statements import OldReads
from ticketrouter.sqlalchemy.words import replaced, tickets_of
from ticketrouter.sqlalchemy.work.here import Here

_T = TypeVar("_T")
_MOST_WORDS = 1000
"""Of how many words that the scheme does not know it is kept what the database takes them for."""


def of_known_words(here: Here, lookup: Lookup, seen: Snapshot, *, now: OldReads | None = None) -> Snapshot:
    """Look again where the last closed ticket is of an unknown word: an older one may be reopened.

    Args:
        here: where.
        lookup: what is asked for.
        seen: what was found.
        now: by which it was found as it is committed now; None: plainly.
    """
    last = seen.latest_closed
    if last is None or here.statuses.is_reopenable(last.status):
        return seen
    looks = here.statements.looks
    sent = looks.known_closed(lookup) if now is None else now.known_closed(lookup)
    again = looks.snapshot(here.execute(sent))
    return evolve(seen, latest_closed=again.latest_closed, unknown=last)


def in_known_words(here: Here, answer: _T) -> _T:
    """Return an answer whose active tickets have words of the scheme, and tell of the words that it does not know."""
    known = here.statuses.known
    for seen in answer if isinstance(answer, list) else (answer,):
        if isinstance(seen, Snapshot) and seen.unknown is not None:
            tell_unknown(seen.unknown.status, _table(here))
    if all(ticket.status in known for ticket in tickets_of(answer)):
        return answer
    return replaced(answer, lambda ticket: _in_known_words(here, ticket))


def _in_known_words(here: Here, ticket: Ticket) -> Ticket:
    if ticket.status in here.statuses.known:
        return ticket
    word = _taken_for(here, ticket)
    tell_unknown(ticket.status, _table(here), taken_for=word)
    return ticket if word is None else altered(ticket, status=word, closed_at=None)


def _taken_for(here: Here, ticket: Ticket) -> str | None:
    """Return the active word that the database takes a ticket's for, under a collation that does so."""
    taken = here.plan.taken
    if ticket.status in taken:
        return taken[ticket.status]
    found: list[Sequence[Any]] = list(here.execute(here.statements.looks.taken_for(ticket)))
    if not found or here.statements.values.codecs["status"].decode(found[0][0]) != ticket.status:
        return None  # it was changed meanwhile
    word: str | None = found[0][1]
    # What stands for the words that are none says nothing of the next one.
    if ticket.status != NO_WORD and len(taken) < _MOST_WORDS:
        taken[ticket.status] = word
    return word


def _table(here: Here) -> str:
    return here.statements.mapping.table.fullname
