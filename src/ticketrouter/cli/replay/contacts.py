"""The tickets of some contacts, for a picture: those on which the policies differ first.

Law of this file: which contacts these are is known at the end only, so that what happened waits in a temporary
file, and what is held is a few numbers for each contact of the log. What is then shown has an upper bound. That file
is nobody else's, and is written in Python's own form of plain values, in blocks: JSON would take as long as routing.
"""

from __future__ import annotations

import marshal
from collections import Counter
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO, Any, TypeAlias

from attrs import define, field, frozen

from ticketrouter.checks import Id
from ticketrouter.cli.report import plain_id
from ticketrouter.model import Outcome
from ticketrouter.replay import Step

MOST_CONTACTS = 40
MOST_MESSAGES = 200
"""How many messages of a contact are shown, the first ones."""

_OPENS = frozenset({Outcome.CREATED.value, Outcome.REOPENED.value})
_BLOCK = 1_000
"""How many records are written at once."""
_Contact: TypeAlias = tuple[Id, Id]
_Record: TypeAlias = tuple[Any, ...]
"""The policy, the ticket and the time of a closing; or the fields of a Mark."""


@define
class Span:
    """A time during which a ticket was active.

    Args:
        policy: the number of the policy.
        ticket: the id of the ticket.
        connection: its connection.
        begin: in milliseconds since 1970.
        end: the same; None: it was still active at the end of the log.
    """

    policy: int
    ticket: int | str
    connection: int | str
    begin: int
    end: int | None = None


@frozen
class Mark:
    """A message, and what each policy made of it.

    Args:
        line: where in the log it stands.
        at: in milliseconds since 1970.
        message: its id.
        connection: the connection that it was sent to.
        kind: who speaks in it.
        answers: outcome, reason, ticket and connection of the ticket, for each policy.
    """

    line: int
    at: int
    message: int | str | None
    connection: int | str
    kind: str
    answers: list[tuple[str, str, int | str | None, int | str | None]]


@define
class Contact:
    """A contact as it is shown.

    Args:
        company: the tenant.
        contact: its id.
        differences: on how many of its messages the policies differ.
        messages: how many messages it has in the log.
        spans: when its tickets were active.
        marks: its first messages.
    """

    company: int | str
    contact: int | str
    differences: int
    messages: int
    spans: list[Span] = field(factory=list[Span])
    marks: list[Mark] = field(factory=list[Mark])


class Contacts:
    """What happened to the tickets of every contact, on a temporary file; close it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - it lives as long as this
        self._block: list[tuple[int, bytes]] = []
        self._blocks = 0
        self._numbers: dict[_Contact, int] = {}
        self._messages: Counter[int] = Counter()
        self._differences: Counter[int] = Counter()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def watch(self, line: int, step: Step) -> None:
        """Take in one step of the replay."""
        for lane, closed in enumerate(step.closed):
            for ticket in closed:
                number = self._number((ticket.company_id, ticket.contact_id))
                at = (ticket.closed_at or step.at).timestamp()
                self._add(number, (lane, plain_id(ticket.id), round(at * 1000)))
        key, message = step.message.key, step.message
        number = self._number((key.company_id, key.contact_id))
        self._messages[number] += 1
        self._differences[number] += step.differs
        answers = [
            (
                each.outcome._value_,
                each.reason._value_,
                plain_id(each.ticket_id),
                plain_id(each.connection_id),
            )
            for each in step.answers
        ]
        at = round(step.at.timestamp() * 1000)
        message_id, connection_id = plain_id(message.message_id), plain_id(key.connection_id)
        self._add(number, (line, at, message_id, connection_id, message.kind._value_, answers))
        if len(self._block) >= _BLOCK:
            self._write()

    def chosen(self) -> list[Contact]:
        """Return the contacts to show: most differences first, then most messages, then the first in the log."""
        order = sorted(
            self._numbers.values(),
            key=lambda number: (-self._differences[number], -self._messages[number], number),
        )
        keys = list(self._numbers)
        shown = {number: self._contact(number, keys[number]) for number in order[:MOST_CONTACTS]}
        open_: dict[tuple[int, int, int | str], Span] = {}
        for number, record in self._records():
            if number in shown:
                _tell(shown[number], number, marshal.loads(record), open_)  # noqa: S302 - we have written it
        return list(shown.values())

    def _contact(self, number: int, key: _Contact) -> Contact:
        company, contact = plain_id(key[0]), plain_id(key[1])
        assert company is not None  # noqa: S101 - a contact has both
        assert contact is not None  # noqa: S101
        return Contact(company, contact, self._differences[number], self._messages[number])

    def _number(self, contact: _Contact) -> int:
        return self._numbers.setdefault(contact, len(self._numbers))

    def _add(self, number: int, record: _Record) -> None:
        # Sealed, because most records are of contacts that are not shown: their bytes are passed over.
        self._block.append((number, marshal.dumps(record)))

    def _write(self) -> None:
        numbers, records = [each[0] for each in self._block], [each[1] for each in self._block]
        marshal.dump((numbers, records), self._file)
        self._block = []
        self._blocks += 1

    def _records(self) -> Iterator[tuple[int, bytes]]:
        self._write()
        self._file.seek(0)
        for _ in range(self._blocks):
            yield from zip(*marshal.load(self._file), strict=True)  # noqa: S302 - we have written it


def _tell(
    contact: Contact, number: int, record: _Record, open_: dict[tuple[int, int, int | str], Span]
) -> None:
    match record:
        case (lane, ticket, at):
            if (span := open_.pop((number, lane, ticket), None)) is not None:
                span.end = at
        case (line, at, message, connection, kind, answers):
            if len(contact.marks) == MOST_MESSAGES:
                return
            contact.marks.append(Mark(line, at, message, connection, kind, answers))
            for lane, (outcome, _, ticket, where) in enumerate(answers):
                if outcome in _OPENS:
                    span = open_[number, lane, ticket] = Span(lane, ticket, where, at)
                    contact.spans.append(span)
        case _:
            raise AssertionError
