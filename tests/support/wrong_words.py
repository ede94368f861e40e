"""Wrong repositories over memory that do not know what the further words of a scheme mean.

Law of this file: as in `tests.support.wrong_in_memory`; beside each stand the clause that it breaks, and the tests of
the kit that find it out.
"""

from __future__ import annotations

from attrs import evolve

from ticketrouter import Ticket
from ticketrouter.batch import Joint
from ticketrouter.decisions import Join, Lookup, ReopenTicket, Reuse, Snapshot
from ticketrouter.memory import InMemoryTicketRepository


class LetsAFinalTicketHideTheOthers(InMemoryTicketRepository):
    """It gives the ticket that was closed last, and none where that is a final one."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        closed = max(self._closed(lookup), key=lambda ticket: (ticket.closed_at, ticket.id), default=None)
        return super()._latest_closed(lookup) if closed and closed.status not in self.statuses.final else None


class ReadsAFinalWordAsClosed(InMemoryTicketRepository):
    """Whatever is not active is read as the word that closing gives, so that the ticket may be reopened."""

    def _put(self, ticket: Ticket) -> Ticket:
        is_final = ticket.status in self.statuses.final
        return super()._put(evolve(ticket, status=self.statuses.closed) if is_final else ticket)


class ReopensWhatHasBecomeFinal(InMemoryTicketRepository):
    """It reopens what is closed, whatever it has become since it was seen."""

    def _reopen(self, decision: ReopenTicket) -> Ticket:
        now = self._tickets[decision.ticket.id]
        return super()._reopen(evolve(decision, ticket=now))


class LeavesFinalTicketsToNobody(InMemoryTicketRepository):
    """Not even who names a final ticket can reopen it."""

    def _reopen(self, decision: ReopenTicket) -> Ticket:
        seen = evolve(decision.ticket, status=self.statuses.closed)
        return super()._reopen(evolve(decision, ticket=seen))


class ForgetsToWake(InMemoryTicketRepository):
    """A message that joins leaves the status as it is."""

    def _reuse(self, decision: Reuse) -> Ticket:
        return super()._reuse(evolve(decision, wakes=False))

    def _joined(self, joint: Joint) -> Ticket | None:
        return super()._joined(evolve(joint, wakes=False))


class WakesForAnEcho(InMemoryTicketRepository):
    """Whatever joins wakes."""

    def load(self, lookup: Lookup) -> Snapshot:
        join = lookup.join
        return super().load(evolve(lookup, join=None if join is None else evolve(join, wakes=True)))

    def _reuse(self, decision: Reuse) -> Ticket:
        return super()._reuse(evolve(decision, wakes=True))


class WakesWhatEchoesJoinAtOnce(InMemoryTicketRepository):
    """What joins while it is looked for wakes, and nobody tells that."""

    def _join(self, ticket: Ticket, join: Join) -> Ticket:
        return self._put(evolve(super()._join(ticket, join), status=self.statuses.woken(ticket.status)))


class WakesWithoutADemand(InMemoryTicketRepository):
    """Who was slower wakes what is awake by now, and tells the change a second time."""

    def _reuse(self, decision: Reuse) -> Ticket:
        now = self._tickets[decision.ticket.id]
        return super()._reuse(evolve(decision, ticket=evolve(decision.ticket, status=now.status)))

    def _joined(self, joint: Joint) -> Ticket | None:
        if not isinstance(joint.first, Reuse):
            return super()._joined(joint)
        now = self._tickets[joint.first.ticket.id]
        seen = evolve(joint.first.ticket, status=now.status)
        return super()._joined(evolve(joint, first=evolve(joint.first, ticket=seen)))


class WakesOnTheWay(InMemoryTicketRepository):
    """A message that would wake its ticket joins it while it is looked for, and nobody tells the change."""

    def load(self, lookup: Lookup) -> Snapshot:
        join = lookup.join
        if join is None or not join.wakes:
            return super().load(lookup)
        found = super().load(evolve(lookup, join=evolve(join, wakes=False)))
        if found.joined is None:
            return found
        woken = evolve(found.joined, status=self.statuses.woken(found.joined.status))
        return evolve(found, joined=self._put(woken))


class JoinsWhatItShouldWake(InMemoryTicketRepository):
    """A message joins a sleeping ticket while it is looked for, and leaves it asleep."""

    def load(self, lookup: Lookup) -> Snapshot:
        join = lookup.join
        return super().load(evolve(lookup, join=None if join is None else evolve(join, wakes=False)))


class WakesWithTheFirstOfABatch(InMemoryTicketRepository):
    """Of several messages the first wakes the ticket, or none does."""

    def _joined(self, joint: Joint) -> Ticket | None:
        return super()._joined(evolve(joint, wakes=False))


_HIDES = "test_r1_a_final_ticket_hides_no_other"
_BECOME = "test_r4_what_has_become_final_is_not_reopened"
_BECOMES = "test_r4_what_becomes_final_meanwhile_is_left_to_the_desk"
_DESK = "test_r4_the_desk_may_reopen_a_final_ticket"
_ONCE = "test_r3_a_message_wakes_its_ticket_once"
_ECHO = "test_r3_an_echo_leaves_its_ticket_asleep"
_FIRST = "test_r3_the_first_that_may_wakes_its_ticket"
_ELSEWHERE = "test_r3_a_ticket_on_another_connection_wakes"
_EACH = "test_r3_each_ticket_is_woken_by_its_own_message"
_SEEN = "test_r3_a_waking_demands_the_status_as_it_was_seen"
_FALLS = "test_r3_what_falls_asleep_meanwhile_is_woken"
_WOKEN = "test_r3_what_is_woken_meanwhile_is_joined"
_SECOND = "test_r3_who_comes_second_joins_what_the_first_wakes"
_AT_ONCE = "test_r1a_no_message_joins_at_once_what_it_would_wake"
_MANY = "test_r1a_of_many_messages_none_joins_what_it_would_wake"

BY_CHANCE = {"test_r3_of_many_messages_at_once_one_tells_the_change"}
"""What a wrong one passes where its threads are lucky."""

WRONG_WORDS: dict[type[InMemoryTicketRepository], tuple[str, set[str]]] = {
    LetsAFinalTicketHideTheOthers: ("R1", {_HIDES}),
    ReadsAFinalWordAsClosed: ("R1", {_HIDES, _BECOME, _BECOMES}),
    ReopensWhatHasBecomeFinal: ("R4", {_BECOME, _BECOMES}),
    LeavesFinalTicketsToNobody: ("R4", {_DESK}),
    ForgetsToWake: ("R3", {_ONCE, _ECHO, _FIRST, _ELSEWHERE, _EACH, _SEEN, _FALLS, _WOKEN, _SECOND}),
    WakesForAnEcho: ("R3", {_ECHO, _FIRST, _SEEN}),
    WakesWhatEchoesJoinAtOnce: ("R1a", {_ECHO, _FIRST, _AT_ONCE, _MANY}),
    WakesWithoutADemand: ("R3", {_SEEN, _FALLS, _WOKEN}),
    WakesOnTheWay: ("R1a", {_ONCE, _ECHO, _FIRST, _EACH, _SECOND, _AT_ONCE, _MANY}),
    JoinsWhatItShouldWake: ("R1a", {_ONCE, _ECHO, _FIRST, _EACH, _WOKEN, _SECOND, _AT_ONCE, _MANY}),
    WakesWithTheFirstOfABatch: ("R3", {_FIRST}),
}
"""Each with the clause that it breaks, and the tests that fail."""
