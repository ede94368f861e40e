"""The SQL of the guide in Portuguese, on the databases that its reader has: the page itself runs on SQLite.

Law of this file: the statements are the page's; here stand only the desk and how a block is found.
"""

from __future__ import annotations

import re

import pytest
from sqlalchemy import MetaData, Table, create_engine, text
from sqlalchemy.pool import NullPool

from tests.site.test_docs import DOCS
from tests.support import desk
from tests.support.backends import Databases
from ticketrouter import InboundMessage, TicketRouter
from ticketrouter.sqlalchemy import SQLAlchemyTicketRepository, TicketMapping, detect_unique_rule

PAGE = (DOCS / "pt-BR" / "whaticket.md").read_text(encoding="utf-8")
SIZE = desk.Size(tickets=1000, duplicates=20)


def of_page(pattern: str) -> str:
    """Return the one statement of the page that is described by a pattern with a group."""
    (found,) = re.findall(pattern, PAGE, re.DOTALL)
    return str(found)


DUPLICATES = of_page(r'DUPLICATAS = """(.*?)"""')
CLOSE = of_page(r'sql\("""(\s*UPDATE.*?)"""\)')
INDEX = {
    "postgresql": of_page(r'sql\("""(\s*CREATE UNIQUE INDEX.*?)"""\)'),
    "mariadb": of_page(r"```sql\n(.*?)```"),
}


@pytest.mark.parametrize("database", INDEX)
def test_the_guide_is_right_on_the_readers_database(databases: Databases, database: str) -> None:
    """Duplicates are found and closed, the index is built and seen, and the message test of the guide holds."""
    url = databases.new(database)
    engine = create_engine(url, poolclass=NullPool)

    def sql(statement: str) -> int:
        with engine.begin() as connection:
            return connection.execute(
                text(statement.replace('"', "`") if database == "mariadb" else statement)
            ).rowcount

    def mapping() -> TicketMapping:
        return TicketMapping.whaticket(Table("Tickets", MetaData(), autoload_with=engine, resolve_fks=False))

    with engine.begin() as connection:
        desk.build(connection, SIZE)

    assert sql(DUPLICATES) == SIZE.duplicates
    assert sql(CLOSE) == SIZE.duplicates
    assert sql(DUPLICATES) == 0
    sql(INDEX[database])
    mapping().metadata.create_all(engine)

    with engine.begin() as connection:
        assert detect_unique_rule(connection, mapping()) == "active_per_connection"
        router = TicketRouter(SQLAlchemyTicketRepository(connection, mapping()))
        first, second = (router.resolve(InboundMessage(1, 4, number, message_id="m")) for number in (4, 8))
        again = router.resolve(InboundMessage(1, 4, 4, message_id="m"))
        assert (first.outcome, second.outcome, again.outcome) == ("created", "created", "duplicate")
    databases.drop(url)
