"""A move of the tickets of a contact, or of a connection: the survey, and the writes of its plan.

Law of this file: what a survey locks is what the plan changes; a plan is wholly carried out, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, assert_never

from sqlalchemy import Select
from sqlalchemy.exc import IntegrityError

from ticketrouter.checks import Id
from ticketrouter.errors import ConflictError
from ticketrouter.model import UniqueRule, id_order
from ticketrouter.moves import Closing, KeyPart, Move, MovePlan, Survey
from ticketrouter.sqlalchemy.moves import CLOSED_AT_ONCE, Moves
from ticketrouter.sqlalchemy.parts import Sent
from ticketrouter.sqlalchemy.refusals import ROUNDS
from ticketrouter.sqlalchemy.whole import all_or_nothing
from ticketrouter.sqlalchemy.work.claiming import claim
from ticketrouter.sqlalchemy.work.here import Here
from ticketrouter.sqlalchemy.work.message_ids import keeps_ids
from ticketrouter.sqlalchemy.work.old_reads import note_claimed
from ticketrouter.sqlalchemy.work.rivals import restart_in_one_snapshot

_T = TypeVar("_T")


def survey_move(here: Here, move: Move, *, claim: bool) -> Survey:
    """Find what must be known to plan a move: see `MovesTickets.survey_move`."""
    rule = here.statements.rule
    if not here.is_of(move.company_id):
        return Survey(unique_rule=rule)
    for each in (move.source_id, move.target_id):
        # Where there is only one connection, this refuses every other one.
        here.statements.values.encoded(move.part.value, each)
    here.check()
    sent = here.statements.of_move(move)
    claims = claim and rule is UniqueRule.NONE
    claimed = _claim_move(here, move, sent) if claims else set()
    ids = _ids_of_move(here, sent, lock=claim)
    if claims and move.part is KeyPart.CONNECTION:
        # Who came meanwhile, or after an old snapshot, is met now that the rows are locked.
        _claim_all(here, move.company_id, _contacts(here, sent, lock=True) - claimed)
    rivals = [here.statements.values.ticket(row) for row in here.connection.execute(sent.rivals(lock=claim))]
    occupying = sent.occupant() if ids else None
    row = None if occupying is None else here.connection.execute(occupying).one_or_none()
    if ids and row is None and not claim and rule is not UniqueRule.NONE:
        here.refusals.foresee_move(sent)
    return Survey(ids, rivals, None if row is None else here.statements.values.ticket(row), rule)


def _ids_of_move(here: Here, sent: Moves, *, lock: bool) -> list[Id]:
    ids = _ids(here, sent.ticket_ids(lock=lock))
    if not lock or not sent.locks_may_hide:
        return ids
    # What may be read and not changed is left out of a locking read, without a word.
    missing = set(_ids(here, sent.ticket_ids(lock=False))).difference(ids)
    if not missing:
        return ids
    # What has only come meanwhile is locked by its id, wherever it is by then.
    for some in _at_once(sorted(missing, key=id_order)):
        missing.difference_update(_ids(here, sent.locked(some)))
    if missing.intersection(_ids(here, sent.ticket_ids(lock=False))):
        raise here.refusals.swallowed()
    # Who comes after this look is met by `commit_move`, as more than was planned.
    return _ids(here, sent.ticket_ids(lock=True))


def _ids(here: Here, look: Select[Any]) -> list[Id]:
    decode = here.statements.values.codecs["id"].decode
    return [decode(row[0]) for row in here.connection.execute(look)]


def _claim_move(here: Here, move: Move, sent: Moves) -> set[Id]:
    """Keep everybody else from the contacts of a move, in an order that all moves share, and return them."""
    match move.part:
        case KeyPart.CONTACT:
            contacts = {move.source_id, move.target_id}
        case KeyPart.CONNECTION:
            contacts = _contacts(here, sent, lock=False)
        case _:
            assert_never(move.part)
    _claim_all(here, move.company_id, contacts)
    return contacts


def _contacts(here: Here, sent: Moves, *, lock: bool) -> set[Id]:
    decode = here.statements.values.codecs["contact_id"].decode
    return {decode(row[0]) for row in here.connection.execute(sent.contacts(lock=lock))}


def _claim_all(here: Here, company_id: Id, contacts: set[Id]) -> None:
    every = {(company_id, contact_id) for contact_id in contacts}
    if every and claim(here, every):
        note_claimed(here, every)


def commit_move(here: Here, plan: MovePlan) -> None:
    """Carry out a plan: see `MovesTickets.commit_move`."""
    here.check_transaction("a move")
    if not here.is_of(plan.move.company_id):
        return
    sent = here.statements.of_move(plan.move)
    for _ in range(ROUNDS):
        try:
            # All or nothing, for a host that goes on after the conflict.
            with all_or_nothing(here.connection):
                _carry_out(here, plan, sent)
        except IntegrityError as error:
            if not here.refusals.is_of_the_rule(error):
                raise
            here.refusals.tell_move(sent)
            restart_in_one_snapshot(here, error)
        else:
            return
    raise here.refusals.hidden()


def _carry_out(here: Here, plan: MovePlan, sent: Moves) -> None:
    unread: Counter[Id] = Counter()
    for some in _at_once(plan.closes):
        _changed_all(here, sent.close([each.ticket for each in some], plan.at), len(some))
        unread.update(_unread_of(here, some, sent))
    for kept in _at_once(list(unread)):
        _take_up(here, {each: unread[each] for each in kept}, sent)
    _check_left_out(here, plan, sent, [*(each.ticket.id for each in plan.closes), *unread])
    _changed_all(here, sent.repoint(), len(plan.repoints))
    _check_left_out(here, plan, sent, plan.repoints)
    if plan.move.part is KeyPart.CONNECTION and keeps_ids(here):
        respelling = sent.respell_message_ids()
        if respelling is not None:
            here.connection.execute(respelling)
        here.connection.execute(sent.copy_message_ids())


def _check_left_out(here: Here, plan: MovePlan, sent: Moves, ids: Sequence[Id]) -> None:
    """Raise, and so have everything undone, where a ticket would exist for the desk no more."""
    written = (plan.move.part.value, "status", "unread_messages", "closed_at", "updated_at")
    if not here.statements.parts.may_leave_out(written, here.statuses.closed):
        return
    for some in _at_once(ids):
        if here.connection.execute(sent.left_out(some)).scalar_one():
            raise here.refusals.left_out(
                "a ticket that was moved", "let it ask nothing that a move makes otherwise"
            )


def _at_once(every: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (every[start : start + CLOSED_AT_ONCE] for start in range(0, len(every), CLOSED_AT_ONCE))


def _unread_of(here: Here, closed: Sequence[Closing], sent: Moves) -> Counter[Id]:
    """Return how many unread messages tickets have that were just closed, by the tickets that are kept for them."""
    unread: Counter[Id] = Counter()
    kept = {each.ticket.id: each.kept.id for each in closed if each.kept is not None}
    if not kept or not here.statements.values.counts:
        return unread
    read_id, read_count = (here.statements.values.codecs[field].decode for field in ("id", "unread_messages"))
    for ticket_id, count in here.connection.execute(sent.counts(list(kept))):
        unread[kept[read_id(ticket_id)]] += read_count(count)
    return +unread


def _take_up(here: Here, more: Mapping[Id, int], sent: Moves) -> None:
    """Add to the counts of tickets that are kept."""
    statement = sent.take_up(more)
    if here.connection.execute(statement).rowcount == len(more):
        return
    met = here.execute(here.statements.looks.still((statement, {}))).all()
    if here.statements.parts.returns_updates and len(met) == len(more):
        raise here.refusals.swallowed()
    raise ConflictError("the tickets were changed meanwhile")


def _changed_all(here: Here, statement: Any, expected: int) -> None:
    """Change so many rows, which nobody else can write now; what is left as it is, the table itself has left."""
    changed = here.connection.execute(statement).rowcount
    if changed == expected:
        return
    # More have come meanwhile; fewer are met still where the table leaves them as they are, and else have gone.
    sent: Sent = statement, {}
    if changed < expected and here.refusals.still_meets(sent) and not here.execute(sent).rowcount:
        raise here.refusals.swallowed()
    raise ConflictError("the tickets were changed meanwhile")
