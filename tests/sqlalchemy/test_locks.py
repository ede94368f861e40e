"""No look of ours locks a row that is not its contact's, whatever the contact has closed.

Law of this file: half of the table is one contact's, so that a planner left alone reads all of it; the oracle is
another client, to whom `SKIP LOCKED` gives every row that is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from attrs import evolve, frozen
from sqlalchemy import Connection, Engine, create_engine, not_, select

from tests.support import whaticket
from tests.support.backends import Databases
from ticketrouter import Scope, TicketKey, UniqueRule
from ticketrouter.batch import Joint
from ticketrouter.decisions import Accept, Close, Create, Lookup, MessageRef, ReopenTicket, Reuse, Transfer
from ticketrouter.model import Reason, Ticket
from ticketrouter.moves import KeyPart, Move, OnCollision, plan_move
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.known import known
from ticketrouter.sqlalchemy.parts import Sent
from ticketrouter.sqlalchemy.statements import OldReads

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MANY = 3000
OURS, TARGET, FREE, NEW = 5, 6, 7, 8
"""Contacts: many closed tickets and an active one; the same few; many closed ones and none active; none at all."""
HERE, THERE, NOWHERE = 10, 13, 14
LEVELS = ("REPEATABLE READ", "READ COMMITTED")

_Host: TypeAlias = tuple[Engine, TicketMapping]


# --- the tables --------------------------------------------------------------------------------------------------


@frozen
class Kind:
    """A tickets table: ours or that of the Whaticket line, with its unique rule or without."""

    name: str
    database: str = "mariadb"
    own: bool = True
    rule: UniqueRule = UniqueRule.ACTIVE_PER_CONNECTION

    def build(self, engine: Engine) -> TicketMapping:
        with engine.begin() as connection:
            mapping = self._own(connection) if self.own else self._of_whaticket(connection)
            mapping.metadata.create_all(connection)
            _fill(connection, mapping)
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql(
                ("ANALYZE TABLE " if self.database == "mariadb" else "ANALYZE ")
                + connection.dialect.identifier_preparer.format_table(mapping.table)
            ).close()
        return mapping

    def _own(self, connection: Connection) -> TicketMapping:
        DEFAULT_MAPPING.table.metadata.create_all(connection)
        if self.rule is UniqueRule.NONE:
            name = DEFAULT_MAPPING.table.name
            connection.exec_driver_sql(f"DROP INDEX uq_{name}_active ON {name}")
            # The statements name this one, whatever it is called; the driver halves the per cent signs.
            odd = '`50%%s %%(x)s :x "```'
            connection.exec_driver_sql(f"ALTER TABLE {name} RENAME INDEX ix_{name}_closed TO {odd}", ())
        return DEFAULT_MAPPING

    def _of_whaticket(self, connection: Connection) -> TicketMapping:
        rule = {
            UniqueRule.NONE: whaticket.NONE,
            UniqueRule.ACTIVE_PER_CONNECTION: whaticket.GENERATED
            if self.database == "mariadb"
            else whaticket.NOT_CLOSED,
        }[self.rule]
        table = whaticket.build(connection, whaticket.SAAS, rule)
        quote = '"' if self.database == "postgresql" else "`"
        for name, ids in (
            ("Contacts", [TARGET, OURS, FREE, NEW, *range(100, 200)]),
            ("Whatsapps", [NOWHERE]),
        ):
            for number in ids:
                connection.exec_driver_sql(
                    f"INSERT INTO {quote}{name}{quote} (id, name) VALUES ({number}, 'x')"
                )
        return TicketMapping.whaticket(table)


KINDS = (
    Kind("own"),
    Kind("own-without-rule", rule=UniqueRule.NONE),
    Kind("whaticket", own=False),
    Kind("whaticket-without-rule", own=False, rule=UniqueRule.NONE),
    Kind("postgresql", database="postgresql"),
    Kind("postgresql-whaticket-without-rule", database="postgresql", own=False, rule=UniqueRule.NONE),
)


def _fill(connection: Connection, mapping: TicketMapping) -> None:
    codecs = mapping.codecs(connection.dialect)
    closed, active = mapping.statuses.closed, min(mapping.statuses.active)

    def row(contact: int, where: int, status: str) -> dict[str, Any]:
        values: dict[str, Any] = {
            "company_id": 1,
            "contact_id": contact,
            "connection_id": where,
            "status": status,
            "is_group": False,
            "unread_messages": 0,
            "created_at": NOON,
            "updated_at": NOON,
            "closed_at": None if status == active else NOON,
        }
        return {
            mapping.columns[field].key: codecs[field].encode(value)
            for field, value in values.items()
            if field in mapping.columns
        }

    rows = [row(contact, HERE, closed) for contact in (OURS, FREE) for _ in range(MANY)]
    rows += [row(TARGET, HERE, closed) for _ in range(5)]
    rows += [row(contact, THERE, active) for contact in range(100, 200)]
    rows += [row(contact, THERE, closed) for contact in range(100, 200) for _ in range(20)]
    rows += [row(contact, HERE, active) for contact in (OURS, TARGET)]
    connection.execute(mapping.table.insert(), rows)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def host(request: pytest.FixtureRequest, databases: Databases) -> Iterator[_Host]:
    url = databases.new(request.param.database)
    engine = create_engine(url)
    yield engine, request.param.build(engine)
    engine.dispose()
    databases.drop(url)


# --- what locks --------------------------------------------------------------------------------------------------


class Desk:
    """A connection in a transaction, and what is there."""

    def __init__(self, connection: Connection, mapping: TicketMapping) -> None:
        self.connection = connection
        self.repository = SQLAlchemyTicketRepository(connection, mapping)
        self.plan = known(connection, mapping)
        self.one = self.plan.statements
        self.mapping = mapping

    @property
    def old(self) -> OldReads:
        if self.one.old_reads is None:
            pytest.skip("its plain reads are not old: it is sent no look that locks")
        return self.one.old_reads

    def seen(self, contact: int) -> tuple[Ticket | None, Ticket | None]:
        found = self.repository.load(Lookup.at(TicketKey(1, contact, HERE)))
        return next(iter(found.active), None), found.latest_closed

    def active(self) -> Ticket:
        found = self.seen(OURS)[0]
        assert found is not None
        return found

    def closed(self) -> Ticket:
        found = self.seen(FREE)[1]
        assert found is not None
        return found

    def send(self, *sent: Any) -> None:
        for statement, values in sent:
            self.connection.execute(statement, values).all()

    def move(self, part: KeyPart, source: int, target: int) -> None:
        move = Move(part, 1, source, target)
        survey = self.repository.survey_move(move, claim=True)
        assert survey.ticket_ids
        self.repository.commit_move(plan_move(move, survey, OnCollision.KEEP_NEWEST, NOON))


@frozen
class Act:
    """What is done in one transaction.

    Args:
        does: what.
        contacts: whose rows it may lock.
        by_connection: whether it is about a connection and not about contacts; then it must be indexed.
    """

    does: Callable[[Desk], object]
    contacts: tuple[int, ...] = (OURS,)
    by_connection: bool = False


REF = MessageRef(TicketKey(1, OURS, HERE), "m")
_WHY = Reason.NO_ACTIVE_TICKET


def _all_of(sent: tuple[Sent, list[Sent], list[Sent]]) -> list[Sent]:
    active, others, routed = sent
    return [active, *others, *routed]


def _current(scope: Scope, contact: int) -> Act:
    lookup = evolve(Lookup.at(TicketKey(1, contact, HERE)), scope=scope)
    return Act(lambda desk: desk.send(*_all_of(desk.old.current(lookup))), (contact,))


def _routed(desk: Desk) -> None:
    desk.repository.commit(Reuse(desk.active(), NOON, _WHY, message_ref=REF))
    desk.send(*_all_of(desk.old.current(evolve(Lookup.at(REF.key), message_id="m"))))
    desk.connection.execute(*desk.one.messages.forget_vain(REF))
    desk.connection.execute(*desk.one.messages.forget(REF))


def _known_closed(desk: Desk) -> None:
    for scope in Scope:
        lookup = evolve(Lookup.at(TicketKey(1, OURS, HERE)), scope=scope)
        desk.send(desk.old.known_closed(lookup))


def _attaches(contact: int, *, many: bool) -> Act:
    lookup = evolve(Lookup.at(TicketKey(1, contact, HERE), claim=True), attaches=True)
    return Act(
        lambda desk: desk.repository.load_many([lookup]) if many else desk.repository.load(lookup), (contact,)
    )


def _in_the_way(desk: Desk) -> None:
    seen = desk.active()
    desk.send(desk.one.looks.in_the_way(seen.key), desk.one.looks.in_the_way(seen.key, seen))


def _move_in_the_way(part: KeyPart, source: int, target: int) -> Callable[[Desk], object]:
    move = Move(part, 1, source, target)
    return lambda desk: desk.connection.execute(desk.one.of_move(move).in_the_way()).all()


def _batch(desk: Desk) -> None:
    firsts: tuple[Create | ReopenTicket | Reuse, ...] = (
        Reuse(desk.active(), NOON, _WHY),
        ReopenTicket(desk.closed(), NOON, _WHY),
        Create(TicketKey(1, NEW, HERE), NOON, _WHY),
    )
    joints = [
        Joint(first, NOON, message_refs=(MessageRef(TicketKey(1, NEW, HERE), str(place)),))
        for place, first in enumerate(firsts)
    ]
    assert None not in desk.repository.commit_many(joints)


def _commit(decision: Callable[[Desk], Any], contact: int = OURS) -> Act:
    return Act(lambda desk: desk.repository.commit(decision(desk)), (contact,))


ACTS = {
    **{
        f"current-{scope}-{contact}": _current(scope, contact)
        for scope in Scope
        for contact in (OURS, FREE, NEW)
    },
    "overtaken": Act(
        lambda desk: desk.repository.load(
            evolve(Lookup.at(TicketKey(1, FREE, HERE), claim=True), overtaken=True)
        ),
        (FREE,),
    ),
    "routed": Act(_routed),
    **{
        f"attaches-{how}-{contact}": _attaches(contact, many=how == "many")
        for how in ("one", "many")
        for contact in (OURS, FREE, NEW)
    },
    "known-closed": Act(_known_closed),
    "get": Act(lambda desk: desk.repository.get(1, desk.active().id, current=True)),
    "in-the-way": Act(_in_the_way),
    "locked-by-a-move": Act(lambda desk: desk.move(KeyPart.CONTACT, OURS, TARGET), (OURS, TARGET)),
    "in-the-way-of-a-move": Act(_move_in_the_way(KeyPart.CONTACT, OURS, TARGET), (OURS, TARGET)),
    "moved-connection": Act(lambda desk: desk.move(KeyPart.CONNECTION, THERE, NOWHERE), by_connection=True),
    "in-the-way-of-a-connection": Act(
        _move_in_the_way(KeyPart.CONNECTION, THERE, NOWHERE), by_connection=True
    ),
    "batch": Act(_batch, (OURS, FREE, NEW)),
    "create": _commit(lambda _: Create(TicketKey(1, NEW, HERE), NOON, _WHY), NEW),
    "reuse": _commit(lambda desk: Reuse(desk.active(), NOON, _WHY)),
    "reopen": _commit(lambda desk: ReopenTicket(desk.closed(), NOON, _WHY), FREE),
    "accept": _commit(lambda desk: Accept(desk.active(), 7, NOON)),
    "close": _commit(lambda desk: Close(desk.active(), NOON)),
    "transfer": _commit(lambda desk: Transfer(desk.active(), THERE, NOON)),
    "discard": Act(lambda desk: desk.connection.execute(*desk.one.writes.discard(desk.active()))),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ACTS)
def test_no_row_of_another_contact_is_locked(host: _Host, name: str, level: str) -> None:
    """Half of the table is this contact's, and what locks leaves every row of the others to them."""
    (engine, mapping), act = host, ACTS[name]
    if act.by_connection and mapping.table.name != "Tickets":
        pytest.skip("our own table has no index by connection")
    columns = mapping.columns
    codecs = mapping.codecs(engine.dialect)
    field, own = ("connection_id", (THERE, NOWHERE)) if act.by_connection else ("contact_id", act.contacts)
    others = select(columns["id"]).where(
        not_(columns[field].in_([codecs[field].encode(each) for each in own]))
    )
    with engine.execution_options(isolation_level=level).connect() as ours, engine.begin() as client:
        act.does(Desk(ours, mapping))
        expected = client.execute(others).all()
        free = client.execute(others.with_for_update(skip_locked=True)).all()
        ours.rollback()
    assert expected
    assert {*expected} - {*free} == set()
