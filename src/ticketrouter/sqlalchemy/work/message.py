"""One message: the look at its ticket, and the write of what was decided.

Law of this file: before a write others are kept from its contact, by a rule or by a claim (where plain reads may be old,
`old_reads` says when); a write demands that its ticket still is as it
was decided upon, and says why where it is not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any, NoReturn, assert_never

from attrs import evolve
from sqlalchemy.exc import IntegrityError

from ticketrouter.checks import Id
from ticketrouter.decisions import (
    Accept,
    Alteration,
    Close,
    Create,
    Join,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Snapshot,
    Transfer,
    Write,
)
from ticketrouter.errors import ConflictError, InvalidMessageError, kind_of
from ticketrouter.model import InboundMessage, StatusScheme, Ticket, TicketKey, UniqueRule
from ticketrouter.sqlalchemy.columns import MappingError, full_name
from ticketrouter.sqlalchemy.further import check_fits
from ticketrouter.sqlalchemy.joins import SwallowedError
from ticketrouter.sqlalchemy.parts import Sent
from ticketrouter.sqlalchemy.refusals import ROUNDS, LeftOutError
from ticketrouter.sqlalchemy.transactions import is_autocommit
from ticketrouter.sqlalchemy.whole import all_or_nothing, give_up, giving_up
from ticketrouter.sqlalchemy.work import old_reads
from ticketrouter.sqlalchemy.work.claiming import check_guarded, claim, contacts_of, is_guarded, needs_claim
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.sqlalchemy.work.known_words import of_known_words
from ticketrouter.sqlalchemy.work.message_ids import forget, remembers, to_record
from ticketrouter.sqlalchemy.work.rivals import is_taken, restart_in_one_snapshot, undoable
from ticketrouter.sqlalchemy.writes import FILLED_BY_HOSTS, JOINED, REOPENED, WOKEN
from ticketrouter.wording import Code, passing

# --- the look ------------------------------------------------------------------------------------------------


def load(here: Here, lookup: Lookup) -> Snapshot:
    """Find what must be known to decide: see `TicketRepository.load`."""
    if not here.is_of(lookup.company_id):
        return Snapshot(unique_rule=here.statements.rule, counts=here.statements.values.counts)
    join = lookup.join
    if lookup.message_id is not None and not remembers(here):
        lookup = evolve(lookup, message_id=None)
        join = None if join is None else evolve(join, message_ref=None)
    found = None if join is None or lookup.overtaken else _join(here, lookup, join)
    if found is None:
        found = look_for(here, lookup)
    return _foreseen(here, lookup, found) if lookup.foresees else found


def _foreseen(here: Here, lookup: Lookup, seen: Snapshot) -> Snapshot:
    """Look for what a write on the key would be told of, where a message would not join."""
    if lookup.connection_id is None or seen.unique_rule is UniqueRule.NONE:
        return seen
    if seen.active_on(lookup.connection_id) is not None:
        return seen
    key = TicketKey(lookup.company_id, lookup.contact_id, lookup.connection_id)
    blocked = here.refusals.foreseen(key)
    if blocked is None:
        return seen
    return evolve(seen, blocked=True, occupant=blocked.ticket, merged=blocked.merged)


def look_for(here: Here, lookup: Lookup) -> Snapshot:
    """Find the tickets that count for a message, and keep others from its contact where that is needed."""
    old = here.statements.old_reads
    if old is not None:
        return old_reads.look_for(here, old, lookup)
    if needs_claim(here, lookup):
        claim(here, contacts_of([lookup]))
    seen = here.statements.looks.snapshot(here.look(here.statements.looks.load(lookup)).all())
    return of_known_words(here, lookup, seen)


def _join(here: Here, lookup: Lookup, join: Join) -> Snapshot | None:
    """Let a message join the ticket of its key; None: it has to be looked for."""
    if join.message_ref is not None and is_autocommit(here.connection):
        return None  # such a message may be a redelivery, and nothing else
    if here.mapping.may_leave_out(JOINED):
        return None  # it is seen, and undone, where it is decided
    claims = needs_claim(here, lookup) and is_guarded(here)
    old, joins = here.statements.old_reads, here.statements.joins
    if old is not None:
        return old_reads.join(here, old, lookup, join, claims=claims)
    sent = None if joins is None else joins.join(lookup, join, here.mapping.on_message, claims=claims)
    if joins is None or sent is None:
        return None
    try:
        found = joins.joined(lookup, here.look(sent).all())
    except SwallowedError:
        forget(here, [] if join.message_ref is None else [join.message_ref])
        raise here.refusals.swallowed() from None
    if found is not None and found.joined is None:
        found = of_known_words(here, lookup, found)
    if found is not None or not claims:
        return found
    # Others are kept away now: by what the statement has written, or on SQLite by its being an `UPDATE`.
    return look_for(here, evolve(lookup, claim=False))


def get(here: Here, company_id: Id, ticket_id: Id, *, current: bool) -> Ticket | None:
    """Find one ticket of a company: see `TicketRepository.get`."""
    if not here.is_of(company_id):
        return None
    row = here.look(here.statements.looks.get(company_id, ticket_id)).one_or_none()
    old = here.statements.old_reads
    if old is not None and old_reads.must_lock(here, ticket_id, seen=row is not None, current=current):
        row = here.look(old.get(company_id, ticket_id)).one_or_none()
    if row is None:
        here.check()
    return None if row is None else here.statements.values.ticket(row)


# --- the write -----------------------------------------------------------------------------------------------


_WRITTEN: Mapping[type[Alteration], tuple[str, ...]] = {
    Reuse: JOINED,
    ReopenTicket: REOPENED,
    Accept: ("status", "user_id", "updated_at"),
    Close: ("status", "closed_at", "updated_at"),
    Transfer: ("connection_id", "updated_at"),
}
"""The fields that each decision writes."""


def check_kept(here: Here, decision: Write) -> None:
    """Raise where a decision has an agent or a queue for a ticket whose table has none: it would be lost in silence."""
    match decision:
        case Create() if here.mapping.further_names is None:
            return  # a function of the host's may keep it where we do not know
        case Create():
            agent, queue = decision.user_id, decision.queue_id
        case ReopenTicket():
            agent, queue = None, decision.queue_id  # it keeps the agent that was read
        case Accept():
            agent, queue = decision.user_id, None
        case Reuse() | Close() | Transfer():
            return
        case _:
            assert_never(decision)
    columns, name = here.mapping.columns, here.mapping.table.fullname
    if agent is not None and "user_id" not in columns:
        raise MappingError(
            f"{name} has no column for the agent, and a ticket is to be given to {agent!r}: name the column, as in ",
            passing("user_id", '"..."'),
            ", or "
            + (
                f"set the status {here.statuses.accepted!r} by an UPDATE of your own, as a desk without agents does"
                if isinstance(decision, Accept)
                else "give it to nobody, as `open` does without a user_id"
            ),
        )
    if queue is not None and "queue_id" not in columns:
        raise MappingError(
            f"{name} has no column for the queue, and a ticket is to wait in {queue!r}: name the column, as in ",
            passing("queue_id", '"..."'),
            ", or choose no queue (",
            Code("policy", "Policy(queue_id=None)"),
            ")",
        )


def commit(here: Here, decision: Write) -> Ticket:
    """Carry out one decision: see `TicketRepository.commit`."""
    check_kept(here, decision)
    writes, columns = here.statements.writes, here.mapping.on_message
    match decision:
        case Create():
            return _create(here, decision)
        case Reuse():
            with _recorded(here, decision.message_ref, decision), _staying(here, decision):
                changed = old_reads.reused(here, decision)
                return changed or _changed(here, decision.ticket, writes.reuse(decision, columns))
        case ReopenTicket(ticket=seen):
            with _recorded(here, decision.message_ref, decision), _staying(here, decision):
                return _given_a_key(here, seen, seen.key, writes.reopen(decision, columns))
        case Accept(ticket=seen):
            with _staying(here, decision):
                return _altered(here, seen, writes.accept(decision), seen.key)
        case Close(ticket=seen):
            with _staying(here, decision):
                return _closed(here, seen, writes.close(decision))
        case Transfer(ticket=seen):
            key = evolve(seen.key, connection_id=decision.connection_id)
            with _staying(here, decision):
                return _given_a_key(here, seen, key, writes.transfer(decision))
        case _:
            assert_never(decision)


def check(here: Here, decision: Write) -> None:
    """Raise what `commit`, or the look before it, refuses of a decision whatever tickets there are.

    Raises:
        TicketRouterError: if it does.
    """
    is_here = not isinstance(decision, Create) or here.is_of(decision.key.company_id)
    joins_at_once = isinstance(decision, Reuse) and decision.woken(here.statuses) is None
    if here.statements.rule is UniqueRule.NONE and is_here and not joins_at_once:
        check_guarded(here)  # as the look does, which comes first
    check_kept(here, decision)
    if isinstance(decision, Create):
        _check_company(here, decision)
    if not isinstance(decision, Create | ReopenTicket | Reuse):
        return
    ref = to_record(here, decision.message_ref)
    if ref is not None:
        here.refusals.tell_record(ref)


def _check_company(here: Here, decision: Create) -> None:
    if not here.is_of(decision.key.company_id):
        raise InvalidMessageError(
            "company_id", decision.key.company_id, f"{here.only_company!r}, the only one of this table"
        )


def _staying(here: Here, decision: Alteration) -> AbstractContextManager[None]:
    """Have a change undone by which a ticket would exist for the desk no more."""
    if here.mapping.where is None:
        return nullcontext()
    word = _word_of(here.statuses, decision)
    fields = WOKEN if isinstance(decision, Reuse) and word is not None else _WRITTEN[type(decision)]
    if not here.statements.parts.may_leave_out(fields, *([] if word is None else [word])):
        return _given_up_if_left_out(here)
    here.check_transaction("a change of what `where` asks")
    return _undone_if_left_out(here)


def _word_of(statuses: StatusScheme, decision: Alteration) -> str | None:
    """Return the word that a ticket's status becomes; None: it stays."""
    match decision:
        case Reuse():
            return decision.woken(statuses)
        case ReopenTicket():
            return statuses.of_reopened(accepted=decision.accepted)
        case Accept():
            return statuses.accepted
        case Close():
            return statuses.closed
        case Transfer():
            return None
        case _:
            assert_never(decision)


@contextmanager
def _undone_if_left_out(here: Here) -> Generator[None]:
    with here.whole.undone_if_it_raises(), all_or_nothing(here.connection):
        yield


@contextmanager
def _given_up_if_left_out(here: Here) -> Generator[None]:
    """Give the transaction up where a trigger has changed what nobody here can change back."""
    try:
        yield
    except LeftOutError as error:
        give_up(here.connection, error)
        raise


def _create(here: Here, decision: Create) -> Ticket:
    _check_company(here, decision)
    ref = to_record(here, decision.message_ref)  # refused, if at all, before anything is written
    further = further_values(
        here, decision, () if decision.message is None else ((decision.message, decision.at),)
    )
    if ref is None:
        return _new(here, decision, further, here.statements.writes.create(decision, further))[0]
    with here.whole.or_nothing():
        return _create_recorded(here, decision, further, ref)


def further_values(
    here: Here, decision: Create, messages: Iterable[tuple[InboundMessage, datetime]]
) -> dict[str, Any]:
    """Return the values of the further columns of a new row, by key.

    Raises:
        MappingError: if one of them is a column that a field fills, or is not there; or if one would be left empty.
    """
    further = here.mapping.further_values(decision)
    for key, value in further.items():
        _check_made(here, key, value)
    if here.mapping.on_message:
        further |= here.statements.writes.of_new_row(here.mapping.on_message, messages)
    if here.mapping.on_message or here.plan.needed:
        here.mapping.check_filled(further, here.plan.needed, of_message=decision.message is not None)
    return further


def _check_made(here: Here, key: str, value: Any) -> None:
    """Refuse what `on_create` or `new_id` gives for a column that does not take it."""
    mapping, values = here.mapping, here.statements.values
    column = mapping.table.columns[key]
    field = next((field for field in FILLED_BY_HOSTS if mapping.columns.get(field) is column), None)
    if field is None:
        check_fits("on_create", column, value, here.connection.dialect)
        return
    argument = "new_id" if field == "id" and mapping.new_id is not None else "on_create"
    try:
        values.encoded(field, value)
    except InvalidMessageError as error:
        told = f" gives {kind_of(value)} for {full_name(column)}, which takes {error.expected}"
        raise MappingError(Code(argument, argument), told) from error


def _create_recorded(here: Here, decision: Create, further: Mapping[str, Any], ref: MessageRef) -> Ticket:
    at_once = here.statements.writes.create_recorded(decision, further, ref)
    ticket, row = _new(here, decision, further, at_once or here.statements.writes.create(decision, further))
    here.whole.undone_by(here.statements.writes.discard(ticket))
    if not (row[-1] if at_once else _record(here, ref, ticket, decision.at)):
        _raise_routed(here, ref)
    here.whole.reached()
    return ticket


def _new(
    here: Here, decision: Create, further: Mapping[str, Any], sent: Sent
) -> tuple[Ticket, Sequence[Any]]:
    """Make a new row, see that it is what it was to become, and return it too."""
    row, made = _inserted(here, sent)
    old_reads.refuse_rival(here, row)
    if row is None or not made:
        here.refusals.tell(decision.key)
        return here.refusals.of_new(decision, further), row or ()
    with giving_up(here.connection):  # nobody can take back what cannot be read
        ticket = here.statements.values.ticket(row[: len(here.statements.values.fields)])
        if here.statements.values.has_no_id(row):
            raise here.refusals.nameless()
    if (error := _unlike(here, decision, row, ticket)) is not None:
        ref = decision.message_ref
        recorded = ref is not None and len(row) > here.statements.writes.width and row[-1]
        with giving_up(here.connection):
            here.execute(here.statements.writes.discard(ticket))
            forget(here, [ref] if ref is not None and recorded else [])
        raise error
    return ticket, row


def _unlike(here: Here, decision: Create, row: Sequence[Any], ticket: Ticket) -> MappingError | None:
    """Return the error of a new row that is not what it was to become; None: it is."""
    if not here.statements.writes.is_met(row, new=True):
        return here.refusals.of_new_left_out()
    if not here.refusals.stands(ticket, decision.key, active=True):
        return here.refusals.altered("a new row, which is deleted again")
    return None


def _inserted(here: Here, sent: Sent) -> tuple[Sequence[Any] | None, bool]:
    """Return the row of an `INSERT`, and whether it was made: if not, it is the row in the way, or None."""
    row = here.execute(sent).one_or_none()
    if row is None:
        return None, False
    mark, ask = row[-1], here.statements.parts.ask_mark
    if mark is None and ask is not None:
        with giving_up(here.connection):  # whether it was made, nobody knows before
            mark = here.connection.execute(ask).scalar_one()
    return row[:-1], here.statements.parts.is_made(mark, sent[1])


@contextmanager
def _recorded(here: Here, ref: MessageRef | None, decision: Reuse | ReopenTicket) -> Generator[None]:
    """Record the message id first, so that who loses that race has not touched the ticket yet."""
    ref = to_record(here, ref)
    if ref is None:
        yield
        return
    with here.whole.or_nothing():
        if not _record(here, ref, decision.ticket, decision.at):
            here.whole.reached()  # nothing was written
            _raise_routed(here, ref)
        here.whole.undone_by(here.statements.messages.forget(ref))
        yield


def _record(here: Here, ref: MessageRef, ticket: Ticket, at: datetime) -> bool:
    _, made = _inserted(here, here.statements.messages.record(ref, ticket, at))
    return made


def _raise_routed(here: Here, ref: MessageRef) -> NoReturn:
    """Raise for a message id that could not be recorded."""
    here.refusals.tell_record(ref)
    # Either somebody was faster, or the host has deleted the ticket that the id led to.
    here.execute(here.statements.messages.forget_vain(ref))
    raise ConflictError("the message was routed meanwhile")


def _given_a_key(here: Here, seen: Ticket, key: TicketKey, sent: Sent) -> Ticket:
    """Make a ticket active, or leave it so, on a key that a unique rule may have no room on."""
    try:
        with undoable(here):
            return _altered(here, seen, sent, key)
    except IntegrityError as error:
        if not is_taken(here, error):
            raise
        here.refusals.tell(key, seen)
        if here.refusals.is_of_another_index(error):
            raise
        restart_in_one_snapshot(here, error)
    with here.whole.undone_if_it_raises():
        return here.refusals.of_attempt(lambda: _altered(here, seen, sent, key), key, seen)


def _altered(here: Here, seen: Ticket, sent: Sent, key: TicketKey) -> Ticket:
    """Change a ticket, and see that it is active on the key that it was to have."""
    return _as_it_was_to_be(here, _changed(here, seen, sent), key, active=True)


def _closed(here: Here, seen: Ticket, sent: Sent) -> Ticket:
    """Close a ticket wherever it is now: a move may have given it another key since it was seen."""
    ticket = _changed(here, seen, sent)
    return _as_it_was_to_be(here, ticket, evolve(ticket.key, company_id=seen.company_id), active=False)


def _as_it_was_to_be(here: Here, ticket: Ticket, key: TicketKey, *, active: bool) -> Ticket:
    if not here.refusals.stands(ticket, key, active=active):
        raise here.refusals.altered("a ticket that was changed (roll back: what it is now may stay)")
    return ticket


def _changed(here: Here, seen: Ticket, sent: Sent) -> Ticket:
    for _ in range(ROUNDS):
        ticket = _changed_once(here, seen, sent)
        if ticket is not None:
            return ticket
        if not here.refusals.still_meets(sent):
            raise ConflictError("the ticket was changed meanwhile")
        # It may have gone and come back, as by two moves: nobody can move it any more.
        here.execute(here.statements.looks.held(seen)).close()
    raise here.refusals.swallowed()


def _changed_once(here: Here, seen: Ticket, sent: Sent) -> Ticket | None:
    result = here.execute(sent)
    if here.statements.parts.returns_updates:
        row = result.one_or_none()
        if row is None:
            return None
        if not here.statements.writes.is_met(row, new=False):
            raise left_out(here)
        here.whole.reached()
        return here.statements.values.ticket(row[: len(here.statements.values.fields)])
    if result.rowcount == 0 and not _is_met_after_all(here, sent):
        return None
    here.whole.reached()
    # With a lock, which it has: what has all these values already is not written, and so newer than an old snapshot.
    get = (here.statements.old_reads or here.statements.looks).get
    found = here.look(get(seen.company_id, seen.id))
    changed = found.one() if here.mapping.where is None else found.one_or_none()
    if changed is None:
        raise left_out(here)
    return here.statements.values.ticket(changed)


def _is_met_after_all(here: Here, sent: Sent) -> bool:
    """Tell whether an `UPDATE` meets its row that has changed none, and see to it that it has changed that.

    A connection that was not told to count what is found counts only what has become another. But the row may just as
    well have gone, and come back since: now that it is locked it is sent again, and where it was met before, does nothing.
    """
    if here.execute(here.statements.looks.still(sent, lock=True)).first() is None:
        return False
    here.execute(sent)
    return True


def left_out(here: Here) -> MappingError:
    """Return the error of a ticket that exists for the desk no more once it was changed."""
    return here.refusals.left_out(
        "a ticket that was changed", "let it ask nothing that a change of ours, or a trigger, makes otherwise"
    )
