"""Wrong repositories over memory that do what a hurried author of one would do.

Law of this file: each differs from the right one by as little as makes it wrong, and says in its docstring what that
is. What they override are the steps that every repository has: look, get, write, record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import sleep

from attrs import evolve

from ticketrouter import ConflictError, Ticket
from ticketrouter.batch import Joint
from ticketrouter.checks import Id
from ticketrouter.choices import Scope
from ticketrouter.decisions import (
    Accept,
    Close,
    Create,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Snapshot,
    Transfer,
)
from ticketrouter.memory import InMemoryTicketRepository
from ticketrouter.model import UniqueRule, id_order
from ticketrouter.moves import Closing, MovePlan

# --- which ticket it is ----------------------------------------------------------------------------------------


class TellsOfAnotherCompanysTickets(InMemoryTicketRepository):
    """Who joins a ticket is told of what other companies have of a contact with that id."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(lookup)
        if found.joined is None:
            return found
        namesakes = [ticket for ticket in self.tickets if ticket.contact_id == lookup.contact_id]
        return evolve(found, active=[ticket for ticket in namesakes if self._is_active(ticket)])


class _ComparesContactsRoughly(InMemoryTicketRepository):
    """Contacts whose ids are alike are taken for one, as by a collation."""

    @staticmethod
    def alike(contact_id: Id) -> Id:
        raise NotImplementedError

    def _those(self, index: Mapping[tuple[Id, Id], Iterable[Id]], contact: tuple[Id, Id]) -> list[Ticket]:
        alike = [
            each for each in index if each[0] == contact[0] and self.alike(each[1]) == self.alike(contact[1])
        ]
        return [
            ticket for each in alike for ticket in super(_ComparesContactsRoughly, self)._those(index, each)
        ]


class ComparesContactsWithoutCase(_ComparesContactsRoughly):
    """A collation that ignores case compares the ids."""

    @staticmethod
    def alike(contact_id: Id) -> Id:
        return contact_id.casefold() if isinstance(contact_id, str) else contact_id


class ComparesContactsWithoutTrailingSpace(_ComparesContactsRoughly):
    """A collation that pads compares the ids."""

    @staticmethod
    def alike(contact_id: Id) -> Id:
        return contact_id.rstrip(" ") if isinstance(contact_id, str) else contact_id


class CutsLongContacts(_ComparesContactsRoughly):
    """An index over the beginning of the ids compares them."""

    @staticmethod
    def alike(contact_id: Id) -> Id:
        return contact_id[:191] if isinstance(contact_id, str) else contact_id


class KeepsGroupsApart(InMemoryTicketRepository):
    """Whether it is a group becomes a part of the key."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, join=None))
        return evolve(found, active=[ticket for ticket in found.active if not ticket.is_group])


class TakesZeroForNothing(InMemoryTicketRepository):
    """An id is looked at as true or false."""

    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, connection_id=lookup.connection_id or None))


class TakesAMessageIdOfZeroForNone(InMemoryTicketRepository):
    """A message id is looked at as true or false."""

    def load(self, lookup: Lookup) -> Snapshot:
        join = lookup.join
        if join is not None and not lookup.message_id:
            join = evolve(join, message_ref=None)
        return super().load(evolve(lookup, message_id=lookup.message_id or None, join=join))

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        return super()._recorded(ref if ref and ref.message_id else None, write)


class TakesAgentZeroForNobody(InMemoryTicketRepository):
    """An agent's id is looked at as true or false."""

    def _put(self, ticket: Ticket) -> Ticket:
        return super()._put(evolve(ticket, user_id=ticket.user_id or None))


class ComparesTicketIdsAsTexts(InMemoryTicketRepository):
    """Of equals the highest id wins as texts are compared, so that 9 comes after 10."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        last = super()._latest_closed(lookup)
        equals = [
            ticket
            for ticket in self._those(self._closed_of, (lookup.company_id, lookup.contact_id))
            if last is not None
            and ticket.closed_at == last.closed_at
            and ticket.connection_id == last.connection_id
        ]
        return max(equals, key=lambda ticket: str(ticket.id), default=None)


class ReopensWhateverIsNotActive(InMemoryTicketRepository):
    """A word that the scheme does not know is closed, so its ticket is found as the one that was closed last."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        return max(self._closed(lookup), key=lambda ticket: (ticket.closed_at, ticket.id), default=None)


class LetsAnUnknownWordHideTheOthers(InMemoryTicketRepository):
    """It looks at the ticket that was closed last, and gives none where the word of that is unknown."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        last = super()._latest_closed(lookup)
        return None if self._passed_over(lookup, last) is not None else last


class ReadsAnUnknownWordAsClosed(InMemoryTicketRepository):
    """A word that it does not know is read as the word that closing gives, so that the ticket may be reopened."""

    def _put(self, ticket: Ticket) -> Ticket:
        is_known = ticket.status in self.statuses.known
        return super()._put(ticket if is_known else evolve(ticket, status=self.statuses.closed))


class TakesTheFirstOfClosedOnes(InMemoryTicketRepository):
    """Of tickets that were closed at once the lowest id wins."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        last = super()._latest_closed(lookup)
        equals = [
            ticket
            for ticket in self._those(self._closed_of, (lookup.company_id, lookup.contact_id))
            if last is not None
            and ticket.closed_at == last.closed_at
            and ticket.connection_id == last.connection_id
        ]
        return min(equals, key=lambda ticket: id_order(ticket.id), default=None)


# --- which message it is ---------------------------------------------------------------------------------------


class _ComparesMessagesRoughly(InMemoryTicketRepository):
    """Messages whose ids are alike are taken for one."""

    @staticmethod
    def alike(message_id: Id) -> Id:
        raise NotImplementedError

    def _rough(self, ref: MessageRef | None) -> MessageRef | None:
        return None if ref is None else evolve(ref, message_id=self.alike(ref.message_id))

    def load(self, lookup: Lookup) -> Snapshot:
        message_id, join = lookup.message_id, lookup.join
        return super().load(
            evolve(
                lookup,
                message_id=None if message_id is None else self.alike(message_id),
                join=None if join is None else evolve(join, message_ref=self._rough(join.message_ref)),
            )
        )

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        return super()._recorded(self._rough(ref), write)

    def _joined(self, joint: Joint) -> Ticket | None:
        refs = tuple(evolve(ref, message_id=self.alike(ref.message_id)) for ref in joint.message_refs)
        return super()._joined(evolve(joint, message_refs=refs))


class ComparesMessagesWithoutCase(_ComparesMessagesRoughly):
    """A collation that ignores case compares the ids."""

    @staticmethod
    def alike(message_id: Id) -> Id:
        return message_id.casefold() if isinstance(message_id, str) else message_id


class ComparesMessagesAsTexts(_ComparesMessagesRoughly):
    """The column is a text, so that 1 and "1" are one."""

    @staticmethod
    def alike(message_id: Id) -> Id:
        return str(message_id)


class RecordsTheFirstOfSeveralMessages(InMemoryTicketRepository):
    """Of the messages of a batch that join one ticket only the first id is recorded."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        return super().commit_many([evolve(joint, message_refs=joint.message_refs[:1]) for joint in joints])


class RecordsTheIdOnTheTicketsConnection(InMemoryTicketRepository):
    """The message id is recorded with the ticket's own connection, whichever it came on."""

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        ticket = super()._recorded(ref, write)
        if ref is not None and ticket.connection_id != ref.key.connection_id:
            there = (ref.key.company_id, ticket.connection_id, ref.message_id)
            here = (ref.key.company_id, ref.key.connection_id, ref.message_id)
            self._routed[there] = self._routed.pop(here)
        return ticket


class RecordsTheIdWhenItLooks(InMemoryTicketRepository):
    """Whoever looks for a message id has it from then on, whatever is decided."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(evolve(lookup, join=None))
        place = (lookup.company_id, lookup.connection_id, lookup.message_id)
        seen = vars(self).setdefault("_seen", set())
        if lookup.message_id is not None and found.routed is None and found.active and place in seen:
            return evolve(found, routed=found.active[0])
        seen.add(place)
        return found


class ForgetsByTheWallClock(InMemoryTicketRepository):
    """Times are kept without their zone, and what is asked for is compared as its own clock shows it."""

    def forget_messages(self, before: datetime) -> int:
        return super().forget_messages(before.replace(tzinfo=UTC))


class ForgetsTheTicketsToo(InMemoryTicketRepository):
    """With old message ids all records of their tickets are dropped."""

    def forget_messages(self, before: datetime) -> int:
        old = {to[0] for to in self._routed.values() if to[1] < before}
        forgotten = super().forget_messages(before)
        self._routed = {place: to for place, to in self._routed.items() if to[0] not in old}
        return forgotten


# --- what it writes --------------------------------------------------------------------------------------------


class JoinsAfterAMerge(InMemoryTicketRepository):
    """A message joins the ticket that it has seen, though that is another contact's by now."""

    def _reuse(self, decision: Reuse) -> Ticket:
        now = self._tickets.get(decision.ticket.id, decision.ticket)
        return super()._reuse(evolve(decision, ticket=evolve(decision.ticket, contact_id=now.contact_id)))


class TransfersWhatHasMoved(InMemoryTicketRepository):
    """A ticket is transferred by its id, wherever it is by now."""

    def _transfer(self, decision: Transfer) -> Ticket:
        now = self._tickets.get(decision.ticket.id, decision.ticket)
        return super()._transfer(evolve(decision, ticket=evolve(now, company_id=decision.ticket.company_id)))


class ClosesWhatItHasSeen(InMemoryTicketRepository):
    """Closing writes the whole row as it was seen, and with it an old count and an old agent."""

    def _close(self, decision: Close) -> Ticket:
        now = super()._close(decision)
        seen = decision.ticket
        return self._put(evolve(now, unread_messages=seen.unread_messages, user_id=seen.user_id))


class AcceptsWhatItHasSeen(InMemoryTicketRepository):
    """Accepting writes the whole row as it was seen, and with it an old count."""

    def _accept(self, decision: Accept) -> Ticket:
        now = super()._accept(decision)
        return self._put(evolve(now, unread_messages=decision.ticket.unread_messages))


class TransfersWhatItHasSeen(InMemoryTicketRepository):
    """Transferring writes the whole row as it was seen, and with it an old agent."""

    def _transfer(self, decision: Transfer) -> Ticket:
        now = super()._transfer(decision)
        return self._put(evolve(now, user_id=decision.ticket.user_id, status=decision.ticket.status))


class ReopensWhatItHasSeen(InMemoryTicketRepository):
    """Reopening counts from the count that was seen, though others were counted since."""

    def _reopen(self, decision: ReopenTicket) -> Ticket:
        now = super()._reopen(decision)
        return self._put(evolve(now, unread_messages=decision.unread.after(decision.ticket.unread_messages)))


class _Counts(InMemoryTicketRepository):
    """The column of the count is narrow."""

    @staticmethod
    def kept(count: int) -> int:
        raise NotImplementedError

    def load(self, lookup: Lookup) -> Snapshot:
        return super().load(evolve(lookup, join=None))

    def _put(self, ticket: Ticket) -> Ticket:
        return super()._put(evolve(ticket, unread_messages=self.kept(ticket.unread_messages)))


class WrapsTheCountAtAByte(_Counts):
    """After 255 comes 0."""

    @staticmethod
    def kept(count: int) -> int:
        return count % 2**8


class WrapsTheCountAtTwoBytes(_Counts):
    """After 65,535 comes 0."""

    @staticmethod
    def kept(count: int) -> int:
        return count % 2**16


class ClipsTheCount(_Counts):
    """After 32,767 comes 32,767."""

    @staticmethod
    def kept(count: int) -> int:
        return min(count, 2**15 - 1)


class CountsInFloats(_Counts):
    """After 16,777,216 comes 16,777,216."""

    @staticmethod
    def kept(count: int) -> int:
        return count if count <= 2**24 else count - count % 2


class KeepsTheFirstTimeOfABatch(InMemoryTicketRepository):
    """A batch leaves its tickets as of its first message."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        return super().commit_many([evolve(joint, at=joint.first.at) for joint in joints])


class TellsOfABatchWhatItsLastMessageLeft(InMemoryTicketRepository):
    """Who writes for many answers with the row as it stands at the end."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        written = super().commit_many(joints)
        return [None if ticket is None else self._tickets[ticket.id] for ticket in written]


class LosesABatchWithOneOfItsMessages(InMemoryTicketRepository):
    """Where one of the tickets of a batch has changed, none of the others is written, and nobody is told."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        before = dict(self._tickets), dict(self._routed), dict(self._active_of), dict(self._closed_of)
        written = super().commit_many(joints)
        if None in written:
            self._tickets, self._routed, self._active_of, self._closed_of = before
        return written


class AnswersABatchInTheOrderOfTheKeys(InMemoryTicketRepository):
    """Who looks for many answers in the order in which it has asked the database."""

    def load_many(self, lookups: Sequence[Lookup]) -> list[Snapshot] | None:
        return super().load_many(sorted(lookups, key=lambda lookup: id_order(lookup.contact_id)))


class LeavesTheIdsOfAMovedConnection(InMemoryTicketRepository):
    """A connection that takes over does not know the messages of the other one."""

    def commit_move(self, plan: MovePlan) -> None:
        before = dict(self._routed)
        super().commit_move(plan)
        self._routed = before


class NeverGoesBackInTime(InMemoryTicketRepository):
    """The time of the last change is the later of two, whatever the clock says."""

    def _put(self, ticket: Ticket) -> Ticket:
        before = self._tickets.get(ticket.id, ticket)
        return super()._put(evolve(ticket, updated_at=max(ticket.updated_at, before.updated_at)))


class KeepsTimesInFourBytes(InMemoryTicketRepository):
    """A time is kept as seconds and microseconds of 32 bits."""

    def _put(self, ticket: Ticket) -> Ticket:
        last = datetime.fromtimestamp(2**31 - 1, ticket.updated_at.tzinfo)
        return super()._put(evolve(ticket, updated_at=min(ticket.updated_at, last)))


class KeepsTimesInMilliseconds(InMemoryTicketRepository):
    """A time is cut to its milliseconds."""

    def _put(self, ticket: Ticket) -> Ticket:
        at = ticket.updated_at
        return super()._put(evolve(ticket, updated_at=at.replace(microsecond=at.microsecond // 1000 * 1000)))


class FindsAnotherCompanysOccupant(InMemoryTicketRepository):
    """The row in the way is looked for by contact and connection alone."""

    def load(self, lookup: Lookup) -> Snapshot:
        found = super().load(lookup)
        rows = [
            ticket
            for ticket in self.tickets
            if (ticket.contact_id, ticket.connection_id) == (lookup.contact_id, lookup.connection_id)
        ]
        return evolve(found, occupant=next(iter(rows), None))


class KeepsTheFirstTimeOfClosing(InMemoryTicketRepository):
    """A ticket that is closed again keeps the time at which it was closed first."""

    def _close(self, decision: Close) -> Ticket:
        first: dict[Id, datetime] = vars(self).setdefault("_first", {})
        ticket = super()._close(decision)
        at = first.setdefault(ticket.id, decision.at)
        return self._put(evolve(ticket, closed_at=at))


class TransfersToUnusedKeysOnly(InMemoryTicketRepository):
    """A transfer is refused where the contact has a closed ticket on the other connection."""

    def _transfer(self, decision: Transfer) -> Ticket:
        there = evolve(decision.ticket.key, connection_id=decision.connection_id)
        if any(ticket.key == there for ticket in self.tickets):
            raise ConflictError("the key was taken meanwhile")
        return super()._transfer(decision)


class TakesATextForANumber(InMemoryTicketRepository):
    """A ticket's id is converted to the type of the column."""

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        with suppress(ValueError, TypeError):
            return super().get(company_id, int(ticket_id))
        return None


# --- ten more, written when the kit caught those above -----------------------------------------------------------


class GetsFromACache(InMemoryTicketRepository):
    """A ticket that was got once is got from there again."""

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        cache: dict[tuple[Id, Id], Ticket | None] = vars(self).setdefault("_cache", {})
        if (company_id, ticket_id) not in cache:
            cache[company_id, ticket_id] = super().get(company_id, ticket_id)
        return cache[company_id, ticket_id]


class TakesASetCountOfZeroForNone(InMemoryTicketRepository):
    """A count that is set is looked at as true or false where a ticket is reopened."""

    def _reopen(self, decision: ReopenTicket) -> Ticket:
        unread = evolve(decision.unread, set_to=decision.unread.set_to or None)
        return super()._reopen(evolve(decision, unread=unread))


class RecordsABatchOnOneConnection(InMemoryTicketRepository):
    """The messages that join a ticket at once are recorded with its connection, whichever they came on."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        return super().commit_many(
            [
                evolve(joint, message_refs=tuple(evolve(ref, key=joint.key) for ref in joint.message_refs))
                for joint in joints
            ]
        )


class CountsEveryEcho(InMemoryTicketRepository):
    """Whatever joins a ticket is one more unread message."""

    def _reuse(self, decision: Reuse) -> Ticket:
        return super()._reuse(evolve(decision, unread=evolve(decision.unread, add=1)))


class FindsClosedOnesOfAnybody(InMemoryTicketRepository):
    """Under Scope.CONTACT the last closed ticket is looked for in the whole company."""

    def _latest_closed(self, lookup: Lookup) -> Ticket | None:
        if lookup.scope is Scope.CONNECTION:
            return super()._latest_closed(lookup)
        mine = [ticket for ticket in self.tickets if ticket.company_id == lookup.company_id]
        closed = [ticket for ticket in mine if not self._is_active(ticket)]
        return max(closed, key=lambda ticket: ticket.closed_at or ticket.updated_at, default=None)


class KnowsAMessageWhereItsTicketIs(InMemoryTicketRepository):
    """A message is looked for on the connection on which its ticket is by now."""

    def _routed_to(self, lookup: Lookup) -> Ticket | None:
        ticket = super()._routed_to(lookup)
        return ticket if ticket is not None and ticket.connection_id == lookup.connection_id else None


class WritesAHundredOfABatch(InMemoryTicketRepository):
    """A batch is cut into pieces, and the first of them is written."""

    def commit_many(self, joints: Sequence[Joint]) -> list[Ticket | None]:
        written = super().commit_many(joints[:100])
        placeholder = next((ticket for ticket in written if ticket is not None), None)
        return [*written, *[placeholder for _ in joints[100:]]]


class LooksAndWritesWithoutALock(InMemoryTicketRepository):
    """Between the look at a key and the write another thread may come."""

    def _create(self, decision: Create) -> Ticket:
        self._refuse_taken(decision.key)
        self._lock.release()
        sleep(0.002)
        self._lock.acquire()
        refuse, self._refuse_taken = self._refuse_taken, lambda *_: None  # type: ignore[method-assign]
        try:
            return super()._create(decision)
        finally:
            self._refuse_taken = refuse  # type: ignore[method-assign]


class BumpsWhatItLooksAt(InMemoryTicketRepository):
    """Who looks at a ticket leaves a trace in the time of its last change."""

    def get(self, company_id: Id, ticket_id: Id, *, current: bool = False) -> Ticket | None:
        ticket = super().get(company_id, ticket_id)
        if ticket is not None:
            self._put(evolve(ticket, updated_at=ticket.updated_at + timedelta(microseconds=1)))
        return ticket


class RemembersTheLastMessageOfATicket(InMemoryTicketRepository):
    """The message id is a column of the ticket, which has room for one."""

    def _recorded(self, ref: MessageRef | None, write: Callable[[], Ticket]) -> Ticket:
        ticket = super()._recorded(ref, write)
        self._routed = {
            place: to
            for place, to in self._routed.items()
            if ref is None or to[0] != ticket.id or place[2] == ref.message_id
        }
        return ticket


class CountsNothingOfWhatItCloses(InMemoryTicketRepository):
    """A ticket that a move keeps has its own unread messages only, and what was closed for it is forgotten."""

    def _take_up(self, ticket_id: Id, count: int) -> None:
        pass


class CountsWhatWasPlanned(InMemoryTicketRepository):
    """A ticket that a move keeps counts what the others had at the survey, and whoever has joined since is forgotten."""

    def commit_move(self, plan: MovePlan) -> None:
        now = {ticket.id: ticket for ticket in self.tickets}
        closes = [
            Closing(now[each.ticket.id], each.kept and now.get(each.kept.id, each.kept))
            for each in plan.closes
            if each.ticket.id in now
        ]
        super().commit_move(evolve(plan, closes=tuple(closes)))
        for each, seen in zip(closes, plan.closes, strict=True):
            if each.kept is not None:
                super()._take_up(each.kept.id, seen.ticket.unread_messages - each.ticket.unread_messages)


WRONG: dict[type[InMemoryTicketRepository], str] = {
    TellsOfAnotherCompanysTickets: "R1",
    ComparesContactsWithoutCase: "R1",
    ComparesContactsWithoutTrailingSpace: "R1",
    CutsLongContacts: "R1",
    KeepsGroupsApart: "R1",
    TakesZeroForNothing: "R1",
    TakesAMessageIdOfZeroForNone: "R8",
    TakesAgentZeroForNobody: "R1",
    ComparesTicketIdsAsTexts: "R1",
    ReopensWhateverIsNotActive: "R1",
    LetsAnUnknownWordHideTheOthers: "R1",
    ReadsAnUnknownWordAsClosed: "R1",
    TakesTheFirstOfClosedOnes: "R1",
    FindsAnotherCompanysOccupant: "R8",
    TakesATextForANumber: "R9",
    ComparesMessagesWithoutCase: "R8",
    ComparesMessagesAsTexts: "R8",
    RecordsTheFirstOfSeveralMessages: "R8",
    RecordsTheIdOnTheTicketsConnection: "R8",
    RecordsTheIdWhenItLooks: "R8",
    ForgetsByTheWallClock: "R8",
    ForgetsTheTicketsToo: "R8",
    LeavesTheIdsOfAMovedConnection: "R8",
    JoinsAfterAMerge: "R3",
    TransfersWhatHasMoved: "R3",
    TransfersToUnusedKeysOnly: "R2",
    ClosesWhatItHasSeen: "R10",
    AcceptsWhatItHasSeen: "R10",
    TransfersWhatItHasSeen: "R10",
    ReopensWhatItHasSeen: "R10",
    KeepsTheFirstTimeOfClosing: "R4",
    WrapsTheCountAtAByte: "R3",
    WrapsTheCountAtTwoBytes: "R3",
    ClipsTheCount: "R3",
    CountsInFloats: "R3",
    NeverGoesBackInTime: "R3",
    KeepsTimesInFourBytes: "R3",
    KeepsTimesInMilliseconds: "R3",
    KeepsTheFirstTimeOfABatch: "R3",
    TellsOfABatchWhatItsLastMessageLeft: "R3",
    LosesABatchWithOneOfItsMessages: "R3",
    AnswersABatchInTheOrderOfTheKeys: "R3",
    GetsFromACache: "R10",
    TakesASetCountOfZeroForNone: "R3",
    RecordsABatchOnOneConnection: "R8",
    CountsEveryEcho: "R3",
    FindsClosedOnesOfAnybody: "R1",
    KnowsAMessageWhereItsTicketIs: "R8",
    WritesAHundredOfABatch: "R3",
    LooksAndWritesWithoutALock: "R2",
    BumpsWhatItLooksAt: "R3",
    RemembersTheLastMessageOfATicket: "R8",
    CountsNothingOfWhatItCloses: "R3",
    CountsWhatWasPlanned: "R3",
}
"""Each with the clause that it breaks."""

UNDER: dict[type[InMemoryTicketRepository], UniqueRule] = {
    FindsAnotherCompanysOccupant: UniqueRule.ONE_PER_CONNECTION,
}
"""The unique rule under which one is wrong, where that is not the right one."""
