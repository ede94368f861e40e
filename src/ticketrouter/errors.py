"""Every error that ticketrouter raises.

Law of this file: one base class; each class says by `retryable` whether the host may simply run the same
unit of work again; no class knows more of the model than the values it carries; neither `str` nor `repr` of an
error tells a contact or a message id, because both end up in logs.
"""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING, ClassVar

from ticketrouter.wording import Code, Wording

if TYPE_CHECKING:
    from ticketrouter.model import Ticket, UniqueRule


class _Short(Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print an int of more than 4300 digits.
        return super().repr_int(x, level) if x.bit_length() <= 1000 else f"an int of {x.bit_length()} bits"  # noqa: PLR2004


_short = _Short()
_short.maxstring = _short.maxother = _short.maxlong = 60

_PERSONAL = frozenset({"contact_id", "group_id", "message_id", "source_id", "target_id", "message", "key"})
"""The fields whose values may be, or hold, a telephone number or what somebody wrote."""


def shown(value: object) -> str:
    """Return a value as a text shows it, at most some sixty characters long, of whatever class it is."""
    return _short.repr(value)


def _shown(field: str, value: object) -> str:
    return kind_of(value) if field in _PERSONAL else shown(value)


def kind_of(value: object) -> str:
    """Return what a value is, and not which: it is a person's, or a host's function may have made it of one's."""
    if value is None or isinstance(value, bool):
        return shown(value)
    length = f" of {len(value)} characters" if isinstance(value, str) else ""
    return f"this {type(value).__name__}{length}"


class TicketRouterError(Exception):
    """The base class of every error of this library."""

    retryable: bool = False
    """True where the same unit of work, run again from its start by the host, may well succeed."""

    def __repr__(self) -> str:
        # Not the arguments, which are whole tickets in some classes.
        return f"{type(self).__name__}({str(self)!r})"


class InvalidMessageError(TicketRouterError, ValueError):
    """A value was refused before anything was read or written.

    Args:
        field: the name of the refused field.
        value: what was given for it; the text shows it, unless the field is about a contact or a message.
        expected: what would have been accepted, as the end of "… must be".
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(field, value, expected)

    def __str__(self) -> str:
        field = Code(self.field, self.field)
        return Wording(field, f" must be {self.expected}, not {_shown(self.field, self.value)}")


class NoTicketError(TicketRouterError, LookupError):
    """The ticket of an ignored message was asked for: there is none."""


class TicketNotFoundError(TicketRouterError, LookupError):
    """The company has no such ticket; a ticket of another company gives this very error."""


class ActiveTicketExistsError(TicketRouterError):
    """The key already has an active ticket.

    Args:
        ticket: the ticket in the way.
    """

    code: ClassVar[str] = "ERR_OTHER_OPEN_TICKET"

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        super().__init__(ticket)

    def __str__(self) -> str:
        return f"ticket {self.ticket.id} is already active on connection {self.ticket.connection_id}"


class BlockedBySchemaError(TicketRouterError):
    """The host's unique rule leaves no room for the ticket; nothing was written.

    Args:
        ticket: the row in the way; None: it is not ours to see, as another company's is not, nor one without contact
            or connection.
        unique_rule: the rule that the host's schema enforces.
        merged: the columns by whose collation the database takes the ids of that row for those of the ticket, though
            they are others.
    """

    def __init__(self, ticket: Ticket | None, unique_rule: UniqueRule, merged: tuple[str, ...] = ()) -> None:
        self.ticket = ticket
        self.unique_rule = unique_rule
        self.merged = merged
        super().__init__(ticket, unique_rule, merged)

    def __str__(self) -> str:
        if self.merged:
            columns = ", ".join(self.merged)
            row = "another row" if self.ticket is None else f"ticket {self.ticket.id}"
            return (
                f"the collation of {columns} takes the id that {row} has there for the one that was asked for, which is "
                "another, in case, in accents, or by blanks at its end: bring such ids to one form before they come "
                "here, and the rows that have others, or give the column a binary collation without padding"
            )
        rule = f"the unique rule {self.unique_rule} of the tickets table leaves no room beside"
        right = "replace it by one unique rule on company, contact and connection over active tickets only"
        if self.ticket is None:
            return (
                f"{rule} a row that is not this company's to see (another company's, or one without contact or "
                f"connection): {right}"
            )
        return Wording(
            f"{rule} ticket {self.ticket.id} of status {self.ticket.status!r} on connection "
            f"{self.ticket.connection_id}: {right}, or name that status in ",
            Code("active", "the StatusScheme"),
            " if it is active",
        )


class ConflictError(TicketRouterError):
    """Somebody else was faster; nothing was written and the host's transaction is still usable.

    The router answers it with a fresh look. Out of the router it comes only from `accept` and its like, when
    the fresh look shows that the caller's wish has been overtaken; it then carries the ticket as it is now
    and is not retryable.

    Args:
        message: what was overtaken.
        ticket: the ticket as it is now, where a fresh look has been had.
    """

    def __init__(self, message: str, ticket: Ticket | None = None) -> None:
        self.ticket = ticket
        self.retryable: bool = ticket is None
        super().__init__(message)


class ContentionError(TicketRouterError):
    """Only a restart of the host's whole transaction can cure this: roll back, then run it again."""

    retryable = True


class RepositoryError(TicketRouterError):
    """The store answered with an error that is no lost race: its cause says which.

    Args:
        message: what was refused, without any personal data.
        retryable: True where the whole unit of work may be run again, as after a lost connection.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)
