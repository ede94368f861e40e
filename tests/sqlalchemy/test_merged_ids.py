"""Ids that a collation takes for one, and that are others: each gets its own ticket, or is told that there is no room.

The database is the oracle: what it takes for equal, it is asked by a plain `SELECT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Uuid,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.exc import NotSupportedError

from tests.sqlalchemy.conftest import Place
from ticketrouter import (
    ActiveTicketExistsError,
    BlockedBySchemaError,
    InboundMessage,
    InvalidMessageError,
    MessageKind,
    Outcome,
    Policy,
    Reopen,
    TicketKey,
    TicketNotFoundError,
    TicketRouter,
)
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import Check, Level, audit
from ticketrouter.sqlalchemy.health.repair import plan_repair

IDS = {
    "postgresql": "id SERIAL PRIMARY KEY",
    "mariadb": "id INT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "id INTEGER PRIMARY KEY",
}
SETTING_UP = {
    "nocase": "CREATE COLLATION IF NOT EXISTS nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CITEXT": "CREATE EXTENSION IF NOT EXISTS citext",
}
TYPES = [
    ("postgresql", "VARCHAR(20) COLLATE nocase"),
    ("postgresql", "CITEXT"),
    ("postgresql", "VARCHAR(20)"),
    ("mariadb", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"),
    ("mariadb", "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci"),
    ("mariadb", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
    ("mariadb", "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"),
    ("sqlite", "VARCHAR(20) COLLATE NOCASE"),
    ("sqlite", "VARCHAR(20) COLLATE RTRIM"),
    ("sqlite", "VARCHAR(20)"),
]
KEY = ("company_id", "contact_id", "connection_id")
ACTIVE = "state IN ('open', 'pending')"
SPELLED = ("a", "A", "a ", "ä", "b")


@frozen
class Desk:
    """A host's table whose ids are texts, and a connection to its database."""

    host: Connection
    mapping: TicketMapping
    ruled: bool
    type_: str

    @contextmanager
    def router(self, *, reopens: bool = True) -> Iterator[TicketRouter]:
        """Yield a router in a transaction of the host's, which goes on, and is committed, after an error."""
        policy = Policy(reopen=Reopen.always() if reopens else Reopen.never())
        yield TicketRouter(SQLAlchemyTicketRepository(self.host, self.mapping), policy)
        self.host.commit()

    def rows(self) -> list[RowMapping]:
        return list(self.host.execute(select(self.mapping.table).order_by(text("id"))).mappings())

    def takes_for_one(self, one: str, other: str) -> bool:
        """Tell whether two ids are equal to the database, in the columns of the table."""
        type_ = self.type_.partition(" ")[0]
        with_collation = self.type_.partition("COLLATE ")[2]
        values = [
            f"CAST(:{each} AS {'CHAR(20)' if self.host.dialect.name == 'mariadb' else type_})"
            for each in ("one", "other")
        ]
        if with_collation:
            values = [f"{self.in_charset(each)} COLLATE {with_collation}" for each in values]
        asked = text(f"SELECT {values[0]} = {values[1]}")
        return bool(self.host.execute(asked, {"one": one, "other": other}).scalar_one())

    def in_charset(self, value: str) -> str:
        charset = self.type_.partition("CHARACTER SET ")[2].partition(" ")[0]
        return f"CONVERT({value} USING {charset})" if charset else value

    def on(self, key: TicketKey, when: str = ACTIVE) -> list[tuple[int, bool]]:
        """Return the rows that are on a key to the database, and whether they are so in Python."""
        same = " AND ".join(f"{each} = :{each}" for each in KEY)
        values = dict(zip(KEY, (key.company_id, key.contact_id, key.connection_id), strict=True))
        if self.type_ == "CITEXT":
            same = " AND ".join(f"{each} = CAST(:{each} AS CITEXT)" for each in KEY)
        sought = text(f"SELECT id, {', '.join(KEY)} FROM desk WHERE {same} AND {when} ORDER BY id")
        found = self.host.execute(sought, values)
        return [(number, tuple(its) == tuple(values.values())) for number, *its in found]


@contextmanager
def made(place: Place, type_: str, *, ruled: bool = True, others: str | None = None) -> Iterator[Desk]:
    """Make a desk's table whose ids are of such a type, with a unique rule or without."""
    table = Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, CITEXT() if type_ == "CITEXT" else String(20), nullable=False) for name in KEY),
        Column("state", String(20), nullable=False),
        Column("unread", Integer, nullable=False),
        Column("updated_at", DateTime, nullable=False),
    )
    none: dict[str, Any] = dict.fromkeys(("is_group", "user_id", "queue_id", "created_at", "closed_at"))
    mapping = TicketMapping(table, status="state", unread_messages="unread", **none, metadata=table.metadata)
    time = "TIMESTAMP" if place.database == "postgresql" else "DATETIME"
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        for word, statement in SETTING_UP.items():
            if word in type_:
                try:
                    host.exec_driver_sql(statement)
                except NotSupportedError as error:
                    pytest.skip(f"this server knows no such collation: {error.orig}")
        keys = ", ".join(f"{name} {type_} NOT NULL" for name in KEY)
        host.exec_driver_sql(
            f"CREATE TABLE desk ({IDS[place.database]}, {keys}, state VARCHAR(20) NOT NULL, unread INTEGER NOT NULL, "
            f"updated_at {time} NOT NULL)"
        )
        mapping.metadata.create_all(host)
        if ruled and place.database == "mariadb":
            host.exec_driver_sql(f"ALTER TABLE desk ADD active INT AS (IF({ACTIVE}, 1, NULL)) VIRTUAL")
            host.exec_driver_sql(f"CREATE UNIQUE INDEX u ON desk ({', '.join(KEY)}, active)")
        elif ruled:
            host.exec_driver_sql(f"CREATE UNIQUE INDEX u ON desk ({', '.join(KEY)}) WHERE {ACTIVE}")
    connection = place.engine.connect()
    try:
        yield Desk(connection, mapping, ruled, type_)
    finally:
        connection.close()
        with place.begin() as host:
            mapping.metadata.drop_all(host)


def routed(desk: Desk, act: Callable[[TicketRouter], Any], *, reopens: bool = True) -> Any:
    """Return what an act gives, or the error that there is no room."""
    with desk.router(reopens=reopens) as router:
        try:
            return act(router)
        except BlockedBySchemaError as error:
            refused = error

    assert not refused.retryable
    assert refused.merged
    return refused


def one_message(desk: Desk, message: InboundMessage, act: Callable[[TicketRouter], Any]) -> None:
    """See that a message gets its own ticket, or is told of the row in the way, as is foreseen."""
    active, closed = desk.on(message.key), desk.on(message.key, f"NOT ({ACTIVE})")
    exact = [number for number, is_exact in active if is_exact]
    before = desk.rows()
    foreseen = routed(desk, lambda router: router.explain(message))
    if not exact:
        ensured = routed(desk, lambda router: router.ensure_can_open(message.key))
        assert isinstance(ensured, BlockedBySchemaError) == (desk.ruled and bool(active))
    answer = routed(desk, act)
    if desk.ruled and active and not exact:
        assert isinstance(answer, BlockedBySchemaError), answer
        assert active[0][0] == (None if answer.ticket is None else answer.ticket.id) or answer.ticket is None
        assert (None, answer.ticket, answer.merged) == (
            foreseen.answer.outcome,
            foreseen.answer.ticket,
            foreseen.answer.merged,
        )
        assert before == desk.rows()
        return
    assert not isinstance(answer, BlockedBySchemaError), (str(answer), before, message)
    expected = Outcome.REUSED if exact else Outcome.CREATED
    if not exact and any(is_exact for _, is_exact in closed):
        expected = Outcome.REOPENED

    assert expected is answer.outcome
    assert foreseen.answer.outcome is answer.outcome
    assert message.key == answer.ticket.key
    assert tuple(next(row for row in desk.rows() if row["id"] == answer.ticket.id)[each] for each in KEY) == (
        message.company_id,
        message.key.contact_id,
        message.connection_id,
    )


RULED = pytest.mark.parametrize("ruled", [True, False], ids=["a rule", "no rule"])
OF_ANY_TYPE = pytest.mark.parametrize(("database", "type_"), TYPES)


def key_of(chance: Random, type_: str) -> TicketKey:
    """Return a key of which one id, or two, are spelled in one of several ways."""
    spelled = [each for each in SPELLED if each != "ä" or "NOCASE" not in type_]
    key = ["c", "p", "w"]
    for place in (chance.randrange(3), chance.randrange(3)):
        key[place] = chance.choice(spelled)
    return TicketKey(*key)


@RULED
@OF_ANY_TYPE
def test_each_id_has_its_own_ticket_or_is_told(place: Place, type_: str, ruled: bool) -> None:
    """Random messages with ids in several spellings, one by one and many at once; closed tickets among them."""
    chance = Random(f"{type_} {ruled}")
    with made(place, type_, ruled=ruled) as desk:
        for number in range(80):
            key = key_of(chance, type_)
            place_of = (key.company_id, key.contact_id, key.connection_id)
            message_id = f"m{number}" if chance.random() < 0.4 else None
            message, plain = InboundMessage(*place_of, message_id=message_id), InboundMessage(*place_of)
            match chance.choice(("one", "one", "many", "close")):
                case "one":
                    one_message(desk, message, partial(resolve, message))
                case "many":
                    one_message(desk, message, partial(resolve_many, [message, plain, plain]))
                case _:
                    close_one(desk, chance)
        check_health(desk)


def resolve(message: InboundMessage, router: TicketRouter) -> Any:
    return router.resolve(message)


def explain(message: InboundMessage, router: TicketRouter) -> Any:
    return router.explain(message)


def resolve_many(messages: list[InboundMessage], router: TicketRouter) -> Any:
    return router.resolve_many(messages)[0]


def check_health(desk: Desk) -> None:
    """See that an audit names the columns that merge, and that nobody's ticket is taken for another's duplicate."""
    seen = audit(desk.host, desk.mapping).observations
    named = {field: [each for each in seen if f"({field}) takes ids for one" in each.text] for field in KEY}
    merges = {
        field: any(one != other and desk.takes_for_one(one, other) for one in SPELLED for other in SPELLED)
        for field in KEY
    }
    several = {
        field: any(
            one != other and desk.takes_for_one(one, other) and (field == "company_id" or alike)
            for row in desk.rows()
            for more in desk.rows()
            for one, other in [(row[field], more[field])]
            for alike in [desk.takes_for_one(row["company_id"], more["company_id"])]
        )
        for field in KEY
    }

    assert merges == {field: bool(found) for field, found in named.items()}
    assert several == {
        field: any(each.level is Level.FINDING for each in found) for field, found in named.items()
    }
    assert [Level.OK] == [each.level for each in seen if each.check is Check.DUPLICATES]
    closings = [each for each in plan_repair(desk.host, desk.mapping) if each.ticket_ids]
    assert [] == closings


def close_one(desk: Desk, chance: Random) -> None:
    """Close one of the active tickets, and see that nobody finds it by a company that is spelled otherwise."""
    active = [row for row in desk.rows() if row["state"] != "closed"]
    if active:
        row = chance.choice(active)
        other = row["company_id"].swapcase()
        with desk.router() as router:
            if other != row["company_id"]:
                with pytest.raises(TicketNotFoundError):
                    router.close(other, row["id"])
            router.close(row["company_id"], row["id"])


@RULED
@OF_ANY_TYPE
def test_a_move_takes_what_is_spelled_so_and_nothing_else(place: Place, type_: str, ruled: bool) -> None:
    """Random moves and transfers: rows whose ids are others stay as they are; what has no room is told, and foreseen."""
    chance = Random(f"{type_} {ruled}")
    with made(place, type_, ruled=ruled) as desk:
        for _ in range(60):
            key = key_of(chance, type_)
            message = InboundMessage(key.company_id, key.contact_id, key.connection_id)
            routed(desk, partial(resolve, message))
            source, target = key_of(chance, type_), key_of(chance, type_)
            match chance.choice(("contact", "connection", "transfer")):
                case "contact":
                    move(desk, "contact_id", key.company_id, source.contact_id, target.contact_id)
                case "connection":
                    move(desk, "connection_id", key.company_id, source.connection_id, target.connection_id)
                case _:
                    transfer(desk, chance, target.connection_id)


def move(desk: Desk, part: str, company: Any, source: Any, target: Any) -> None:
    """Move, and see that only what is exactly the source's has moved, or nothing."""
    if source == target:
        return
    before = desk.rows()
    staying = next(each for each in KEY[1:] if each != part)
    name = "merge_contacts" if part == "contact_id" else "move_connection"
    mine = [row for row in before if (row["company_id"], row[part]) == (company, source)]
    blocks = desk.ruled and any(
        other["id"] != row["id"]
        and (other["company_id"], other[part], other[staying]) != (company, target, row[staying])
        for row in mine
        if row["state"] != "closed"
        for number, _ in desk.on(TicketKey(**{"company_id": company, part: target, staying: row[staying]}))
        for other in before
        if other["id"] == number and other not in mine
    )
    planned = routed(desk, lambda router: getattr(router, f"plan_{name}")(company, source, target))
    answer = routed(desk, lambda router: getattr(router, name)(company, source, target))
    after = {row["id"]: row for row in desk.rows()}

    assert blocks == isinstance(answer, BlockedBySchemaError) == isinstance(planned, BlockedBySchemaError)
    moved = {row["id"] for row in mine} if not blocks else set()
    touched = moved | {row["id"] for row in before if (row["company_id"], row[part]) == (company, target)}
    for row in before:
        now = after[row["id"]]
        assert now[part] == (target if row["id"] in moved else row[part])
        assert row["id"] in touched or now == row


def transfer(desk: Desk, chance: Random, target: Any) -> None:
    """Transfer one of the active tickets, and see that it has the key, or is told why not."""
    active = [row for row in desk.rows() if row["state"] != "closed"]
    row = chance.choice(active)
    key = TicketKey(row["company_id"], row["contact_id"], target)
    there = [is_exact for number, is_exact in desk.on(key) if number != row["id"]]
    if row["connection_id"] == target:
        return

    def act(router: TicketRouter) -> Any:
        try:
            return router.transfer(row["company_id"], row["id"], target)
        except ActiveTicketExistsError as error:
            return error

    answer = routed(desk, act)
    now = next(each for each in desk.rows() if each["id"] == row["id"])

    assert isinstance(answer, ActiveTicketExistsError) == any(there)
    assert isinstance(answer, BlockedBySchemaError) == (desk.ruled and bool(there) and not any(there))
    assert now["connection_id"] == (row["connection_id"] if isinstance(answer, Exception) else target)


@OF_ANY_TYPE
def test_a_message_id_of_one_connection_is_none_of_another(place: Place, type_: str) -> None:
    """Two connections that differ by their spelling number messages alike: no message is taken for the other's."""
    with made(place, type_) as desk:
        first = routed(desk, lambda router: router.resolve(InboundMessage("c", "p", "w", message_id="m")))
        second = routed(desk, lambda router: router.resolve(InboundMessage("c", "q", "W", message_id="m")))
        again = routed(desk, lambda router: router.resolve(InboundMessage("c", "p", "w", message_id="m")))
        many = routed(
            desk,
            lambda router: router.resolve_many(
                [InboundMessage("c", "r", "W", message_id=each) for each in ("m", "n")]
            ),
        )

    assert (Outcome.CREATED, Outcome.DUPLICATE) == (first.outcome, again.outcome)
    if isinstance(second, BlockedBySchemaError):
        assert second.ticket is None
        assert isinstance(many, BlockedBySchemaError)
        return
    assert Outcome.CREATED is second.outcome
    assert [Outcome.DUPLICATE, Outcome.CREATED] == [each.outcome for each in many]


@OF_ANY_TYPE
def test_a_move_brings_a_connection_to_another_spelling(place: Place, type_: str) -> None:
    """It is the cure: tickets and message ids are those of the new spelling."""
    with made(place, type_) as desk:
        message = InboundMessage("c", "p", "w", message_id="m")
        first = routed(desk, lambda router: router.resolve(message))
        routed(desk, lambda router: router.move_connection("c", "w", "W"))
        again = routed(desk, lambda router: router.resolve(InboundMessage("c", "p", "W", message_id="m")))
        new = routed(desk, lambda router: router.resolve(InboundMessage("c", "p", "W", message_id="n")))

    assert (Outcome.DUPLICATE, Outcome.REUSED) == (again.outcome, new.outcome)
    assert {first.ticket.id} == {again.ticket.id, new.ticket.id}
    assert "W" == new.ticket.connection_id


def test_a_connection_is_spelled_as_its_column_of_uuids_gives_it(place: Place) -> None:
    """Where texts of UUIDs come, and the column makes one of all their forms: another one is refused before any look."""
    at = "0a1b2c3d-0000-4000-8000-0000000000ff"
    table = Table(
        "desk",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("contact_id", Integer, nullable=False),
        Column("connection_id", Uuid(as_uuid=False), nullable=False),
        Column("status", String(20), nullable=False),
        Column("updated_at", DateTime, nullable=False),
    )
    fields = ("is_group", "unread_messages", "user_id", "queue_id", "created_at", "closed_at")
    none: dict[str, Any] = dict.fromkeys(fields)
    mapping = TicketMapping(table, company_id=None, only_company=1, **none, metadata=table.metadata)
    with place.begin() as host:
        mapping.metadata.drop_all(host)
        mapping.metadata.create_all(host)
        router = TicketRouter(SQLAlchemyTicketRepository(host, mapping))
        first = router.resolve(InboundMessage(1, 5, at))
        with pytest.raises(InvalidMessageError, match="lower case"):
            router.resolve(InboundMessage(1, 5, at.upper()))
        again = router.resolve(InboundMessage(1, 5, at))
        mapping.metadata.drop_all(host)

    assert (Outcome.CREATED, Outcome.REUSED) == (first.outcome, again.outcome)
    assert at == again.ticket.connection_id


# --- message ids whose connections, or companies, the database takes for one ---------------------------------------


class Recorded:
    """What the record has, asked by plain statements: which places the database takes for equal, it says itself."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.digests: dict[str, Any] = {}

    def learn(self, message: InboundMessage) -> None:
        """Keep under which digest an id has just been recorded."""
        ids = self.desk.mapping.message_ids
        known = set(self.digests.values())
        new = [
            each for each in self.desk.host.execute(select(ids.c.message_id)).scalars() if each not in known
        ]
        if new:
            (self.digests[str(message.message_id)],) = new

    def alike(self, message: InboundMessage) -> tuple[str, str] | None:
        """Return the place that is recorded for what the database takes for this message's."""
        table = self.desk.mapping.message_ids
        digest = self.digests.get(str(message.message_id))
        of_type = "CAST(:{} AS CITEXT)" if self.desk.type_ == "CITEXT" else ":{}"
        same = " AND ".join(f"{each} = {of_type.format(each)}" for each in ("company_id", "connection_id"))
        values = {"company_id": message.company_id, "connection_id": message.connection_id}
        columns = table.c.company_id, table.c.connection_id, table.c.message_id
        found = self.desk.host.execute(select(*columns).where(text(same)), values)
        places = [(company, connection) for company, connection, its in found if its == digest]
        return places[0] if places else None


@RULED
@OF_ANY_TYPE
def test_what_is_explained_of_a_message_id_comes_about(place: Place, type_: str, ruled: bool) -> None:
    """Whether it joins, reopens, begins a ticket or is ignored; what is refused names the columns concerned, and no other."""
    chance = Random(f"ids {type_} {ruled}")
    refused = 0
    with made(place, type_, ruled=ruled) as desk:
        record = Recorded(desk)
        for _ in range(100):
            company, connection = chance.choice("cccC"), chance.choice(("w", "w", "W", "w ", "v"))
            kind = chance.choice((MessageKind.MESSAGE, MessageKind.MESSAGE, MessageKind.NOTICE))
            message_id = chance.choice("klmnop")
            message = InboundMessage(
                company, chance.choice("pqr"), connection, message_id=message_id, kind=kind
            )
            reopens = chance.random() < 0.7
            other = record.alike(message)
            foreseen = routed(desk, partial(explain, message), reopens=reopens).answer
            answer = routed(desk, partial(resolve, message), reopens=reopens)
            record.learn(message)
            if not isinstance(answer, BlockedBySchemaError):
                ticket = None if answer.outcome is Outcome.IGNORED else answer.ticket.id
                assert foreseen.outcome is answer.outcome
                assert answer.outcome is Outcome.CREATED or ticket == (foreseen.ticket and foreseen.ticket.id)
                assert other in {None, (company, connection)} or answer.outcome is Outcome.IGNORED
            else:
                assert (None, answer.ticket, answer.merged) == (
                    foreseen.outcome,
                    foreseen.ticket,
                    foreseen.merged,
                )
                names = {each.rpartition(".")[2] for each in answer.merged if "message_ids" in each}
                if names:
                    refused += 1
                    assert other is not None
                    pairs = zip(("company_id", "connection_id"), other, (company, connection), strict=True)
                    assert names == {name for name, one, its in pairs if one != its}
            if chance.random() < 0.2:
                close_one(desk, chance)

    assert bool(refused) == (type_ == "CITEXT" or place.database == "mariadb")
