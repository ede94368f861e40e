"""A run: items in, each message routed in its transaction, its line printed once that is committed.

Law of this file: it knows neither formats nor databases, only their items and a function that routes. At most
one batch is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, assert_never

from attrs import define, field, frozen

from ticketrouter.cli.items import Bad, Message, Place, Skipped, shown
from ticketrouter.cli.report import Render
from ticketrouter.cli.source import Located
from ticketrouter.cli.tally import Tally
from ticketrouter.errors import TicketRouterError
from ticketrouter.model import InboundMessage, Resolution

RouteAll: TypeAlias = Callable[[Sequence[InboundMessage]], list[Resolution]]
"""What routes messages in one transaction, or raises and has routed none."""


class BadLineError(Exception):
    """A bad line has come up in a strict run, which ends here."""


@frozen
class _Pending:
    place: Place
    message: InboundMessage


@define
class Run:
    """One run over a stream.

    Args:
        route_all: what routes messages in one transaction.
        render: what makes the line of a message.
        out: what prints the line of a message.
        complain: what prints a bad line.
        batch: how many messages share a transaction.
        strict: whether the first bad line ends the run.
        tell: what says a text of the library as whoever reads it knows it.
    """

    route_all: RouteAll
    render: Render
    out: Callable[[str], None]
    complain: Callable[[str], None]
    batch: int = 1
    strict: bool = False
    tell: Callable[[str], str] = str
    tally: Tally = field(factory=Tally)
    _pending: list[_Pending] = field(factory=list[_Pending])

    def feed(self, items: Iterable[Located]) -> None:
        """Route every message of a stream.

        Args:
            items: what the stream consists of.

        Raises:
            BadLineError: at the first bad line of a strict run; what stood before it has been routed.
        """
        for located in items:
            match located.item:
                case Message(message):
                    self._pending.append(_Pending(located.place, message))
                    if len(self._pending) >= self.batch:
                        self._flush()
                case Skipped() as skipped:
                    self.tally.skip(skipped)
                case Bad() as bad:
                    if self.strict:
                        self._flush()
                    self._bad(located.place, bad)
                case _:
                    assert_never(located.item)
        self._flush()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            resolutions = self.route_all([each.message for each in pending])
        except TicketRouterError as error:
            if len(pending) == 1:
                self._refused(pending[0], error)
            else:
                # One of them cannot be routed, and nothing of the batch was: the others are, one by one.
                for each in pending:
                    self._alone(each)
            return
        self._routed(pending, resolutions)

    def _alone(self, one: _Pending) -> None:
        try:
            resolutions = self.route_all([one.message])
        except TicketRouterError as error:
            self._refused(one, error)
        else:
            self._routed([one], resolutions)

    def _routed(self, pending: Sequence[_Pending], resolutions: Sequence[Resolution]) -> None:
        lines: list[str] = []
        for each, resolution in zip(pending, resolutions, strict=True):
            self.tally.outcomes[resolution.outcome] += 1
            lines.append(self.render(each.message, resolution))
        self.out("\n".join(lines))

    def _refused(self, one: _Pending, error: TicketRouterError) -> None:
        message_id, said = one.message.message_id, f"cannot be routed: {self.tell(str(error))}"
        known = Bad("message_id", message_id, f"{shown(message_id)} {said}")
        self._bad(one.place, Bad("the message", None, said) if message_id is None else known)

    def _bad(self, place: Place, bad: Bad) -> None:
        self.tally.bad_lines += 1
        self.complain(f"{place}: {bad}")
        if self.strict:
            raise BadLineError
