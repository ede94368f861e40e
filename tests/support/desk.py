"""A live desk of the Whaticket line, as large as a test wants it: made by the database itself, row by row of a series.

Law of this file: it knows nothing of the library. What is wrong with the desk is counted in `Faults`.
"""

from __future__ import annotations

from attrs import frozen
from sqlalchemy import Connection

COMPANIES = 4
CONNECTIONS = 8
"""Two of each company: connection n is of company n % COMPANIES."""
NAME = "contactid_companyid_unique"

VACUOUS = f'CONSTRAINT {NAME} UNIQUE ("contactId", "companyId", "whatsappId", id)'
"""The three-column rule, as its name and whoever wrote the migration have it: with the id in it, it forbids nothing."""
THREE = f'CONSTRAINT {NAME} UNIQUE ("contactId", "companyId", "whatsappId")'
TWO = f'CONSTRAINT {NAME} UNIQUE ("contactId", "companyId")'
WITH_STATUS = f'CONSTRAINT {NAME} UNIQUE ("contactId", "companyId", "whatsappId", status)'

_SERIAL = {
    "postgresql": "serial PRIMARY KEY",
    "mariadb": "INTEGER AUTO_INCREMENT PRIMARY KEY",
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
}
_TIME = {"postgresql": "timestamp with time zone", "mariadb": "DATETIME(6)", "sqlite": "DATETIME"}
_AT = {
    "postgresql": "timestamp '2026-01-01' + {} * interval '1 second'",
    "mariadb": "'2026-01-01' + INTERVAL {} SECOND",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', '2026-01-01', '+' || ({}) || ' seconds')",
}
_SERIES = {
    "postgresql": "generate_series(1, {}) AS series(n)",
    "mariadb": "(SELECT seq AS n FROM seq_1_to_{}) AS series",
    "sqlite": (
        "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {}) SELECT n FROM s) AS series"
    ),
}


@frozen
class Size:
    """How large a desk is.

    Args:
        tickets: how many tickets it has in all.
        duplicates: how many keys have a second active ticket.
    """

    tickets: int
    duplicates: int

    @property
    def contacts(self) -> int:
        return self.tickets // 5


def build(connection: Connection, size: Size, rule: str | None = VACUOUS) -> None:
    """Make a desk: a fifth of its keys are active, and some of those twice.

    With a rule that forbids duplicates, or a second ticket of a key, there are fewer tickets, one for each contact.
    """
    database = connection.dialect.name
    serial, time = _SERIAL[database], _TIME[database]
    flag = "TINYINT(1)" if database == "mariadb" else "BOOLEAN"
    run(connection, f'CREATE TABLE "Companies" (id {serial}, name VARCHAR(255))')
    run(
        connection,
        f'CREATE TABLE "Contacts" (id {serial}, name VARCHAR(255) NOT NULL, number VARCHAR(255) NOT NULL, '
        f'"isGroup" {flag} NOT NULL, "companyId" INTEGER)',
    )
    run(
        connection, f'CREATE TABLE "Whatsapps" (id {serial}, name VARCHAR(255) NOT NULL, "companyId" INTEGER)'
    )
    inside = [] if rule is None or (database == "sqlite") else [rule]
    columns = [
        f"id {serial}",
        "status VARCHAR(255) NOT NULL DEFAULT 'pending'",
        '"lastMessage" TEXT',
        '"contactId" INTEGER',
        '"userId" INTEGER',
        '"whatsappId" INTEGER',
        f'"isGroup" {flag} NOT NULL DEFAULT {"false" if database == "postgresql" else "0"}',
        '"unreadMessages" INTEGER',
        '"queueId" INTEGER',
        '"companyId" INTEGER',
        f'"createdAt" {time} NOT NULL',
        f'"updatedAt" {time} NOT NULL',
        *inside,
        'FOREIGN KEY ("contactId") REFERENCES "Contacts" (id) ON DELETE SET NULL ON UPDATE CASCADE',
        'FOREIGN KEY ("whatsappId") REFERENCES "Whatsapps" (id) ON DELETE SET NULL ON UPDATE CASCADE',
    ]
    run(connection, f'CREATE TABLE "Tickets" ({", ".join(columns)})')
    if rule is not None and database == "sqlite":
        # There a constraint cannot be dropped; its forks have an index.
        over = rule[rule.index("(") :]
        run(connection, f'CREATE UNIQUE INDEX {NAME} ON "Tickets" {over}')
    _fill(connection, size, one_each=rule in {THREE, TWO, WITH_STATUS})


def _fill(connection: Connection, size: Size, *, one_each: bool) -> None:
    database = connection.dialect.name

    def series(number: int) -> str:
        return _SERIES[database].format(number)

    def at(seconds: str) -> str:
        return _AT[database].format(seconds)

    false = "false" if database == "postgresql" else "0"
    group = "(n % 10 = 0)"
    half = "/" if database in {"postgresql", "sqlite"} else "DIV"
    run(connection, f"INSERT INTO \"Companies\" (id, name) SELECT n, 'Company' FROM {series(COMPANIES)}")
    run(
        connection,
        f'INSERT INTO "Whatsapps" (id, name, "companyId") SELECT n, \'Number\', 1 + n % {COMPANIES} FROM {series(CONNECTIONS)}',
    )
    run(
        connection,
        f'INSERT INTO "Contacts" (id, name, number, "isGroup", "companyId") '
        f"SELECT n, 'Secret Name', '5511999990000', {group}, 1 + n % {COMPANIES} FROM {series(size.contacts)}",
    )
    names = 'status, "lastMessage", "contactId", "whatsappId", "isGroup", "unreadMessages", "companyId", "createdAt", "updatedAt"'
    contact = f"(1 + (n - 1) % {size.contacts})"
    many = size.contacts if one_each else size.tickets - size.duplicates
    # Each contact writes to the two connections of its company in turn; its last ticket on one of them may be active.
    connection_of = f"(1 + ({contact} + {COMPANIES} * ((n - 1) {half} {size.contacts}) + {COMPANIES} - 1) % {CONNECTIONS})"
    connection_of = f"({connection_of})"
    last = "true" if one_each else f"n > {many} - {size.contacts}"
    status = f"CASE WHEN {last} AND {contact} % 5 < 2 THEN CASE {contact} % 5 WHEN 0 THEN 'open' ELSE 'pending' END ELSE 'closed' END"
    if database == "sqlite":
        status = status.replace("true", "1")
    run(
        connection,
        f"INSERT INTO \"Tickets\" ({names}) SELECT {status}, 'hello', {contact}, {connection_of}, "
        f"{contact} % 10 = 0, 0, 1 + {contact} % {COMPANIES}, {at('n')}, {at('n')} FROM {series(many)}",
    )
    if not one_each:
        # The second ticket of a key: opened by the race that nothing forbade.
        run(
            connection,
            f'INSERT INTO "Tickets" ({names}) SELECT \'pending\', \'hello\', "contactId", "whatsappId", "isGroup", '
            f'0, "companyId", "createdAt", {_later(database)} FROM "Tickets" WHERE status = \'open\' '
            f"ORDER BY id LIMIT {size.duplicates}",
        )
    _ = false


def _later(database: str) -> str:
    match database:
        case "postgresql":
            return "\"updatedAt\" + interval '1 minute'"
        case "mariadb":
            return '"updatedAt" + INTERVAL 1 MINUTE'
        case _:
            return "strftime('%Y-%m-%d %H:%M:%S.000000', \"updatedAt\", '+60 seconds')"


def run(connection: Connection, statement: str) -> None:
    """Send a statement; MariaDB has backticks for double quotes."""
    if connection.dialect.name == "mariadb":
        statement = statement.replace('"', "`")
    connection.exec_driver_sql(
        statement.replace("%", "%%") if connection.dialect.paramstyle in {"pyformat", "format"} else statement
    )
