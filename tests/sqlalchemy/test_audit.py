"""The audit sees each fault of a desk, and of a desk without faults it says that it is sound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event

from tests.sqlalchemy.conftest import Place
from tests.support import desk, whaticket
from ticketrouter import StatusScheme, UniqueRule
from ticketrouter.sqlalchemy import DEFAULT_MAPPING, MappingError, TicketMapping
from ticketrouter.sqlalchemy.health.audit import Audit, Check, Level, Observation, audit

SMALL = desk.Size(tickets=200, duplicates=3)
RIGHT = {
    "mariadb": (
        "ALTER TABLE \"Tickets\" ADD COLUMN active TINYINT AS (IF(status IN ('open', 'pending'), 1, NULL)) VIRTUAL, "
        'ADD UNIQUE INDEX one_active ("companyId", "contactId", "whatsappId", active)'
    )
} | dict.fromkeys(
    ("postgresql", "sqlite"),
    'CREATE UNIQUE INDEX one_active ON "Tickets" ("companyId", "contactId", "whatsappId") '
    "WHERE status IN ('open', 'pending')",
)


TWO_AND_THREE = next(rule for rule in whaticket.RULES if rule.name == "two-and-three-columns")


def opened(place: Place, *statements: str, rule: str | None = None, size: desk.Size = SMALL) -> TicketMapping:
    """Make a desk, spoil it, and map it."""
    with place.begin() as connection:
        desk.build(connection, size, rule)
        for statement in statements:
            desk.run(connection, statement)
        return TicketMapping.whaticket(whaticket.reflected(connection))


def audited(place: Place, mapping: TicketMapping, **options: Any) -> Audit:
    with place.engine.connect() as connection:
        return audit(connection, mapping, **options)


def seen(found: Audit, check: Check, level: Level) -> Observation:
    """Return the one observation of a check at a level."""
    (one,) = (each for each in found.observations if each.check is check and each.level is level)
    return one


def levels(found: Audit, check: Check) -> list[Level]:
    return [each.level for each in found.observations if each.check is check]


def test_a_desk_with_the_right_index_is_sound(place: Place) -> None:
    """The right rule, an index by contact, the companion tables and rows that agree: no finding."""
    mapping = opened(
        place,
        RIGHT[place.database],
        'CREATE INDEX by_contact ON "Tickets" ("contactId", "companyId")',
        size=desk.Size(tickets=200, duplicates=0),
    )
    mapping.metadata.create_all(place.engine)

    found = audited(place, mapping)

    assert () == found.findings
    assert found.sound
    assert found.verdict.startswith("sound: ")
    assert found.unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
    assert (found.database, found.table, found.tickets, found.active) == (place.database, "Tickets", 200, 16)
    assert [Level.OK] == levels(found, Check.COMPANION_TABLES)


def test_anchors_by_which_somebody_else_may_guard_are_found(place: Place) -> None:
    """They are named after no table that is there, and have the columns of anchors."""
    mapping = opened(place)
    mapping.metadata.create_all(place.engine)
    columns = {column.name: column.type for column in mapping.anchors.columns}
    of_another_kind = dict.fromkeys(("id", "anchor"), Integer())
    others: dict[str, dict[str, Any]] = {
        "tickets_v1_anchors": columns,  # of an older version, or another prefix
        "old_anchors": columns,
        "Contacts_anchors": columns,  # of a tickets table of that name
        "ships_anchors": of_another_kind,
        "anchors_of_somebody": columns,
    }
    metadata = MetaData()
    for name, types in others.items():
        Table(name, metadata, *(Column(column, type_) for column, type_ in types.items()))
    metadata.create_all(place.engine)

    found = seen(audited(place, mapping), Check.COMPANION_TABLES, Level.FINDING)

    assert found.count == 2
    assert found.text.startswith("old_anchors, tickets_v1_anchors: anchors that are named after no table")
    assert found.text.endswith(f"guards by {mapping.anchors.name}")


def test_anchors_of_tables_that_are_there_are_no_finding(place: Place) -> None:
    """Two tickets tables in one schema have their own."""
    mapping = opened(place)
    mapping.metadata.create_all(place.engine)
    TicketMapping.own(prefix="second_").metadata.create_all(place.engine)

    assert [Level.OK] == levels(audited(place, mapping), Check.COMPANION_TABLES)


def test_each_fault_of_the_rows_is_found(place: Place) -> None:
    """Duplicates, unknown words, orphans, rows of another company and groups that are none, with their ids."""
    mapping = opened(
        place,
        "UPDATE \"Tickets\" SET status = 'rating' WHERE id IN (1, 2)",
        'UPDATE "Tickets" SET "contactId" = NULL, status = \'open\' WHERE id IN (3, 11)',
        'UPDATE "Tickets" SET "whatsappId" = NULL WHERE id = 4',
        'UPDATE "Contacts" SET "companyId" = 77 WHERE id = 6',
        'UPDATE "Whatsapps" SET "companyId" = 77 WHERE id = 1',
        'UPDATE "Tickets" SET "isGroup" = (1 = 1), status = \'open\' WHERE id = 7',
        "UPDATE \"Tickets\" SET status = 'open' WHERE id IN (41, 81)",
    )

    found = audited(place, mapping)

    statuses = seen(found, Check.STATUSES, Level.FINDING)
    assert statuses.count == 2
    assert statuses.examples == ({"status": "rating", "tickets": 2, "counts_as": "closed"},)
    assert "StatusScheme(also_closed=...)" in statuses.advice
    duplicates = seen(found, Check.DUPLICATES, Level.FINDING)
    assert duplicates.count == 4
    # 41 is alone on its connection; 81 meets 161, which is pending there.
    assert {
        "company_id": 2, "contact_id": 1, "connection_id": 5, "tickets": 2, "ticket_ids": [161, 81],
    } in duplicates.examples  # fmt: skip
    assert all(example["tickets"] == 2 for example in duplicates.examples)
    orphans = seen(found, Check.ORPHANS, Level.FINDING)
    # Of one company and connection, and yet no duplicates: nobody knows whose they are.
    assert orphans.count == 2
    assert orphans.examples == ({"ticket_id": 3}, {"ticket_id": 11})
    assert orphans.text.startswith(
        "3 tickets are orphans (2 without contactId, 1 without whatsappId), 2 of them active"
    )
    contacts = seen(found, Check.CONTACTS, Level.FINDING)
    assert contacts.count == 5
    assert contacts.examples[0] == {
        "ticket_id": 6, "contact_id": 6, "company_id": 3, "contact_company_id": 77,
    }  # fmt: skip
    connections = seen(found, Check.CONNECTIONS, Level.FINDING)
    assert connections.count == 26
    groups = seen(found, Check.GROUPS, Level.FINDING)
    assert groups.count == 1
    assert groups.examples[0]["ticket_id"] == 7
    assert found.unique_rule is UniqueRule.NONE
    assert not found.sound
    assert str(Check.DUPLICATES) in found.verdict


def test_the_worst_key_comes_first_and_connections_are_counted(place: Place) -> None:
    """A key with three active tickets stands before those with two; each connection has its count."""
    mapping = opened(place, "UPDATE \"Tickets\" SET status = 'open' WHERE id IN (45, 85, 125)")

    found = audited(place, mapping, examples=1)

    duplicates = seen(found, Check.DUPLICATES, Level.FINDING)
    assert [example["contact_id"] for example in duplicates.examples] == [5]
    assert [example["tickets"] for example in duplicates.examples] == [3]
    by_connection = seen(found, Check.DUPLICATES_PER_CONNECTION, Level.NOTE)
    assert len(by_connection.examples) == 1


@pytest.mark.parametrize("side", ["also_closed", "final"])
def test_a_word_that_is_said_to_be_closed_is_no_finding(place: Place, side: str) -> None:
    """`also_closed` and `final` name the words that a desk has besides the one that closing gives."""
    mapping = opened(place, "UPDATE \"Tickets\" SET status = 'nps' WHERE id = 1")
    words: dict[str, Any] = {side: {"nps"}}
    named = TicketMapping.whaticket(mapping.table, statuses=StatusScheme(**words))

    assert [Level.FINDING] == levels(audited(place, mapping), Check.STATUSES)
    assert [Level.OK] == levels(audited(place, named), Check.STATUSES)


def _without_status(place: Place, *ids: int) -> list[str]:
    """Take the status from some tickets; SQLite does not let a column be NULL afterwards, so there it is no word."""
    allow = {
        "postgresql": ['ALTER TABLE "Tickets" ALTER COLUMN status DROP NOT NULL'],
        "mariadb": ['ALTER TABLE "Tickets" MODIFY status VARCHAR(255) NULL'],
    }
    none = "NULL" if place.database in allow else "''"
    return [*allow.get(place.database, []), f'UPDATE "Tickets" SET status = {none} WHERE id IN {ids}']


def test_all_unknown_words_are_counted_though_few_are_shown(place: Place) -> None:
    """However many there are, the finding says how many words, and how many tickets; none at all is one of them."""
    mapping = opened(
        place,
        *(f"UPDATE \"Tickets\" SET status = 'word {n}' WHERE id = {n}" for n in range(1, 61)),
        "UPDATE \"Tickets\" SET status = 'word 1' WHERE id IN (70, 71)",
        *_without_status(place, 80, 81, 82, 83),
    )

    found = seen(audited(place, mapping, examples=2), Check.STATUSES, Level.FINDING)

    assert found.count == 66
    assert found.text.startswith("61 statuses that the scheme does not know")
    assert found.examples == (
        {"status": "(none)", "tickets": 4, "counts_as": "closed"},
        {"status": "word 1", "tickets": 3, "counts_as": "closed"},
    )


@pytest.mark.parametrize(
    ("database", "rule"),
    [
        pytest.param(database, rule, id=f"{rule.name}-{database}")
        for rule in (whaticket.TWO, whaticket.THREE, whaticket.NOT_CLOSED, whaticket.GENERATED, TWO_AND_THREE)
        for database in rule.databases
    ],
)
def test_the_rule_is_the_one_that_detection_finds(place: Place, rule: whaticket.Rule) -> None:
    """The audit says the same as detect_unique_rule; only the right one is no finding."""
    mapping = place.whaticket(whaticket.SAAS, rule)

    found = audited(place, mapping)

    assert rule.answer is found.unique_rule
    right = found.unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
    assert right is (Level.FINDING not in levels(found, Check.UNIQUE_RULE))


@pytest.mark.parametrize(
    ("rule", "level", "words"),
    [
        (
            desk.VACUOUS,
            Level.NOTE,
            ("its name speaks of companyId, contactId", "has id in it", "forbids nothing"),
        ),
        (desk.WITH_STATUS, Level.FINDING, ("has the status in it", "cannot be closed")),
    ],
    ids=["vacuous", "with-status"],
)
def test_an_index_that_is_not_what_its_name_says_is_shown(
    place: Place, rule: str, level: Level, words: tuple[str, ...]
) -> None:
    """An index with the id, or the status, in it is named, with what it is over and what it does."""
    found = audited(place, opened(place, rule=rule))

    index = seen(found, Check.UNIQUE_INDEXES, level)
    assert [word for word in words if word not in index.text] == []
    assert index.examples[0]["columns"][:3] == ["contactId", "companyId", "whatsappId"]


def test_an_index_about_more_words_than_the_schemes_is_a_finding(place: Place) -> None:
    """It is the rule, and a ticket that is rating leaves no room beside it: that is told before a message meets it."""
    name = "generated-rating" if place.database == "mariadb" else "in-rating"
    rule = next(rule for rule in whaticket.RULES if rule.name == name)
    with place.begin() as connection:
        mapping = TicketMapping.whaticket(whaticket.build(connection, whaticket.SAAS, rule))

    found = audited(place, mapping)

    assert found.unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
    assert "none beside a ticket that is rating" in seen(found, Check.UNIQUE_RULE, Level.FINDING).text


NARROW = {
    "mariadb": (
        'ALTER TABLE "Tickets" ADD COLUMN "deletedAt" DATETIME',
        RIGHT["mariadb"].replace("active", "live").replace("')", '\') AND "deletedAt" IS NULL'),
    )
} | dict.fromkeys(
    ("postgresql", "sqlite"),
    (
        'ALTER TABLE "Tickets" ADD COLUMN "deletedAt" TIMESTAMP',
        RIGHT["sqlite"].replace("one_active", "one_live") + ' AND "deletedAt" IS NULL',
    ),
)


def test_an_index_that_leaves_out_deleted_rows_is_told_by_its_column(place: Place) -> None:
    """It is no rule, and the audit says by which column it is too narrow."""
    mapping = opened(place, *NARROW[place.database], size=desk.Size(tickets=200, duplicates=0))

    found = audited(place, mapping)

    assert found.unique_rule is UniqueRule.NONE
    index = seen(found, Check.UNIQUE_INDEXES, Level.FINDING)
    assert index.text == (
        "one_live is no rule on active tickets: whether a ticket is in it depends on deletedAt"
    )


def test_an_index_that_leaves_out_an_active_word_is_told_by_the_word(place: Place) -> None:
    """The scheme calls rating active, and the index does not have it."""
    mapping = opened(place, RIGHT[place.database], size=desk.Size(tickets=200, duplicates=0))
    scheme = StatusScheme(active=frozenset({"open", "pending", "rating"}))

    found = audited(place, TicketMapping.whaticket(mapping.table, statuses=scheme))

    assert found.unique_rule is UniqueRule.NONE
    assert "one_active is no rule on active tickets: it leaves out the active tickets that are rating" in [
        each.text for each in found.observations
    ]


def test_beside_the_rule_a_further_index_is_a_note(place: Place) -> None:
    """What is no rule does no harm where another index is."""
    mapping = opened(
        place, *NARROW[place.database], RIGHT[place.database], size=desk.Size(tickets=200, duplicates=0)
    )

    found = audited(place, mapping)

    assert found.unique_rule is UniqueRule.ACTIVE_PER_CONNECTION
    assert "depends on deletedAt" in seen(found, Check.UNIQUE_INDEXES, Level.NOTE).text


def test_an_index_with_the_group_in_it_leaves_no_room_for_ever(place: Place) -> None:
    """It is no rule, as a contact may be a group and a person, and yet a closed ticket is in the way of the next."""
    found = audited(place, place.whaticket(whaticket.SAAS, whaticket.AND_GROUP))

    assert found.unique_rule is UniqueRule.NONE
    index = seen(found, Check.UNIQUE_INDEXES, Level.FINDING)
    assert "leaves no room for a second ticket once the first is closed" in index.text
    assert "by isGroup" in index.text


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_rule_that_the_rows_contradict_is_not_called_right(place: Place) -> None:
    """An index that is damaged, or was written around, is no "ok" beside duplicates."""
    mapping = opened(place, RIGHT["postgresql"], size=desk.Size(tickets=200, duplicates=0))
    switch = "UPDATE pg_index SET indisready = {} WHERE indexrelid = CAST('one_active' AS regclass)"
    for ready in ("false", "true"):
        with place.begin() as connection:
            connection.exec_driver_sql(switch.format(ready))
        with place.begin() as connection:
            if ready == "false":
                for _ in range(2):
                    whaticket.insert(connection, companyId=1, contactId=5, whatsappId=1, isGroup=False)

    found = audited(place, mapping)

    assert [Level.FINDING] == levels(found, Check.DUPLICATES)
    assert "the rows contradict it" in seen(found, Check.UNIQUE_RULE, Level.FINDING).text


def test_without_an_index_by_contact_each_message_reads_the_whole_table(place: Place) -> None:
    """Neither active nor closed tickets can be found."""
    if place.database == "mariadb":
        pytest.skip("a foreign key has its index there")
    found = audited(place, opened(place))

    assert [Level.FINDING, Level.FINDING] == levels(found, Check.LOOKUP_INDEXES)


def test_a_partial_index_finds_no_closed_ticket(place: Place) -> None:
    """The right rule alone finds active tickets only, where it is a partial index."""
    if place.database == "mariadb":
        pytest.skip("there is no partial index there")
    mapping = opened(place, RIGHT[place.database], size=desk.Size(tickets=200, duplicates=0))

    found = audited(place, mapping)

    assert "closed" in seen(found, Check.LOOKUP_INDEXES, Level.FINDING).text


@pytest.mark.parametrize("database", ["postgresql"])
def test_an_index_that_was_broken_off_is_found(place: Place) -> None:
    """A CREATE INDEX CONCURRENTLY that met a duplicate leaves an invalid index, which is no rule."""
    mapping = opened(place)
    with place.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        statement = RIGHT["postgresql"].replace("INDEX", "INDEX CONCURRENTLY", 1)
        with pytest.raises(Exception, match="could not create unique index"):
            connection.exec_driver_sql(statement)

    found = audited(place, mapping)

    assert "one_active is invalid" in seen(found, Check.UNIQUE_INDEXES, Level.FINDING).text
    assert found.unique_rule is UniqueRule.NONE


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("postgresql", "SELECT setval(pg_get_serial_sequence('\"Tickets\"', 'id'), 2000000000)"),
        ("mariadb", 'ALTER TABLE "Tickets" AUTO_INCREMENT = 2000000000'),
    ],
)
def test_ids_that_are_nearly_used_up_are_a_finding(place: Place, statement: str) -> None:
    """The last number that was given out counts, not the highest that is left."""
    assert [Level.FINDING] == levels(audited(place, opened(place, statement)), Check.IDS)


@pytest.mark.parametrize("database", ["mariadb"])
def test_an_engine_without_transactions_is_a_finding(place: Place) -> None:
    """On MyISAM nothing that the library promises holds."""
    with place.begin() as connection:
        desk.build(connection, SMALL, None)
        tables = ("Tickets_ibfk_1", "Tickets_ibfk_2")
        desk.run(
            connection, 'ALTER TABLE "Tickets" ' + ", ".join(f'DROP FOREIGN KEY "{name}"' for name in tables)
        )
        desk.run(connection, 'ALTER TABLE "Tickets" ENGINE=MyISAM')
        mapping = TicketMapping.whaticket(whaticket.reflected(connection))

    assert "MyISAM" in seen(audited(place, mapping), Check.TRANSACTIONS, Level.FINDING).text


def test_our_own_tables_are_sound_from_the_first_day(place: Place) -> None:
    """metadata.create_all makes what the audit asks for."""
    DEFAULT_MAPPING.metadata.create_all(place.engine)

    assert () == audited(place, DEFAULT_MAPPING).findings


def test_groups_are_compared_with_each_other_where_contacts_do_not_say_what_they_are(place: Place) -> None:
    """A contact with tickets as a group and as a person is a finding."""
    mapping = place.whaticket(whaticket.SAAS, whaticket.NONE)
    with place.begin() as connection:
        for group in (False, True):
            whaticket.insert(connection, companyId=1, isGroup=group)

    found = audited(place, mapping)

    assert seen(found, Check.GROUPS, Level.FINDING).examples == (
        {"company_id": 1, "contact_id": whaticket.PERSON},
    )


def test_no_name_and_no_number_is_in_an_audit(place: Place) -> None:
    """Whatever is found, the JSON holds ids, counts and words of statuses."""
    mapping = opened(
        place, 'UPDATE "Tickets" SET "isGroup" = (1 = 1), "companyId" = 3, status = \'odd\' WHERE id < 50'
    )

    written = json.dumps(audited(place, mapping).as_json())

    assert "Secret" not in written
    assert "55119999" not in written
    assert "hello" not in written


def test_the_number_of_statements_does_not_depend_on_the_size(place: Place) -> None:
    """The database counts: a desk five times as large is asked no more."""
    counts = []
    for size in (SMALL, desk.Size(tickets=1000, duplicates=30)):
        with place.begin() as connection:
            whaticket.drop_all(connection)
        mapping = opened(place, size=size)
        sent: list[str] = []
        event.listen(place.engine, "before_cursor_execute", lambda *args, sent=sent: sent.append(args[2]))
        audited(place, mapping, examples=3)
        counts.append(len(sent))

    assert counts[0] == counts[1]


def test_progress_is_told_from_nothing_to_all(place: Place) -> None:
    """Each check is announced once, and at the end all are done."""
    told: list[tuple[int, int]] = []

    audited(place, opened(place), progress=lambda done, total, _: told.append((done, total)))

    total = told[0][1]
    assert [(done, total) for done in range(total + 1)] == told


@pytest.mark.parametrize("database", ["sqlite"])
def test_what_cannot_be_looked_at_is_a_typed_error(place: Place) -> None:
    """No Connection, no table, no right: nothing of the driver's leaves unnamed."""
    mapping = opened(place)
    with pytest.raises(MappingError, match="a Connection is needed"):
        audit(place.engine, mapping)  # type: ignore[arg-type]
    with place.begin() as connection:
        desk.run(connection, 'ALTER TABLE "Tickets" RENAME TO "Others"')
    with pytest.raises(MappingError, match="there is no table"):
        audited(place, mapping)
    with place.begin() as connection:
        desk.run(connection, 'CREATE TABLE "Tickets" (id INTEGER PRIMARY KEY)')
    with pytest.raises(MappingError, match=r"no column Tickets.status \(status\)"):
        audited(place, mapping)


def test_the_scheme_of_the_mapping_decides_what_is_active(place: Place) -> None:
    """With rating among the active words its tickets are counted as such."""
    opened(place, "UPDATE \"Tickets\" SET status = 'rating' WHERE id IN (1, 2)")
    with place.engine.connect() as connection:
        table = whaticket.reflected(connection)
        mapping = TicketMapping.whaticket(
            table, statuses=StatusScheme(active=frozenset({"open", "pending", "rating"}))
        )

    found = audited(place, mapping)

    assert [Level.OK] == levels(found, Check.STATUSES)
    assert found.active == 21
