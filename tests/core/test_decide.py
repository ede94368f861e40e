"""The seven rules of decide(), as a table: each case is named by the number of its rule.

Whole decisions are compared, so that no part of an answer goes unseen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from tests.support.samples import HOUR, KEY, NOW, TICK, a_closed_ticket, a_message, a_ticket
from tests.support.words import WORDS
from ticketrouter import (
    BlockedBySchemaError,
    Effect,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    Snapshot,
    StatusScheme,
    TicketKey,
    UniqueRule,
    decide,
)
from ticketrouter.decisions import (
    Create,
    Decision,
    Duplicate,
    Ignore,
    Lookup,
    MessageRef,
    ReopenTicket,
    Reuse,
    Unread,
)

ONE_MORE = Unread(None, 1)
NO_MORE = Unread(None, 0)

PER_CONTACT = Policy(Scope.CONTACT)
TWO_HOURS = Policy(reopen=Reopen.within(2 * HOUR))
ALWAYS = Policy(reopen=Reopen.always())

HERE = a_ticket(7)
ELSEWHERE = a_ticket(8, connection_id=200, updated_at=NOW - 3 * HOUR)
NEWER_ELSEWHERE = a_ticket(9, connection_id=300, updated_at=NOW - 2 * HOUR)
CLOSED = a_closed_ticket(6)
CLOSED_ELSEWHERE = a_closed_ticket(5, connection_id=200)
STRANGE = a_closed_ticket(6, status="waiting_vendor")

GROUP = 9
GROUP_KEY = TicketKey(KEY.company_id, GROUP, KEY.connection_id)
GROUP_TICKET = a_ticket(7, contact_id=GROUP, is_group=True)
CLOSED_GROUP_TICKET = a_closed_ticket(6, contact_id=GROUP, is_group=True)


def _created(**changes: Any) -> Create:
    fields: dict[str, Any] = {
        "key": KEY,
        "at": NOW,
        "reason": Reason.NO_ACTIVE_TICKET,
        "is_group": False,
        "unread_messages": 1,
        "user_id": None,
        "queue_id": None,
        "accepted": False,
        "message_ref": None,
        "other_active": (),
    }
    return Create(**(fields | changes))


def _reused(ticket: Any, **changes: Any) -> Reuse:
    fields: dict[str, Any] = {
        "at": NOW,
        "reason": Reason.ACTIVE_ON_CONNECTION,
        "unread": ONE_MORE,
        "message_ref": None,
        "other_active": (),
    }
    return Reuse(ticket, **(fields | changes))


def _reopened(ticket: Any, **changes: Any) -> ReopenTicket:
    fields: dict[str, Any] = {
        "at": NOW,
        "reason": Reason.WITHIN_REOPEN_WINDOW,
        "user_id": None,
        "queue_id": ticket.queue_id,
        "accepted": False,
        "unread": ONE_MORE,
        "message_ref": None,
        "other_active": (),
    }
    return ReopenTicket(ticket, **(fields | changes))


def _case(name: str, message: InboundMessage, snapshot: Snapshot, policy: Policy, expected: Decision) -> Any:
    return pytest.param(message, snapshot, policy, expected, id=name)


def _sent(sent_at: datetime) -> InboundMessage:
    return a_message(sent_at=sent_at)


def _one_row(rule: UniqueRule, row: Any, **found: Any) -> Snapshot:
    return Snapshot(occupant=row, unique_rule=rule, **found)


RULE_1 = [
    _case(
        "1 routed before",
        a_message(message_id="m"),
        Snapshot(routed=HERE),
        Policy(),
        Duplicate(HERE, Reason.ALREADY_ROUTED),
    ),
    _case(
        "1 goes before 2",
        a_message(message_id="m"),
        Snapshot((HERE, ELSEWHERE, NEWER_ELSEWHERE), routed=CLOSED),
        Policy(),
        Duplicate(CLOSED, Reason.ALREADY_ROUTED, (NEWER_ELSEWHERE, ELSEWHERE)),
    ),
    _case(
        "1 goes before 3",
        a_message(message_id="m", kind="notice"),
        Snapshot(routed=CLOSED),
        Policy(),
        Duplicate(CLOSED, Reason.ALREADY_ROUTED),
    ),
    _case(
        "1 goes before 4",
        a_message(message_id="m"),
        Snapshot(latest_closed=CLOSED, routed=CLOSED),
        ALWAYS,
        Duplicate(CLOSED, Reason.ALREADY_ROUTED),
    ),
    _case(
        "1 goes before 5",
        a_message(message_id="m"),
        _one_row(UniqueRule.ONE_PER_CONNECTION, CLOSED, routed=CLOSED),
        Policy(),
        Duplicate(CLOSED, Reason.ALREADY_ROUTED),
    ),
    _case(
        "1 goes before 6",
        a_message(message_id="m"),
        _one_row(UniqueRule.ONE_PER_CONTACT, ELSEWHERE, active=(ELSEWHERE,), routed=ELSEWHERE),
        Policy(),
        Duplicate(ELSEWHERE, Reason.ALREADY_ROUTED),
    ),
    _case(
        "1 reports by the connection of the ticket",
        a_message(message_id="m"),
        Snapshot((HERE, ELSEWHERE, NEWER_ELSEWHERE), routed=NEWER_ELSEWHERE),
        PER_CONTACT,
        Duplicate(NEWER_ELSEWHERE, Reason.ALREADY_ROUTED, (HERE, ELSEWHERE)),
    ),
]

TWINS = (
    a_ticket(10, updated_at=NOW - HOUR),
    a_ticket(11, updated_at=NOW - HOUR),
    a_ticket(12, updated_at=NOW - HOUR - TICK),
)
TWINS_ELSEWHERE = (
    a_ticket(20, connection_id=200, updated_at=NOW - HOUR),
    a_ticket(21, connection_id=300, updated_at=NOW - HOUR),
    a_ticket(22, connection_id=400, updated_at=NOW - HOUR - TICK),
)

RULE_2 = [
    _case("2 active on the key", a_message(), Snapshot((HERE,)), Policy(), _reused(HERE)),
    _case(
        "2 others are reported, newest first",
        a_message(),
        Snapshot((ELSEWHERE, HERE, NEWER_ELSEWHERE)),
        Policy(),
        _reused(HERE, other_active=(NEWER_ELSEWHERE, ELSEWHERE)),
    ),
    _case(
        "2 the most recently active",
        a_message(),
        Snapshot((a_ticket(7, updated_at=NOW), a_ticket(8, updated_at=NOW - HOUR))),
        Policy(),
        _reused(a_ticket(7, updated_at=NOW)),
    ),
    _case("2 ties to the highest id", a_message(), Snapshot(TWINS), Policy(), _reused(TWINS[1])),
    _case(
        "2 ties to the highest id, backwards", a_message(), Snapshot(TWINS[::-1]), Policy(), _reused(TWINS[1])
    ),
    _case(
        "2 ties among ids of several types",
        a_message(),
        Snapshot((a_ticket(UUID(int=0)), a_ticket("z"), a_ticket(99))),
        Policy(),
        _reused(a_ticket(UUID(int=0))),
    ),
    _case(
        "2 the message id is recorded",
        a_message(message_id="m"),
        Snapshot((HERE,)),
        Policy(),
        _reused(HERE, message_ref=MessageRef(KEY, "m")),
    ),
    _case(
        "2 goes before 4",
        a_message(),
        Snapshot((HERE,), latest_closed=CLOSED),
        ALWAYS,
        _reused(HERE),
    ),
    _case(
        "2 goes before 5",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONNECTION, HERE, active=(HERE,)),
        Policy(),
        _reused(HERE),
    ),
    _case(
        "2 goes before 6",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONTACT, ELSEWHERE, active=(HERE, ELSEWHERE)),
        Policy(),
        _reused(HERE, other_active=(ELSEWHERE,)),
    ),
    _case(
        "2 contact: the connection's own goes first",
        a_message(),
        Snapshot((HERE, a_ticket(8, connection_id=200, updated_at=NOW))),
        PER_CONTACT,
        _reused(HERE, other_active=(a_ticket(8, connection_id=200, updated_at=NOW),)),
    ),
    _case(
        "2 contact: else any connection's",
        a_message(),
        Snapshot((ELSEWHERE, NEWER_ELSEWHERE)),
        PER_CONTACT,
        _reused(NEWER_ELSEWHERE, reason=Reason.ACTIVE_FOR_CONTACT, other_active=(ELSEWHERE,)),
    ),
    _case(
        "2 contact: ties to the highest id",
        a_message(message_id="m"),
        Snapshot(TWINS_ELSEWHERE),
        PER_CONTACT,
        _reused(
            TWINS_ELSEWHERE[1],
            reason=Reason.ACTIVE_FOR_CONTACT,
            message_ref=MessageRef(KEY, "m"),
            other_active=(TWINS_ELSEWHERE[0], TWINS_ELSEWHERE[2]),
        ),
    ),
    _case(
        "2 contact: goes before 6",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONTACT, ELSEWHERE, active=(ELSEWHERE,)),
        PER_CONTACT,
        _reused(ELSEWHERE, reason=Reason.ACTIVE_FOR_CONTACT),
    ),
    _case(
        "2 group: the group's ticket",
        a_message(group_id=GROUP, message_id="m"),
        Snapshot((GROUP_TICKET,)),
        Policy(),
        _reused(GROUP_TICKET, message_ref=MessageRef(GROUP_KEY, "m")),
    ),
    _case(
        "2 group: by the scope of groups",
        a_message(group_id=GROUP),
        Snapshot((ELSEWHERE,)),
        Policy(groups=PER_CONTACT),
        _reused(ELSEWHERE, reason=Reason.ACTIVE_FOR_CONTACT),
    ),
    *(
        _case(
            f"2 goes before 3: {kind} attaches",
            a_message(kind=kind),
            Snapshot((HERE,)),
            Policy(),
            _reused(HERE, unread=NO_MORE),
        )
        for kind in (MessageKind.ECHO, MessageKind.NOTICE)
    ),
    *(
        _case(
            f"2 {kind} sets the count",
            a_message(kind=kind, unread_messages=0),
            Snapshot((HERE,)),
            Policy(),
            _reused(HERE, unread=Unread(0, 1 if kind is MessageKind.MESSAGE else 0)),
        )
        for kind in MessageKind
    ),
    _case(
        "2 a message that only attaches leaves the count alone",
        a_message(),
        Snapshot((HERE,)),
        Policy(effects={MessageKind.MESSAGE: Effect.ATTACH}),
        _reused(HERE, unread=NO_MORE),
    ),
    _case(
        "2 an echo that opens counts nothing",
        a_message(kind="echo"),
        Snapshot((HERE,)),
        Policy(effects={MessageKind.ECHO: Effect.OPEN}),
        _reused(HERE, unread=Unread()),
    ),
    _case(
        "2 an echo that opens sets the count",
        a_message(kind="echo", unread_messages=0),
        Snapshot((HERE,)),
        Policy(effects={MessageKind.ECHO: Effect.OPEN}),
        _reused(HERE, unread=Unread(0)),
    ),
    _case(
        "2 group: by the effects of groups",
        a_message(group_id=GROUP),
        Snapshot((GROUP_TICKET,)),
        Policy(groups=Policy(effects={MessageKind.MESSAGE: Effect.ATTACH})),
        _reused(GROUP_TICKET, unread=NO_MORE),
    ),
]

RULE_3 = [
    *(
        _case(
            f"3 {kind} on a fresh key",
            a_message(kind=kind),
            Snapshot(),
            Policy(),
            Ignore(Reason.KIND_DOES_NOT_OPEN),
        )
        for kind in (MessageKind.ECHO, MessageKind.NOTICE)
    ),
    _case(
        "3 others are reported, newest first",
        a_message(kind="notice", message_id="m", unread_messages=4),
        Snapshot((ELSEWHERE, NEWER_ELSEWHERE)),
        Policy(),
        Ignore(Reason.KIND_DOES_NOT_OPEN, (NEWER_ELSEWHERE, ELSEWHERE)),
    ),
    _case(
        "3 goes before 4",
        a_message(kind="echo"),
        Snapshot(latest_closed=CLOSED),
        ALWAYS,
        Ignore(Reason.KIND_DOES_NOT_OPEN),
    ),
    _case(
        "3 goes before 5",
        a_message(kind="echo"),
        _one_row(UniqueRule.ONE_PER_CONNECTION, CLOSED),
        Policy(),
        Ignore(Reason.KIND_DOES_NOT_OPEN),
    ),
    _case(
        "3 goes before 6",
        a_message(kind="echo"),
        _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_ELSEWHERE),
        Policy(),
        Ignore(Reason.KIND_DOES_NOT_OPEN),
    ),
    _case(
        "3 a message that only attaches",
        a_message(),
        Snapshot(),
        Policy(effects={MessageKind.MESSAGE: Effect.ATTACH}),
        Ignore(Reason.KIND_DOES_NOT_OPEN),
    ),
    _case(
        "3 group: by the effects of groups",
        a_message(group_id=GROUP),
        Snapshot(),
        Policy(groups=Policy(effects={MessageKind.MESSAGE: Effect.ATTACH})),
        Ignore(Reason.KIND_DOES_NOT_OPEN),
    ),
]

NEVER_MARKED = a_closed_ticket(6, closed_at=None, updated_at=NOW - 2 * HOUR)
RULE_4 = [
    _case("4 on the edge", a_message(), Snapshot(latest_closed=CLOSED), TWO_HOURS, _reopened(CLOSED)),
    _case(
        "4 always, at any age",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(6, closed_at=datetime.min.replace(tzinfo=UTC))),
        ALWAYS,
        _reopened(a_closed_ticket(6, closed_at=datetime.min.replace(tzinfo=UTC))),
    ),
    _case(
        "4 from updated_at where there is no closed_at",
        a_message(),
        Snapshot(latest_closed=NEVER_MARKED),
        TWO_HOURS,
        _reopened(NEVER_MARKED),
    ),
    _case(
        "4 a later change does not move the window's end",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(6, updated_at=NOW - 9 * HOUR)),
        TWO_HOURS,
        _reopened(a_closed_ticket(6, updated_at=NOW - 9 * HOUR)),
    ),
    _case(
        "4 at the time the message was sent",
        _sent(NOW - HOUR),
        Snapshot(latest_closed=a_closed_ticket(6, closed_at=NOW - 3 * HOUR)),
        TWO_HOURS,
        _reopened(a_closed_ticket(6, closed_at=NOW - 3 * HOUR)),
    ),
    _case(
        "4 sent before the ticket was closed",
        _sent(NOW - 5 * HOUR),
        Snapshot(latest_closed=CLOSED),
        TWO_HOURS,
        _reopened(CLOSED),
    ),
    _case(
        "4 sent in the future is sent now",
        _sent(NOW + 9 * HOUR),
        Snapshot(latest_closed=CLOSED),
        TWO_HOURS,
        _reopened(CLOSED),
    ),
    _case(
        "4 closed this instant, with a window of nothing",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(6, closed_at=NOW)),
        Policy(reopen=Reopen.within(timedelta(0))),
        _reopened(a_closed_ticket(6, closed_at=NOW)),
    ),
    *(
        _case(
            f"4 keep_user={keep_user} keep_queue={keep_queue}",
            a_message(),
            Snapshot(latest_closed=CLOSED),
            Policy(reopen=Reopen.always(keep_user=keep_user, keep_queue=keep_queue)),
            _reopened(CLOSED, user_id=5 if keep_user else None, queue_id=6 if keep_queue else None),
        )
        for keep_user in (True, False)
        for keep_queue in (True, False)
    ),
    _case(
        "4 sets the count, records the id, reports the others",
        a_message(unread_messages=0, message_id="m"),
        Snapshot((ELSEWHERE, NEWER_ELSEWHERE), latest_closed=CLOSED),
        ALWAYS,
        _reopened(
            CLOSED,
            unread=Unread(0, 1),
            message_ref=MessageRef(KEY, "m"),
            other_active=(NEWER_ELSEWHERE, ELSEWHERE),
        ),
    ),
    _case(
        "4 an echo that opens",
        a_message(kind="echo"),
        Snapshot(latest_closed=CLOSED),
        Policy(reopen=Reopen.always(), effects={MessageKind.ECHO: Effect.OPEN}),
        _reopened(CLOSED, unread=Unread()),
    ),
    _case(
        "4 keeps the agent who may",
        a_message(),
        Snapshot(latest_closed=CLOSED),
        Policy(reopen=Reopen.always(keep_user=[5, 99])),
        _reopened(CLOSED, user_id=5),
    ),
    _case(
        "4 takes it from one who may not",
        a_message(),
        Snapshot(latest_closed=CLOSED),
        Policy(reopen=Reopen.always(keep_user=[99])),
        _reopened(CLOSED),
    ),
    _case(
        "4 stays in its queue",
        a_message(),
        Snapshot(latest_closed=CLOSED),
        Policy(reopen=Reopen.always(), queue_id=9),
        _reopened(CLOSED),
    ),
    _case(
        "4 begins in the queue of the policy",
        a_message(),
        Snapshot(latest_closed=CLOSED),
        Policy(reopen=Reopen.always(keep_queue=False), queue_id=9),
        _reopened(CLOSED, queue_id=9),
    ),
    _case(
        "4 contact: on any connection",
        a_message(message_id="m"),
        Snapshot(latest_closed=CLOSED_ELSEWHERE),
        Policy(Scope.CONTACT, Reopen.within(2 * HOUR)),
        _reopened(CLOSED_ELSEWHERE, message_ref=MessageRef(KEY, "m")),
    ),
    _case(
        "4 group: by the window of groups",
        a_message(group_id=GROUP),
        Snapshot(latest_closed=CLOSED_GROUP_TICKET),
        Policy(groups=Policy(reopen=Reopen.always(keep_user=True))),
        _reopened(CLOSED_GROUP_TICKET, user_id=5),
    ),
    *(
        _case(
            f"4 goes before 5: {rule}",
            a_message(),
            _one_row(rule, CLOSED, latest_closed=CLOSED),
            ALWAYS,
            _reopened(CLOSED),
        )
        for rule in (UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT)
    ),
    _case(
        "4 goes before 6",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_ELSEWHERE, latest_closed=CLOSED_ELSEWHERE),
        Policy(Scope.CONTACT, Reopen.always()),
        _reopened(CLOSED_ELSEWHERE),
    ),
]

ONLY = Reason.ONLY_TICKET_ALLOWED
RULE_5 = [
    *(
        _case(
            f"5 {rule}: the one row of the key",
            a_message(),
            _one_row(rule, CLOSED, latest_closed=CLOSED),
            Policy(),
            _reopened(CLOSED, reason=ONLY),
        )
        for rule in (UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT)
    ),
    _case(
        "5 beyond the window",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONNECTION, CLOSED, latest_closed=CLOSED),
        Policy(reopen=Reopen.within(2 * HOUR - TICK, keep_user=True, keep_queue=False)),
        _reopened(CLOSED, reason=ONLY, user_id=5, queue_id=None),
    ),
    _case(
        "5 sets the count, records the id, reports the others",
        a_message(unread_messages=7, message_id="m"),
        _one_row(UniqueRule.ONE_PER_CONNECTION, CLOSED, active=(ELSEWHERE, NEWER_ELSEWHERE)),
        Policy(),
        _reopened(
            CLOSED,
            reason=ONLY,
            unread=Unread(7, 1),
            message_ref=MessageRef(KEY, "m"),
            other_active=(NEWER_ELSEWHERE, ELSEWHERE),
        ),
    ),
    _case(
        "5 contact: the last closed one is out of the window",
        a_message(),
        _one_row(UniqueRule.ONE_PER_CONNECTION, CLOSED, latest_closed=CLOSED_ELSEWHERE),
        PER_CONTACT,
        _reopened(CLOSED, reason=ONLY),
    ),
    _case(
        "5 group: keeps what groups keep",
        a_message(group_id=GROUP),
        _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_GROUP_TICKET),
        Policy(groups=Policy(reopen=Reopen.never(keep_user=True, keep_queue=False))),
        _reopened(CLOSED_GROUP_TICKET, reason=ONLY, user_id=5, queue_id=None),
    ),
]

RULE_7 = [
    _case("7 a fresh key", a_message(), Snapshot(), Policy(), _created()),
    _case(
        "7 others are reported, newest first",
        a_message(),
        Snapshot((ELSEWHERE, NEWER_ELSEWHERE)),
        Policy(),
        _created(other_active=(NEWER_ELSEWHERE, ELSEWHERE)),
    ),
    _case(
        "7 the message id is recorded",
        a_message(message_id="m"),
        Snapshot(),
        Policy(),
        _created(message_ref=MessageRef(KEY, "m")),
    ),
    _case(
        "7 sets the count", a_message(unread_messages=9), Snapshot(), Policy(), _created(unread_messages=9)
    ),
    _case(
        "7 sets the count to zero",
        a_message(unread_messages=0),
        Snapshot(),
        Policy(),
        _created(unread_messages=0),
    ),
    _case(
        "7 a notice that opens",
        a_message(kind="notice"),
        Snapshot(),
        Policy(effects={MessageKind.NOTICE: Effect.OPEN}),
        _created(unread_messages=0),
    ),
    _case("7 in the queue of the policy", a_message(), Snapshot(), Policy(queue_id=9), _created(queue_id=9)),
    _case(
        "7 group: in the queue of groups",
        a_message(group_id=GROUP),
        Snapshot(),
        Policy(groups=Policy(queue_id=4), queue_id=9),
        _created(key=GROUP_KEY, is_group=True, queue_id=4),
    ),
    _case(
        "7 never reopened",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(closed_at=NOW)),
        Policy(),
        _created(),
    ),
    _case(
        "7 a microsecond beyond the edge",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(closed_at=NOW - 2 * HOUR - TICK, updated_at=NOW)),
        TWO_HOURS,
        _created(),
    ),
    _case(
        "7 a microsecond beyond the edge of updated_at",
        a_message(),
        Snapshot(latest_closed=a_closed_ticket(closed_at=None, updated_at=NOW - 2 * HOUR - TICK)),
        TWO_HOURS,
        _created(),
    ),
    _case(
        "7 beyond the edge when the message was sent",
        _sent(NOW - HOUR),
        Snapshot(latest_closed=a_closed_ticket(closed_at=NOW - 3 * HOUR - TICK)),
        TWO_HOURS,
        _created(),
    ),
    _case(
        "7 sent in the future is sent now",
        _sent(NOW + HOUR),
        Snapshot(latest_closed=a_closed_ticket(closed_at=NOW - 2 * HOUR - TICK)),
        TWO_HOURS,
        _created(),
    ),
    _case(
        "7 the closed one is on another connection",
        a_message(),
        Snapshot(latest_closed=CLOSED_ELSEWHERE),
        ALWAYS,
        _created(),
    ),
    _case("7 contact: a fresh contact", a_message(), Snapshot(), PER_CONTACT, _created()),
    _case(
        "7 contact: beyond the window",
        a_message(),
        Snapshot(latest_closed=CLOSED_ELSEWHERE),
        Policy(Scope.CONTACT, Reopen.within(2 * HOUR - TICK)),
        _created(),
    ),
    _case(
        "7 group: a ticket of the group",
        a_message(group_id=GROUP, message_id="m"),
        Snapshot(),
        Policy(),
        _created(key=GROUP_KEY, is_group=True, message_ref=MessageRef(GROUP_KEY, "m")),
    ),
    _case(
        "7 group: by the window of groups",
        a_message(group_id=GROUP),
        Snapshot(latest_closed=CLOSED_GROUP_TICKET),
        Policy(reopen=Reopen.always(), groups=Policy()),
        _created(key=GROUP_KEY, is_group=True),
    ),
    _case(
        "7 direct: not by the window of groups",
        a_message(),
        Snapshot(latest_closed=CLOSED),
        Policy(groups=ALWAYS),
        _created(),
    ),
    *(
        _case(f"7 {rule}: nothing in the way", a_message(), Snapshot(unique_rule=rule), Policy(), _created())
        for rule in UniqueRule
    ),
    *(
        _case(
            f"7 {rule}: no row is ever in the way",
            a_message(),
            _one_row(rule, row, latest_closed=row),
            Policy(),
            _created(),
        )
        for rule in (UniqueRule.NONE, UniqueRule.ACTIVE_PER_CONNECTION)
        for row in (CLOSED, CLOSED_ELSEWHERE)
    ),
]


@pytest.mark.parametrize(
    ("message", "snapshot", "policy", "expected"), RULE_1 + RULE_2 + RULE_3 + RULE_4 + RULE_5 + RULE_7
)
def test_the_first_rule_that_holds_decides(message, snapshot, policy, expected):
    """The whole decision is as the table of the rules says."""
    actual = decide(message, snapshot, policy, NOW)

    assert expected == actual


@pytest.mark.parametrize(
    ("message", "snapshot", "policy", "row"),
    [
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONTACT, ELSEWHERE, active=(ELSEWHERE,)),
            Policy(),
            ELSEWHERE,
            id="6 active on another connection",
        ),
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_ELSEWHERE),
            Policy(),
            CLOSED_ELSEWHERE,
            id="6 closed on another connection",
        ),
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_ELSEWHERE, latest_closed=CLOSED_ELSEWHERE),
            ALWAYS,
            CLOSED_ELSEWHERE,
            id="6 closed on another connection, out of scope",
        ),
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONTACT, CLOSED_ELSEWHERE, latest_closed=CLOSED_ELSEWHERE),
            PER_CONTACT,
            CLOSED_ELSEWHERE,
            id="6 contact: closed on another connection, beyond the window",
        ),
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONNECTION, STRANGE, latest_closed=CLOSED),
            Policy(),
            STRANGE,
            id="6 of an unknown word",
        ),
        pytest.param(
            a_message(),
            _one_row(UniqueRule.ONE_PER_CONTACT, STRANGE, latest_closed=STRANGE),
            ALWAYS,
            STRANGE,
            id="6 of an unknown word, which is the last closed one too",
        ),
        pytest.param(
            a_message(group_id=GROUP),
            _one_row(UniqueRule.ONE_PER_CONTACT, a_ticket(contact_id=GROUP, connection_id=200)),
            Policy(),
            a_ticket(contact_id=GROUP, connection_id=200),
            id="6 group: on another connection",
        ),
    ],
)
def test_a_row_on_another_connection_or_of_an_unknown_word_blocks_the_message(message, snapshot, policy, row):
    """The error names the row and the rule; there is no decision that could be written."""
    with pytest.raises(BlockedBySchemaError) as caught:
        decide(message, snapshot, policy, NOW)

    assert (row, snapshot.unique_rule) == (caught.value.ticket, caught.value.unique_rule)


@pytest.mark.parametrize("row", [None, STRANGE], ids=["not ours to see", "of an unknown word"])
@pytest.mark.parametrize("latest_closed", [None, a_ticket(status="closed", closed_at=NOW)])
@pytest.mark.parametrize("rule", [UniqueRule.ACTIVE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
def test_a_row_that_no_look_up_finds_blocks_the_message(row, latest_closed, rule):
    """There is room neither for a new ticket nor for a reopened one, whatever the window."""
    blocked = Snapshot(latest_closed=latest_closed, occupant=row, unique_rule=rule, blocked=True)

    with pytest.raises(BlockedBySchemaError) as caught:
        decide(a_message(), blocked, ALWAYS, NOW)

    assert (row, rule) == (caught.value.ticket, caught.value.unique_rule)


def test_what_is_blocked_is_the_key_alone():
    """A ticket that is active on it is joined, one of another connection is reopened there."""
    active, elsewhere = a_ticket(), a_ticket(status="closed", closed_at=NOW, connection_id=200)
    by_contact = Policy(scope=Scope.CONTACT, reopen=Reopen.always())

    joined = decide(a_message(), Snapshot([active], blocked=True), ALWAYS, NOW)
    reopened = decide(a_message(), Snapshot(latest_closed=elsewhere, blocked=True), by_contact, NOW)

    assert isinstance(joined, Reuse)
    assert isinstance(reopened, ReopenTicket)
    assert elsewhere == reopened.ticket


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        pytest.param(StatusScheme(), _created(), id="unknown"),
        pytest.param(StatusScheme(final={"waiting_vendor"}), _created(), id="final"),
        pytest.param(StatusScheme(also_closed={"waiting_vendor"}), _reopened(STRANGE), id="also closed"),
        pytest.param(StatusScheme(closed="waiting_vendor"), _reopened(STRANGE), id="closed"),
    ],
)
def test_the_last_closed_ticket_is_reopened_if_the_scheme_knows_its_word(statuses, expected):
    """Rule 4 is about closed and also_closed; whatever the window, another word stays as it is."""
    assert expected == decide(a_message(), Snapshot(latest_closed=STRANGE), ALWAYS, NOW, statuses)


@pytest.mark.parametrize(
    ("kind", "statuses", "expected"),
    [
        (MessageKind.MESSAGE, WORDS, True),
        (MessageKind.ECHO, WORDS, False),
        (MessageKind.MESSAGE, StatusScheme(), False),
    ],
)
def test_what_may_open_a_ticket_wakes_the_one_that_it_joins(kind, statuses, expected):
    """Rule 2: where the scheme has words that wake; whether this one is one of them, the scheme knows."""
    ticket = a_ticket(status="snoozed")
    decision = decide(a_message(kind=kind), Snapshot([ticket]), Policy(), NOW, statuses)

    assert isinstance(decision, Reuse)
    assert (ticket, expected) == (decision.ticket, decision.wakes)
    assert decision.woken(statuses) == ("open" if expected else None)
    assert _reused(a_ticket(), wakes=expected).woken(statuses) is None


@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
def test_the_only_row_blocks_if_its_word_is_final(rule):
    """Rule 6: no message reopens it, whatever the window and the room."""
    statuses = StatusScheme(final={"waiting_vendor"})

    with pytest.raises(BlockedBySchemaError) as caught:
        decide(a_message(), _one_row(rule, STRANGE), ALWAYS, NOW, statuses)

    assert caught.value.ticket == STRANGE


@pytest.mark.parametrize("rule", [UniqueRule.ONE_PER_CONNECTION, UniqueRule.ONE_PER_CONTACT])
def test_the_only_row_is_reopened_if_the_scheme_knows_its_word(rule):
    """Rule 5 is about closed and also_closed."""
    statuses = StatusScheme(also_closed={"waiting_vendor"})
    expected = _reopened(STRANGE, reason=Reason.ONLY_TICKET_ALLOWED)

    assert expected == decide(a_message(), _one_row(rule, STRANGE), Policy(), NOW, statuses)


def test_the_present_is_kept_in_utc():
    """A clock of another zone gives the same decision."""
    there = NOW.astimezone(timezone(timedelta(hours=-3)))

    actual = decide(a_message(), Snapshot(), Policy(), there)

    assert _created() == actual
    assert isinstance(actual, Create)
    assert actual.at.tzinfo is UTC


@pytest.mark.parametrize("now", [NOW.replace(tzinfo=None), None], ids=["naive", "none"])
def test_a_present_without_a_time_zone_is_refused(now):
    """A naive clock could be hours off, and the window with it."""
    with pytest.raises(InvalidMessageError) as caught:
        decide(a_message(), Snapshot(), Policy(), now)

    assert (caught.value.field, caught.value.value, caught.value.expected) == (
        "now",
        now,
        "a datetime with a time zone",
    )


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (_created(), Outcome.CREATED),
        (_reused(HERE), Outcome.REUSED),
        (_reopened(CLOSED), Outcome.REOPENED),
        (Duplicate(HERE, Reason.ALREADY_ROUTED), Outcome.DUPLICATE),
        (Ignore(Reason.KIND_DOES_NOT_OPEN), Outcome.IGNORED),
    ],
    ids=["create", "reuse", "reopen", "duplicate", "ignore"],
)
def test_a_decision_says_its_outcome(decision, expected):
    """What becomes of the message can be read from the decision."""
    assert expected is decision.outcome


@pytest.mark.parametrize(
    ("unread", "count", "expected"),
    [
        (Unread(), 3, 3),
        (Unread(add=1), 3, 4),
        (Unread(0), 3, 0),
        (Unread(0, add=1), 3, 0),
        (Unread(8, add=1), 3, 8),
    ],
    ids=["as it was", "one more", "zero", "zero, not one", "set"],
)
def test_a_count_is_set_or_counted_on(unread, count, expected):
    """A number that the message brings wins over counting."""
    assert expected == unread.after(count)


# --- what is asked, and what is found -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "policy", "expected"),
    [
        pytest.param(
            a_message(),
            Policy(),
            Lookup(1, 10, 100, Scope.CONNECTION, None, closed=False, claim=True, overtaken=False),
            id="direct",
        ),
        pytest.param(
            a_message(message_id="m"),
            Policy(Scope.CONTACT, Reopen.always(), groups=Policy()),
            Lookup(1, 10, 100, Scope.CONTACT, "m", closed=True, claim=True, overtaken=False),
            id="direct, by contact",
        ),
        pytest.param(
            a_message(group_id=9, message_id="m"),
            Policy(groups=PER_CONTACT),
            Lookup(
                1,
                9,
                100,
                Scope.CONTACT,
                "m",
                closed=False,
                claim=True,
                overtaken=False,
            ),
            id="group, by the scope of groups",
        ),
    ],
)
def test_the_question_of_a_message_is_its_key_scope_and_id(message, policy, expected):
    """A repository is asked for what the rules need."""
    assert expected == Lookup.of(message, policy)


def test_the_question_of_a_key_is_the_key():
    """Without a message there is no id, and the scope is the connection."""
    assert Lookup.at(KEY) == Lookup(1, 10, 100, Scope.CONNECTION, None, claim=False, overtaken=False)
    assert Lookup.at(KEY, claim=True) == Lookup(1, 10, 100, claim=True)


FOUND = Snapshot((ELSEWHERE, HERE, NEWER_ELSEWHERE), unique_rule=UniqueRule.NONE)


def test_what_was_found_can_be_asked_by_connection():
    """Here, anywhere, elsewhere: each newest first."""
    assert FOUND.active_on(100) == HERE
    assert FOUND.active_on(400) is None
    assert FOUND.active_anywhere() == HERE
    assert FOUND.active_elsewhere(100) == (NEWER_ELSEWHERE, ELSEWHERE)
    assert FOUND.active_elsewhere(400) == (HERE, NEWER_ELSEWHERE, ELSEWHERE)


def test_nothing_found_is_nothing():
    """An unknown contact has no ticket anywhere."""
    assert Snapshot().active_on(100) is None
    assert Snapshot().active_anywhere() is None
    assert Snapshot().active_elsewhere(100) == ()
    assert Snapshot(unique_rule=UniqueRule.ONE_PER_CONTACT).in_the_way() is None


def test_a_unique_rule_that_is_none_is_refused_by_name():
    """A repository is told which of its words is not one of ours."""
    with pytest.raises(InvalidMessageError) as caught:
        Snapshot(unique_rule="two per contact")

    assert (caught.value.field, caught.value.value) == ("unique_rule", "two per contact")


def test_a_message_id_that_came_with_another_contact_is_reported():
    """Rule 1 answers by the id alone; the reason tells that the contacts differ."""
    snapshot = Snapshot(routed=HERE)
    message = a_message(contact_id=11, message_id="m")

    assert Duplicate(HERE, Reason.ROUTED_FOR_ANOTHER_CONTACT) == decide(message, snapshot, Policy(), NOW)


def test_a_ticket_is_created_for_its_message():
    """The decision carries the message itself, for the host's callbacks, and is the same decision with another."""
    message = a_message(message_id="m")
    decision = decide(message, Snapshot(), Policy(), NOW)

    assert isinstance(decision, Create)
    assert decision.message is message
    assert decision == evolve(decision, message=None)
    assert "InboundMessage" not in repr(decision)


@pytest.mark.parametrize(
    ("snapshot", "kind"),
    [(Snapshot(active=[HERE]), Reuse), (Snapshot(latest_closed=CLOSED), ReopenTicket)],
    ids=["joins", "reopens"],
)
def test_a_ticket_is_joined_and_reopened_by_its_message(snapshot: Snapshot, kind: type[Reuse | ReopenTicket]):
    """These decisions carry it too, and so does the question by which it may join at once."""
    message = a_message(message_id="m")
    decision = decide(message, snapshot, Policy(reopen=Reopen.always()), NOW)
    join = Lookup.of(message, Policy(), NOW).join

    assert isinstance(decision, kind)
    assert join is not None
    for each in (decision, join):
        assert each.message is message
        assert each == evolve(each, message=None)
        assert "InboundMessage" not in repr(each)


@pytest.mark.parametrize("unread", [None, 3])
@pytest.mark.parametrize(
    "found",
    [{}, {"active": (HERE,)}, {"latest_closed": CLOSED}],
    ids=["creates", "joins", "reopens"],
)
def test_where_tickets_have_no_count_a_message_adds_nothing(found, unread):
    decision = decide(a_message(unread_messages=unread), Snapshot(**found, counts=False), ALWAYS, NOW)

    if isinstance(decision, Create):
        assert decision.unread_messages == 0
    else:
        assert isinstance(decision, Reuse | ReopenTicket)
        assert decision.unread == NO_MORE
