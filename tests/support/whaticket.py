"""The "Tickets" tables of the Whaticket line as public forks have them, by plain DDL.

Law of this file: it knows nothing of the library but the names of the unique rules; what is written here is what
a dump of such a database holds.
"""

from __future__ import annotations

import warnings
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, CursorResult, MetaData, Table, inspect, text
from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlalchemy.exc import SAWarning

from ticketrouter import StatusScheme, UniqueRule

DATABASES = ("postgresql", "mariadb", "sqlite")

PERSON, GROUP = 1, 2
"""The contacts that there are."""
CONNECTIONS = (10, 13)
AGENT = 7


@frozen
class Layout:
    """What differs from fork to fork besides the unique rule.

    Args:
        name: what it is called in a test's id.
        company: the column of the tenant; None: the community edition has none.
        uuid: None: no such column; "default": the database fills it; "required": whoever inserts must.
        epoch: whether there is a time of closing, in milliseconds since 1970.
        seconds: whether MariaDB keeps whole seconds only, as its plain DATETIME does.
    """

    name: str
    company: str | None = "companyId"
    uuid: str | None = None
    epoch: bool = False
    seconds: bool = False


SAAS = Layout("saas")
LAYOUTS = (
    SAAS,
    Layout("saas-uuid", uuid="default"),
    Layout("saas-uuid-required", uuid="required", seconds=True),
    Layout("community", company=None, seconds=True),
    Layout("izing", company="tenantId", epoch=True),
)


@frozen
class Rule:
    """A unique rule of the wild.

    Args:
        name: what it is called in a test's id.
        answer: what `detect_unique_rule` says of it.
        inside: what stands in CREATE TABLE.
        after: what follows it.
        databases: where it can be had.
        active: the statuses that it is about, where they are not the usual ones.
    """

    name: str
    answer: UniqueRule
    inside: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    databases: tuple[str, ...] = DATABASES
    active: frozenset[str] | None = None

    @property
    def statuses(self) -> StatusScheme:
        return StatusScheme() if self.active is None else StatusScheme(active=self.active)


def _constraint(columns: str, more: str = "") -> tuple[str, ...]:
    # One name for several rules, as the forks have it.
    return (f"CONSTRAINT contactid_companyid_unique UNIQUE ({columns}){more}",)


def _index(columns: str, where: str = "", name: str = "contactid_companyid_unique") -> tuple[str, ...]:
    return (f'CREATE UNIQUE INDEX {name} ON "Tickets" ({columns}){where and f" WHERE {where}"}',)


_TWO = '"contactId", "companyId"'
_THREE = '"contactId", "companyId", "whatsappId"'
_OPEN = "status IN ('open', 'pending')"
_OR_RATING = "status IN ('open', 'pending', 'rating')"
_JOINED = '"companyId" || \'-\' || "contactId" || \'-\' || "whatsappId"'
_PARTIAL = ("postgresql", "sqlite")
_PG, _MARIA = ("postgresql",), ("mariadb",)
_RATING = frozenset({"open", "pending", "rating"})

NONE = Rule("none", UniqueRule.NONE)
TWO = Rule("two-columns", UniqueRule.ONE_PER_CONTACT, _constraint(_TWO))
THREE = Rule("three-columns", UniqueRule.ONE_PER_CONNECTION, _constraint(_THREE))
NOT_CLOSED = Rule(
    "not-closed",
    UniqueRule.ACTIVE_PER_CONNECTION,
    after=_index(_THREE, "status <> 'closed'"),
    databases=_PARTIAL,
)
GENERATED = Rule(
    "generated-if",
    UniqueRule.ACTIVE_PER_CONNECTION,
    (
        f"active TINYINT AS (IF({_OPEN}, 1, NULL)) VIRTUAL",
        *_constraint(f"{_THREE}, active"),
    ),
    databases=_MARIA,
)

RULES = (
    NONE,
    TWO,
    THREE,
    NOT_CLOSED,
    GENERATED,
    Rule("vacuous", UniqueRule.NONE, _constraint(f"id, {_THREE}")),
    Rule("vacuous-index", UniqueRule.NONE, after=_index(f"{_TWO}, id")),
    Rule("two-columns-index", UniqueRule.ONE_PER_CONTACT, after=_index('"companyId", "contactId"')),
    Rule(
        "three-columns-index",
        UniqueRule.ONE_PER_CONNECTION,
        after=_index('"whatsappId", "companyId", "contactId"'),
    ),
    Rule(
        "two-and-three-columns",
        UniqueRule.ONE_PER_CONTACT,
        _constraint(_TWO),
        _index(_THREE, name="contactid_companyid_whatsappid_unique"),
    ),
    Rule(
        "three-columns-and-not-closed",
        UniqueRule.ONE_PER_CONNECTION,
        _constraint(_THREE),
        _index(_THREE, "status <> 'closed'", name="tickets_active"),
        databases=_PARTIAL,
    ),
    Rule(
        "in-open-pending",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index(_THREE, _OPEN),
        databases=_PARTIAL,
    ),
    Rule(
        "in-rating",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index(_THREE, _OR_RATING),
        databases=_PARTIAL,
        active=_RATING,
    ),
    Rule(
        "any-array",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index(
            '"whatsappId", "contactId", "companyId"', "(status)::text = ANY (ARRAY['pending'::text, 'open'])"
        ),
        databases=_PG,
    ),
    Rule(
        "or",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index('"companyId", "whatsappId", "contactId"', "status = 'open' OR 'pending' = status"),
        databases=_PARTIAL,
    ),
    Rule(
        "not-in",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index(_THREE, "status NOT IN ('closed')"),
        databases=_PARTIAL,
    ),
    # Right too, but over what is computed from the key: not taken for the rule, and not in the way of an anchor.
    Rule(
        "coalesce",
        UniqueRule.NONE,
        after=_index('"companyId", "contactId", COALESCE("whatsappId", 0)', "status <> 'closed'"),
        databases=_PARTIAL,
    ),
    Rule(
        "case-expression",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=_index(f"{_THREE}, (CASE WHEN {_OPEN} THEN 1 END)"),
        databases=_PARTIAL,
    ),
    Rule(
        "with-included-column",
        UniqueRule.ACTIVE_PER_CONNECTION,
        after=(f'CREATE UNIQUE INDEX tickets_active ON "Tickets" ({_THREE}) INCLUDE (id) WHERE {_OPEN}',),
        databases=_PG,
    ),
    Rule(
        "generated-stored-key",
        UniqueRule.NONE,
        (f'"activeKey" text GENERATED ALWAYS AS (CASE WHEN {_OPEN} THEN {_JOINED} END) STORED UNIQUE',),
        databases=_PG,
    ),
    Rule(
        "generated-case",
        UniqueRule.ACTIVE_PER_CONNECTION,
        (
            "\"isActive\" INT GENERATED ALWAYS AS (CASE WHEN status <> 'closed' THEN 1 ELSE NULL END) STORED",
            *_constraint('"isActive", "whatsappId", "contactId", "companyId"'),
        ),
        databases=_MARIA,
    ),
    Rule(
        "generated-rating",
        UniqueRule.ACTIVE_PER_CONNECTION,
        (
            f"active TINYINT AS (IF({_OR_RATING}, 1, NULL)) VIRTUAL",
            *_constraint(f"{_THREE}, active"),
        ),
        databases=_MARIA,
        active=_RATING,
    ),
    Rule(
        "generated-key",
        UniqueRule.NONE,
        (f"\"activeKey\" VARCHAR(100) AS (IF({_OR_RATING}, CONCAT_WS('-', {_THREE}), NULL)) VIRTUAL UNIQUE",),
        databases=_MARIA,
        active=_RATING,
    ),
    Rule(
        "vacuous-deferrable",
        UniqueRule.NONE,
        _constraint(f"id, {_TWO}", " DEFERRABLE INITIALLY DEFERRED"),
        databases=_PG,
    ),
    # What follows looks right, and lets a ticket out, or in twice, while it is active.
    Rule(
        "waiting-only",
        UniqueRule.NONE,
        after=_index(_THREE, "\"userId\" IS NULL AND status <> 'closed'"),
        databases=_PARTIAL,
    ),
    Rule(
        "without-queue-only",
        UniqueRule.NONE,
        after=_index(_THREE, f'"queueId" IS NULL AND {_OPEN}'),
        databases=_PARTIAL,
    ),
    Rule(
        "generated-waiting-only",
        UniqueRule.NONE,
        (
            f'active TINYINT AS (IF("userId" IS NULL AND {_OPEN}, 1, NULL)) VIRTUAL',
            *_constraint(f"{_THREE}, active"),
        ),
        databases=_MARIA,
    ),
    Rule(
        "per-agent",
        UniqueRule.NONE,
        after=_index(f'{_THREE}, COALESCE("userId", 0)', "status <> 'closed'"),
        databases=_PARTIAL,
    ),
    Rule(
        "no-groups",
        UniqueRule.NONE,
        after=_index(_THREE, "NOT \"isGroup\" AND status <> 'closed'"),
        databases=_PARTIAL,
    ),
    Rule("not-unique", UniqueRule.NONE, after=('CREATE INDEX tickets_contact ON "Tickets" ("contactId")',)),
)

AND_GROUP = Rule("and-group", UniqueRule.NONE, _constraint(f'{_THREE}, "isGroup"'))
"""It lets a contact have two tickets, and nobody open a second one once the first is closed."""

_TYPES = {
    "postgresql": {
        "serial": "serial PRIMARY KEY",
        "flag": "boolean",
        "time": "timestamp with time zone",
        "uuid": "uuid",
        "new_uuid": "gen_random_uuid()",
    },
    "mariadb": {
        "serial": "INTEGER AUTO_INCREMENT PRIMARY KEY",
        "flag": "TINYINT(1)",
        "time": "DATETIME(6)",
        "uuid": "CHAR(36)",
        "new_uuid": "UUID()",
    },
    "sqlite": {
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "flag": "TINYINT(1)",
        "time": "DATETIME",
        "uuid": "CHAR(36)",
        "new_uuid": "(lower(hex(randomblob(16))))",
    },
}


def build(connection: Connection, layout: Layout = SAAS, rule: Rule = NONE) -> Table:
    """Make the tables of a fork in place of those that are there, and return the reflected tickets table."""
    drop_all(connection)
    database = connection.dialect.name
    types = _TYPES[database]
    time = "DATETIME" if layout.seconds and database == "mariadb" else types["time"]
    columns = [
        f"id {types['serial']}",
        "status VARCHAR(255) NOT NULL DEFAULT 'pending'",
        '"lastMessage" TEXT',
        '"contactId" INTEGER',
        '"userId" INTEGER',
        f'"createdAt" {time} NOT NULL',
        f'"updatedAt" {time} NOT NULL',
        '"whatsappId" INTEGER',
        f'"isGroup" {types["flag"]} NOT NULL DEFAULT {"false" if database == "postgresql" else "0"}',
        '"unreadMessages" INTEGER',
        '"queueId" INTEGER',
    ]
    if layout.company is not None:
        columns.append(f'"{layout.company}" INTEGER')
    if layout.uuid is not None:
        filled = f" DEFAULT {types['new_uuid']}" if layout.uuid == "default" else ""
        columns.append(f"uuid {types['uuid']} NOT NULL{filled}")
    if layout.epoch:
        columns.append('"closedAt" BIGINT')
    columns += [_for(layout, part) for part in rule.inside]
    columns += [
        'FOREIGN KEY ("contactId") REFERENCES "Contacts" (id) ON DELETE SET NULL ON UPDATE CASCADE',
        'FOREIGN KEY ("whatsappId") REFERENCES "Whatsapps" (id) ON DELETE SET NULL ON UPDATE CASCADE',
    ]
    _run(connection, f'CREATE TABLE "Contacts" (id {types["serial"]}, name VARCHAR(255) NOT NULL)')
    _run(connection, f'CREATE TABLE "Whatsapps" (id {types["serial"]}, name VARCHAR(255) NOT NULL)')
    _run(connection, f'CREATE TABLE "Tickets" ({", ".join(columns)})')
    for statement in rule.after:
        _run(connection, _for(layout, statement))
    for contact, name in ((PERSON, "Ana"), (GROUP, "Family")):
        _run(connection, f"INSERT INTO \"Contacts\" (id, name) VALUES ({contact}, '{name}')")
    for number in CONNECTIONS:
        _run(connection, f"INSERT INTO \"Whatsapps\" (id, name) VALUES ({number}, 'Number {number}')")
    return reflected(connection)


def reflected(connection: Connection, metadata: MetaData | None = None) -> Table:
    """Return the tickets table as the database describes it."""
    with warnings.catch_warnings():
        # SQLAlchemy reads over indexes on expressions, and over the width of an INTEGER; the library asks itself.
        warnings.simplefilter("ignore", SAWarning)
        return Table("Tickets", MetaData() if metadata is None else metadata, autoload_with=connection)


def drop_all(connection: Connection) -> None:
    """Drop every table there is, and the types that they leave behind."""
    found = inspect(connection)
    for name in sorted(found.get_table_names(), key=["Whatsapps", "Contacts"].count):
        _run(connection, f'DROP TABLE "{name}"')
    if isinstance(found, PGInspector):
        for enumeration in found.get_enums():
            _run(connection, f'DROP TYPE "{enumeration["name"]}"')


def insert(connection: Connection, **values: object) -> int:
    """Insert a ticket as the host does, and return its id."""
    given = {"status": "open", "contactId": PERSON, "whatsappId": 10, "unreadMessages": 0} | values
    now = "CURRENT_TIMESTAMP"
    names = ", ".join(f'"{name}"' for name in given)
    binds = ", ".join(f":{name}" for name in given)
    _run(
        connection,
        f'INSERT INTO "Tickets" ({names}, "createdAt", "updatedAt") VALUES ({binds}, {now}, {now})',
        **given,
    )
    return int(_run(connection, 'SELECT MAX(id) FROM "Tickets"').scalar_one())


def rows(connection: Connection) -> list[dict[str, object]]:
    """Read every row, by id, as the database has it."""
    return [dict(row._mapping) for row in _run(connection, 'SELECT * FROM "Tickets" ORDER BY id')]


def _run(connection: Connection, statement: str, **values: object) -> CursorResult[Any]:
    if connection.dialect.name == "mariadb":
        statement = statement.replace('"', "`")
    if not values:
        return connection.exec_driver_sql(statement)
    return connection.execute(text(statement), values)


def _for(layout: Layout, statement: str) -> str:
    """Leave out, or call otherwise, the column of the tenant."""
    if layout.company is not None:
        return statement.replace('"companyId"', f'"{layout.company}"')
    for with_comma in (', "companyId"', '"companyId", ', "\"companyId\" || '-' || "):
        statement = statement.replace(with_comma, "")
    return statement
