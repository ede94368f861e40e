"""Status words that the scheme does not know, in a host's table: also where a collation takes them for others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen
from sqlalchemy import Column, Connection, DateTime, Engine, Integer, MetaData, String, Table, event, text
from sqlalchemy.exc import NotSupportedError

from tests.sqlalchemy.conftest import Place
from tests.support import whaticket
from tests.support.whaticket import PERSON, SAAS
from ticketrouter import (
    BlockedBySchemaError,
    ConflictError,
    InboundMessage,
    Outcome,
    Policy,
    Reason,
    Reopen,
    Scope,
    StatusScheme,
    TicketKey,
    TicketRouter,
    UniqueRule,
    log,
)
from ticketrouter.batch import Joint
from ticketrouter.decisions import Lookup, ReopenTicket
from ticketrouter.sqlalchemy import MappingError, SQLAlchemyTicketRepository, TicketMapping
from ticketrouter.sqlalchemy.health.audit import Check, Level, audit

ALWAYS = Policy(reopen=Reopen.always(keep_user=True))
KEY = TicketKey(1, PERSON, 10)
HELLO = InboundMessage(1, PERSON, 10)
MARIADB = pytest.mark.parametrize("database", ["mariadb"])


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_told", set())


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["status"] for record in caplog.records if record.levelno == logging.WARNING]


@contextmanager
def sent(engine: Engine) -> Iterator[list[str]]:
    """Note every statement that is sent."""
    noted: list[str] = []

    def note(*args: Any) -> None:
        noted.append(args[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(engine, "before_cursor_execute", note)


# --- a table whose words are compared to the letter -----------------------------------------------------------


def desk(place: Place, *rows: dict[str, Any], rule: whaticket.Rule = whaticket.NONE) -> TicketMapping:
    """Make a desk with these closed tickets, the later ones closed later."""
    mapping = place.whaticket(SAAS, rule)
    with place.begin() as connection:
        mapping.metadata.create_all(connection)
        for minute, row in enumerate(rows):
            at = datetime(2026, 11, 20, 10, minute, tzinfo=UTC)
            number = whaticket.insert(connection, companyId=1, isGroup=False, **row)
            changed = mapping.table.update().where(mapping.table.c.id == number)
            connection.execute(changed.values(updatedAt=at))
    return mapping


def repository(connection: Connection, mapping: TicketMapping) -> SQLAlchemyTicketRepository:
    return SQLAlchemyTicketRepository(connection, mapping)


def test_one_statement_more_where_an_unknown_word_is_met(place: Place) -> None:
    """The look for the known words is sent once for a message, and once for a batch; else it is not sent."""
    rows = [
        {"contactId": contact, "status": status}
        for contact in (1, 2)
        for status in ("closed", "waiting_vendor")
    ]
    mapping = desk(place, *rows, rule=whaticket.NONE)
    counts: dict[bool, tuple[int, int]] = {}
    for named in (True, False):
        statuses = StatusScheme(also_closed={"waiting_vendor"} if named else ())
        here = TicketMapping.whaticket(mapping.table, statuses=statuses)
        one, many = (
            [InboundMessage(1, contact, 10, message_id=f"{named}") for contact in (1, 2)],
            [InboundMessage(1, 2, 10), InboundMessage(1, 1, 10)],
        )
        for batch in ([one[0]], many):  # what is asked of a new database is asked before
            with place.engine.connect() as connection:
                TicketRouter(repository(connection, here), ALWAYS).resolve_many(batch)
        noted: list[int] = []
        for batch in ([one[0]], many):
            with place.engine.connect() as connection, sent(place.engine) as statements:
                made = TicketRouter(repository(connection, here), ALWAYS).resolve_many(batch)
                connection.rollback()
                assert {Outcome.REOPENED} == {each.outcome for each in made}
            noted.append(len(statements))
        counts[named] = noted[0], noted[1]

    assert tuple(count + 1 for count in counts[True]) == counts[False]


@pytest.mark.parametrize("scope", Scope)
def test_a_batch_and_a_message_decide_alike(place: Place, scope: Scope) -> None:
    """The older ticket of a known word is reopened, on whichever connection it is in scope."""
    mapping = desk(
        place,
        {"status": "closed", "whatsappId": 13},
        {"status": "closed"},
        {"status": "waiting_vendor"},
        {"status": "waiting_vendor", "whatsappId": 13},
    )
    policy = Policy(scope, Reopen.always())
    messages = [InboundMessage(1, PERSON, 13), HELLO]
    answers: list[list[tuple[Outcome, object]]] = []
    for together in (True, False):
        with place.engine.connect() as connection:
            router = TicketRouter(repository(connection, mapping), policy)
            made = router.resolve_many(messages) if together else [router.resolve(each) for each in messages]
            answers.append([(each.outcome, each.ticket.id) for each in made])
            connection.rollback()

    expected = (
        [(Outcome.REOPENED, 1), (Outcome.REOPENED, 2)]
        if scope is Scope.CONNECTION
        else [(Outcome.REOPENED, 2), (Outcome.REUSED, 2)]
    )
    assert [expected, expected] == answers


@pytest.mark.parametrize("overtaken", [False, True])
def test_load_and_load_many_say_the_same(place: Place, overtaken: bool) -> None:
    """Also after a lost race, where what is committed now is read with a lock."""
    mapping = desk(place, {"status": "closed"}, {"status": "closed"}, {"status": "waiting_vendor"})
    lookup = Lookup(1, PERSON, 10, overtaken=overtaken)
    with place.begin() as connection:
        here = repository(connection, mapping)
        one = here.load(lookup)
        many = here.load_many([Lookup.at(KEY)])

    assert many == [one]
    assert (one.latest_closed and one.latest_closed.id, one.unknown and one.unknown.id) == (2, 3)


def test_the_look_for_known_words_can_use_an_index_of_them(place: Place) -> None:
    """The words stand in it as literals, outside of what compares them to the letter."""
    mapping = desk(place, {"status": "closed"}, {"status": "waiting_vendor"})
    with place.begin() as connection, sent(place.engine) as statements:
        TicketRouter(repository(connection, mapping), ALWAYS).resolve(HELLO)
    [look] = [each for each in statements if "status" in each and " IN ('closed')" in each]

    assert "status IN ('closed') AND " in look.replace('"', "").replace("`", "").replace("Tickets.", "")


@pytest.mark.parametrize("rule", [whaticket.TWO, whaticket.THREE], ids=lambda rule: rule.name)
def test_the_only_row_of_an_unknown_word_blocks(place: Place, rule: whaticket.Rule) -> None:
    """Not one message, nor a batch, nor the wish for a new ticket takes it; nothing is written."""
    mapping = desk(place, {"status": "waiting_vendor", "userId": None}, rule=rule)
    before = place.rows()
    acts: list[Callable[[TicketRouter], object]] = [
        lambda router: router.resolve(HELLO),
        lambda router: router.resolve_many([HELLO, InboundMessage(1, 2, 10)]),
        lambda router: router.open(KEY),
    ]
    for act in acts:
        with place.begin() as connection:
            with pytest.raises(BlockedBySchemaError) as caught:
                act(TicketRouter(repository(connection, mapping), ALWAYS))
            connection.rollback()

        assert not caught.value.retryable
        assert before == place.rows()


def test_a_row_without_a_status_is_left_to_the_desk(place: Place) -> None:
    """No message reopens it, the audit finds it, and the desk reopens it by its id."""
    mapping = desk(place, {"status": "closed"})
    if place.database == "sqlite":
        pytest.skip("a column there stays NOT NULL")
    allow = {
        "postgresql": 'ALTER TABLE "Tickets" ALTER COLUMN status DROP NOT NULL',
        "mariadb": "ALTER TABLE `Tickets` MODIFY status VARCHAR(255) NULL",
    }
    with place.begin() as connection:
        connection.exec_driver_sql(allow[place.database])
        connection.execute(mapping.table.update().values(status=None))
    with place.begin() as connection:
        found = audit(connection, mapping)
        router = TicketRouter(repository(connection, mapping), ALWAYS)
        made = router.resolve(HELLO)
        router.close(1, made.ticket.id)
        reopened = router.reopen(1, 1)

    assert (made.outcome, reopened.status) == (Outcome.CREATED, "pending")
    assert [
        example["status"]
        for seen in found.findings
        if seen.check is Check.STATUSES
        for example in seen.examples
    ] == ["(none)"]


def test_further_closed_words_must_fit_the_column(place: Place) -> None:
    """What a narrow column cannot hold, as the words of a closed ticket, is refused when the mapping is made."""
    table = desk(place).table
    table.columns["status"].type = String(50)

    with pytest.raises(MappingError, match="takes words of at most 50 characters"):
        TicketMapping.whaticket(table, statuses=StatusScheme(also_closed={"x" * 51}))


# --- a table whose collation takes one word for another -------------------------------------------------------


@frozen
class Loose:
    """A desk whose status column knows no cases.

    Args:
        place: its database.
        mapping: its table.
    """

    place: Place
    mapping: TicketMapping

    def insert(self, *words: str, contact: int = PERSON, connection_id: int = 10) -> None:
        with self.place.begin() as connection:
            for minute, word in enumerate(words):
                at = f"2026-11-20 10:{minute:02}:00"
                connection.execute(
                    text(
                        "INSERT INTO calls (company_id, contact_id, connection_id, status, user_id, created_at, "
                        "updated_at) VALUES (1, :contact, :connection, :word, 7, :at, :at)"
                    ),
                    {"contact": contact, "connection": connection_id, "word": word, "at": at},
                )

    def words(self) -> list[str]:
        with self.place.begin() as connection:
            return list(connection.execute(text("SELECT status FROM calls ORDER BY id")).scalars())

    def active(self) -> int:
        """Count the active tickets as the database sees them."""
        query = text("SELECT count(*) FROM calls WHERE status IN ('open', 'pending')")
        with self.place.begin() as connection:
            return int(connection.execute(query).scalar_one())


IDS = {
    "postgresql": "id SERIAL PRIMARY KEY",
    "mariadb": "id INT AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "id INTEGER PRIMARY KEY",
}
STATUS = {
    "postgresql": "VARCHAR(50) COLLATE nocase",
    "mariadb": "VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "sqlite": "VARCHAR(50) COLLATE NOCASE",
}
UNIQUE = "CREATE UNIQUE INDEX one_active ON calls (company_id, contact_id, connection_id"


def _statements(database: str, rule: UniqueRule) -> Iterator[str]:
    is_mariadb = database == "mariadb"
    generated = (
        "active TINYINT AS (IF(status IN ('open', 'pending'), 1, NULL)) VIRTUAL, " if is_mariadb else ""
    )
    time = "DATETIME(6)" if is_mariadb else "TIMESTAMP"
    yield "DROP TABLE IF EXISTS calls"
    if database == "postgresql":
        collation = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        yield f"CREATE COLLATION IF NOT EXISTS nocase {collation}"
    yield (
        f"CREATE TABLE calls ({IDS[database]}, company_id INT NOT NULL, contact_id INT NOT NULL, "
        f"connection_id INT NOT NULL, status {STATUS[database]} NOT NULL, unread_messages INT, user_id INT, "
        f"{generated}created_at {time} NOT NULL, updated_at {time} NOT NULL)"
    )
    if rule is not UniqueRule.NONE:
        yield f"{UNIQUE}, active)" if is_mariadb else f"{UNIQUE}) WHERE status IN ('open', 'pending')"


@pytest.fixture(params=[UniqueRule.NONE, UniqueRule.ACTIVE_PER_CONNECTION], ids=str)
def loose(place: Place, request: pytest.FixtureRequest) -> Loose:
    """A desk whose status column knows no cases, with and without a unique rule."""
    with place.begin() as connection:
        for statement in _statements(place.database, request.param):
            try:
                connection.exec_driver_sql(statement)
            except NotSupportedError as error:
                pytest.skip(f"this server knows no such collation: {error.orig}")
        table = Table("calls", MetaData(), autoload_with=connection)
    mapping = TicketMapping(table, is_group=None, queue_id=None, closed_at=None)
    with place.begin() as connection:
        mapping.metadata.drop_all(connection)
        mapping.metadata.create_all(connection)
    return Loose(place, mapping)


@pytest.mark.parametrize("with_id", [False, True])
def test_what_the_database_takes_for_active_is_joined(
    loose: Loose, caplog: pytest.LogCaptureFixture, with_id: bool
) -> None:
    """By its own view there is never a second one; the word is left as it is, and told once."""
    loose.insert("OPEN")
    for number in range(2):
        message = InboundMessage(1, PERSON, 10, message_id=f"m{number}" if with_id else None)
        with loose.place.begin() as connection:
            router = TicketRouter(repository(connection, loose.mapping), ALWAYS)
            made = [router.resolve(message), *router.resolve_many([HELLO, HELLO])]
        assert {(Outcome.REUSED, "open", None, 7)} == {
            (each.outcome, each.ticket.status, each.ticket.closed_at, each.ticket.user_id) for each in made
        }

    assert (loose.words(), loose.active()) == (["OPEN"], 1)
    assert told(caplog) == ["OPEN"]
    assert "takes it for 'open'" in caplog.text


def test_the_desk_can_act_on_it(loose: Loose) -> None:
    """It is accepted, transferred and closed as what the database takes it for; no second one is opened beside it."""
    loose.insert("PENDING")
    with loose.place.begin() as connection:
        router = TicketRouter(repository(connection, loose.mapping), ALWAYS)
        found = router.find_active(KEY)
        kept = router.reopen(1, 1)
        accepted = router.accept(1, 1, 8)
        moved = router.transfer(1, 1, 13)
        closed = router.close(1, 1)

    assert (found and found.status, kept.status) == ("pending", "pending")
    assert (
        accepted.status, accepted.user_id, moved.connection_id, closed.status
    ) == ("open", 8, 13, "closed")  # fmt: skip


def test_a_closed_word_in_other_letters_is_unknown(loose: Loose, caplog: pytest.LogCaptureFixture) -> None:
    """The collation makes none known: the older one, to the letter, is reopened, alone and in a batch."""
    loose.insert("closed", "CLOSED", "Closed")
    loose.insert("CLOSED", contact=2)
    for together in (False, True):
        messages = [HELLO, InboundMessage(1, 2, 10)]
        with loose.place.engine.connect() as connection:
            router = TicketRouter(repository(connection, loose.mapping), ALWAYS)
            made = router.resolve_many(messages) if together else [router.resolve(each) for each in messages]
            connection.rollback()

        assert [
            (made[0].outcome, made[0].ticket.id),
            (made[1].outcome, made[1].ticket.id == 4),
        ] == [(Outcome.REOPENED, 1), (Outcome.CREATED, False)]
    assert {"Closed", "CLOSED"} == set(told(caplog))


def test_what_the_database_takes_for_a_final_word_is_final(loose: Loose) -> None:
    """It hides no ticket that was closed before it, and no message reopens it; the desk may."""
    loose.insert("closed", "Spam")
    loose.insert("SPAM", contact=2)
    mapping = TicketMapping(
        loose.mapping.table,
        is_group=None,
        queue_id=None,
        closed_at=None,
        statuses=StatusScheme(final={"spam"}),
    )
    for together in (False, True):
        messages = [HELLO, InboundMessage(1, 2, 10)]
        with loose.place.engine.connect() as connection, sent(loose.place.engine) as statements:
            router = TicketRouter(repository(connection, mapping), ALWAYS)
            made = router.resolve_many(messages) if together else [router.resolve(each) for each in messages]
            connection.rollback()

        assert [(Outcome.REOPENED, 1), (Outcome.CREATED, made[1].ticket.id)] == [
            (each.outcome, each.ticket.id) for each in made
        ]
        assert not any("row_number" in each and "IN ('closed')" in each for each in statements)
    with loose.place.begin() as connection:
        reopened = TicketRouter(repository(connection, mapping), ALWAYS).reopen(1, 2)

    assert (2, "pending") == (reopened.id, reopened.status)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("with_id", [False, True])
def test_what_the_database_takes_for_a_word_that_wakes_is_woken(
    loose: Loose, with_id: bool, together: bool
) -> None:
    """It is told as the word of the scheme; an echo leaves it as it is written, and beside it another is joined."""
    loose.insert("Open", contact=1)
    loose.insert("Pending", contact=2)
    loose.insert("PENDING", contact=3)
    statuses = StatusScheme(wakes={"pending": "open"})
    mapping = TicketMapping(
        loose.mapping.table, is_group=None, queue_id=None, closed_at=None, statuses=statuses
    )
    messages = [
        InboundMessage(1, contact, 10, message_id=f"m{contact}" if with_id else None, kind=kind)
        for contact, kind in ((1, "message"), (2, "message"), (3, "echo"))
    ]
    with loose.place.begin() as connection:
        router = TicketRouter(repository(connection, mapping))
        made = router.resolve_many(messages) if together else [router.resolve(each) for each in messages]
    changes = [each.change for each in made]

    assert [("open", "open"), ("pending", "open"), ("pending", "pending")] == [
        (change.old_status, change.new_status) for change in changes if change is not None
    ]
    assert loose.words() == ["Open", "open", "PENDING"]


@pytest.mark.parametrize("word", ["spam", "Spam"])
def test_what_has_become_final_is_not_reopened(loose: Loose, word: str) -> None:
    """Nor is what only the collation takes for a final word; of a batch neither."""
    loose.insert("closed")
    mapping = TicketMapping(
        loose.mapping.table,
        is_group=None,
        queue_id=None,
        closed_at=None,
        statuses=StatusScheme(final={"spam"}),
    )
    with loose.place.begin() as connection:
        store = repository(connection, mapping)
        seen = store.load(Lookup.at(KEY)).latest_closed
        connection.execute(mapping.table.update().values(status=word))
        assert seen is not None
        decision = ReopenTicket(seen, datetime(2026, 11, 20, 11, tzinfo=UTC), Reason.WITHIN_REOPEN_WINDOW)
        with pytest.raises(ConflictError):
            store.commit(decision)
        assert store.commit_many([Joint(decision, decision.at)]) == [None]

    assert loose.words() == [word]


def test_the_audit_counts_words_to_the_letter(loose: Loose) -> None:
    """Words that the collation takes for one are listed apart, with what the database counts them as."""
    loose.insert("closed", "CLOSED", "CLOSED", "Waiting", "waiting")
    loose.insert("OPEN", connection_id=13)
    loose.insert("open", contact=2)
    with loose.place.begin() as connection:
        found = audit(connection, loose.mapping)
    [statuses] = [seen for seen in found.observations if seen.check is Check.STATUSES]

    assert (statuses.level, statuses.count, found.sound) == (Level.FINDING, 5, False)
    assert {
        ("CLOSED", 2, "closed"), ("Waiting", 1, "closed"), ("waiting", 1, "closed"), ("OPEN", 1, "active"),
    } == {tuple(example.values()) for example in statuses.examples}  # fmt: skip


@MARIADB
def test_a_collation_that_pads_is_one_of_them(loose: Loose) -> None:
    """A trailing blank is another word to the scheme, and the same to the database."""
    loose.insert("open ")
    loose.insert("closed ", contact=2)
    with loose.place.begin() as connection:
        router = TicketRouter(repository(connection, loose.mapping), ALWAYS)
        made = [router.resolve(HELLO), router.resolve(InboundMessage(1, 2, 10))]
        closed = router.close(1, 1)

    assert [each.outcome for each in made] == [Outcome.REUSED, Outcome.CREATED]
    assert closed.status == "closed"


def test_what_is_moved_is_active_by_the_databases_view(loose: Loose) -> None:
    """Of two that would share a key the older one is closed, whatever its letters."""
    loose.insert("OPEN")
    loose.insert("open", connection_id=13)
    with loose.place.begin() as connection:
        router = TicketRouter(repository(connection, loose.mapping), ALWAYS)
        plan = router.move_connection(1, 10, 13)

    assert [closing.ticket.id for closing in plan.closes] == [1]
    assert loose.active() == 1


def test_an_old_word_is_asked_for_once(loose: Loose) -> None:
    """What the database takes a word for is asked at the first ticket that has it, once for an engine."""
    loose.insert("OPEN")
    counts: list[int] = []
    place = Place(loose.place.url)
    for _ in range(3):
        with place.begin() as connection, sent(place.engine) as statements:
            TicketRouter(repository(connection, loose.mapping)).resolve(HELLO)
        counts.append(sum("THEN 'open'" in each for each in statements))

    assert counts == [1, 0, 0]


@pytest.mark.parametrize("database", ["mariadb", "sqlite"])
def test_what_a_word_is_taken_for_is_kept_by_the_table(place: Place) -> None:
    """Of two tables that differ in the collation alone, one says nothing of the other's words."""
    found: list[str] = []
    here = Place(place.url)
    for exact in (False, True):
        with place.begin() as connection:
            for statement in _statements(place.database, UniqueRule.NONE):
                exactly = statement.replace("_general_ci", "_bin").replace("NOCASE", "BINARY")
                connection.exec_driver_sql(exactly if exact else statement)
            columns = (
                "id",
                "company_id",
                "contact_id",
                "connection_id",
                "status",
                "unread_messages",
                "user_id",
            )
            times = (Column(name, DateTime) for name in ("created_at", "updated_at"))
            table = Table("calls", MetaData(), *(_column(name) for name in columns), *times)
        mapping = TicketMapping(table, is_group=None, queue_id=None, closed_at=None)
        with place.begin() as connection:
            mapping.metadata.drop_all(connection)
            mapping.metadata.create_all(connection)
        Loose(place, mapping).insert("OPEN")
        with here.begin() as connection:
            ticket = repository(connection, mapping).get(1, 1)
        assert ticket is not None
        found.append(ticket.status)

    assert found == ["open", "OPEN"]


def _column(name: str) -> Column[Any]:
    kind = String(50) if name == "status" else Integer
    return Column(name, kind, primary_key=name == "id", nullable=name == "user_id")
