"""A case tried on its desk's own engine: what became of the message, and of every column.

Law of this file: rows go in and come out by plain SQL, never by the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from attrs import frozen
from sqlalchemy import Connection, Engine, Table, create_engine, text

from tests.hosts.desks import Case, Desk
from tests.support.backends import Databases
from ticketrouter import TicketRouter, TicketRouterError
from ticketrouter.model import Resolution
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, configure_sqlite
from ticketrouter.sqlalchemy.types import encode_id

Row = Mapping[str, Any]
Rows = dict[str, Row]


@frozen
class Opened:
    """A desk with its tables, on its engine."""

    desk: Desk
    engine: Engine
    table: Table


@frozen
class Tried:
    """What came of a case.

    Args:
        complaints: what is not as the desk does it, a line each; none: it is all the same.
        finds: whether the message found its ticket.
    """

    finds: bool
    complaints: tuple[str, ...]


@contextmanager
def opened(databases: Databases, desk: Desk) -> Iterator[Opened]:
    """Make the desk's tables in a new database."""
    url = databases.new(desk.database)
    options: dict[str, Any] = {}
    if desk.database == "mariadb":
        mode = desk.said.get("sql_mode")
        options["client_flag"] = 1 << 16  # several statements at once
        if mode is not None:
            options["init_command"] = f"SET SESSION sql_mode = '{mode}'"
    engine = create_engine(url, connect_args=options)
    try:
        if desk.database == "sqlite":
            configure_sqlite(engine)
        _run_script(engine, desk)
        yield Opened(desk, engine, desk.reflected(engine))
    finally:
        engine.dispose()
        databases.drop(url)


def _run_script(engine: Engine, desk: Desk) -> None:
    with closing(engine.raw_connection()) as raw:
        driver: Any = raw.driver_connection
        if desk.database == "sqlite":
            driver.executescript(desk.schema)
            return
        with driver.cursor() as cursor:
            cursor.execute(desk.schema)
            while cursor.nextset():
                pass
            if desk.database == "postgresql":
                # The cases' own rows have low numbers.
                number = "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), 1000)"
                cursor.execute(number, (desk.said["table"], desk.said["fields"]["id"]))
        driver.commit()


def tried(place: Opened, case: Case) -> Tried:
    """Let the message come, in a transaction that is rolled back."""
    mapping = place.desk.mapping(place.table)
    mapping.message_ids.metadata.create_all(place.engine)
    with place.engine.connect() as connection:
        for name, row in case.rows:
            _insert(connection, name, row)
        if case.expected["outcome"] == "duplicate":
            _arrived(connection, mapping, case)
        before = _rows(connection, mapping)
        try:
            found: Resolution | TicketRouterError = TicketRouter(
                SQLAlchemyTicketRepository(connection, mapping),
                place.desk.policy_at(connection),
                clock=lambda: case.now,
            ).resolve(place.desk.message(case, mapping))
        except TicketRouterError as error:
            found = error
        after = {} if isinstance(found, TicketRouterError) else _rows(connection, mapping)
        connection.rollback()
    return _judged(case, found, before, after)


def _arrived(connection: Connection, mapping: TicketMapping, case: Case) -> None:
    """Record the id of the case's message with its ticket, as a first delivery would have."""
    message = case.desk.message(case, mapping)
    connection.execute(
        mapping.message_ids.insert().values(
            company_id=message.company_id,
            connection_id=message.connection_id,
            message_id=f"{mapping.table.name}\0{encode_id(message.message_id or '')}",
            ticket_id=case.expected["row"],
            routed_at=case.now,
        )
    )


def _insert(connection: Connection, name: str, row: Row) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    values = {
        f"v{n}": json.dumps(value) if isinstance(value, dict) else value
        for n, value in enumerate(row.values())
    }
    names = ", ".join(map(quote, row))
    connection.execute(
        text(f"INSERT INTO {quote(name)} ({names}) VALUES ({', '.join(f':{each}' for each in values)})"),
        values,
    )


def _rows(connection: Connection, mapping: TicketMapping) -> Rows:
    quote = connection.dialect.identifier_preparer.quote_identifier
    found = connection.execute(text(f"SELECT * FROM {quote(mapping.table.name)}")).mappings()
    key = mapping.columns["id"].name
    return {str(row[key]): {name: _plain(value) for name, value in row.items()} for row in found}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; a time of any kind as one text."""
    match value:
        case datetime():
            value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return value.isoformat(sep=" ")
        case UUID():
            return str(value)
        case str():
            try:
                return (
                    _plain(datetime.fromisoformat(value)) if len(value) >= len("2026-01-01 00:00") else value
                )
            except ValueError:
                return value
        case _:
            return value


def _judged(case: Case, found: Resolution | TicketRouterError, before: Rows, after: Rows) -> Tried:
    expected = case.expected
    if isinstance(found, TicketRouterError):
        return Tried(False, (f"{type(found).__name__}: {found}",))
    ours = None if found.outcome == "ignored" else str(found.ticket.id)
    new = sorted(after.keys() - before.keys())
    said = [] if found.outcome == expected["outcome"] else [f"{found.outcome}, not {expected['outcome']}"]
    row = str(expected["row"]) if expected["row"] is not None else None
    if row is not None and ours != row:
        said.append(f"ticket {ours}, not {row}")
    if len(new) != (expected["outcome"] == "created"):
        said.append(f"{len(new)} new rows")
    finds = not said
    if ours is not None and finds:
        said += [
            f"{name} is {after[ours].get(name)!r}, not {_plain(value)!r}"
            for name, value in expected["after"].items()
            if after[ours].get(name) != _plain(value)
        ]
    left = {str(each) for each in expected["untouched"]} | (before.keys() - {ours})
    said += [f"row {each} was changed" for each in sorted(left) if after.get(each) != before.get(each)]
    return Tried(finds, tuple(said))
