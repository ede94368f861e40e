"""The application over the tables of a Whaticket fork, on SQLite and on MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define
from flask.testing import FlaskClient
from sqlalchemy import create_engine, event
from werkzeug.test import TestResponse

from examples.flask_whaticket.app import create_app
from examples.flask_whaticket.desk import Desk, Event
from tests.support import whaticket
from tests.support.backends import Databases
from ticketrouter import ContentionError

RULES = {"sqlite": whaticket.NOT_CLOSED, "mariadb": whaticket.GENERATED}
SALES, SUPPORT = whaticket.CONNECTIONS
ANA = whaticket.PERSON

# What SQLAlchemy says of SQLite's TINYINT(1) when it reflects one.
pytestmark = pytest.mark.filterwarnings("ignore:Could not instantiate type")


@define
class World:
    """The application under test, and what its screens have heard."""

    desk: Desk
    client: FlaskClient
    events: list[Event]

    def post(self, path: str, **body: Any) -> TestResponse:
        return self.client.post(path, json=body, headers={"Authorization": "Bearer channel"})

    def write(self, connection: int, **more: Any) -> Any:
        return self.post("/companies/1/messages", contactId=ANA, whatsappId=connection, **more).json

    def tickets(self) -> list[tuple[Any, ...]]:
        with self.desk.engine.begin() as connection:
            found = whaticket.rows(connection)
        return [(row["whatsappId"], row["status"], row["userId"]) for row in found]

    def heard(self) -> list[tuple[str, Any]]:
        return [(event.action, event.ticket.connection_id) for event in self.events]


@pytest.fixture(scope="module", params=RULES)
def world_of_module(request: pytest.FixtureRequest, databases: Databases) -> Iterator[World]:
    url = databases.new(request.param)
    engine = create_engine(url)
    with engine.begin() as connection:
        whaticket.build(connection, rule=RULES[request.param])
    engine.dispose()
    events: list[Event] = []
    desk = Desk(url, events.append)
    app = create_app(desk, "channel")
    assert app.test_cli_runner().invoke(args=["prepare"]).exit_code == 0
    yield World(desk, app.test_client(), events)
    desk.engine.dispose()
    databases.drop(url)


@pytest.fixture
def world(world_of_module: World) -> Iterator[World]:
    yield world_of_module
    world_of_module.events.clear()
    with world_of_module.desk.engine.begin() as connection:
        for table in (
            *world_of_module.desk.mapping.metadata.sorted_tables,
            world_of_module.desk.mapping.table,
        ):
            connection.execute(table.delete())


class TestMessages:
    def test_go_to_the_ticket_of_their_connection(self, world: World) -> None:
        """The trial with two connections: two tickets, and each message joins its own."""
        outcomes = [world.write(number)["outcome"] for number in (SALES, SUPPORT, SALES)]

        assert ["created", "created", "reused"] == outcomes
        assert [(SALES, "pending", None), (SUPPORT, "pending", None)] == world.tickets()
        assert [("create", SALES), ("create", SUPPORT), ("update", SALES)] == world.heard()

    def test_do_not_throw_back_what_an_agent_has(self, world: World) -> None:
        """An accepted ticket keeps its status and its agent."""
        ticket = world.write(SALES)["ticket"]["id"]
        world.post(f"/companies/1/tickets/{ticket}/accept", userId=whaticket.AGENT)

        assert "open" == world.write(SALES)["ticket"]["status"]
        assert [(SALES, "open", whaticket.AGENT)] == world.tickets()

    def test_delivered_again_are_not_told_again(self, world: World) -> None:
        """A redelivery gets the same ticket, counts nothing, and no screen hears of it."""
        first, again = (world.write(SALES, wid="m1") for _ in range(2))

        assert ("created", "duplicate") == (first["outcome"], again["outcome"])
        assert 1 == again["ticket"]["unreadMessages"]
        assert [("create", SALES)] == world.heard()

    def test_of_other_kinds_open_nothing(self, world: World) -> None:
        """A rating after closing has no ticket."""
        answer = world.write(SALES, kind="notice")

        assert ("ignored", None) == (answer["outcome"], answer["ticket"])
        assert [] == world.heard()

    def test_after_closing_reopen_as_the_line_does(self, world: World) -> None:
        """Within two hours the community edition goes on with the closed ticket, without its agent."""
        ticket = world.write(SALES)["ticket"]["id"]
        world.post(f"/companies/1/tickets/{ticket}/accept", userId=whaticket.AGENT)
        world.post(f"/companies/1/tickets/{ticket}/close")

        assert "reopened" == world.write(SALES)["outcome"]
        assert [(SALES, "pending", None)] == world.tickets()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"whatsappId": None},
            {"contactId": ""},
            {"contactId": True},
            {"contactId": [1]},
            {"kind": "shout"},
            {"unreadMessages": -1},
        ],
    )
    def test_that_are_wrong_are_refused(self, world: World, wrong: dict[str, Any]) -> None:
        """The answer names the field; nothing is written."""
        body = {"contactId": ANA, "whatsappId": SALES} | wrong
        refused = world.post("/companies/1/messages", **body)

        assert 400 == refused.status_code
        assert [] == world.tickets()

    def test_need_the_token(self, world: World) -> None:
        """A stranger is not even told what is missing."""
        assert 401 == world.client.post("/companies/1/messages", json={}).status_code


class TestEvents:
    def test_come_after_the_commit(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is told of a ticket finds it, from another connection too."""
        found = []

        def count(told: Event) -> None:
            found.append((told.action, len(world.tickets())))

        monkeypatch.setattr(world.desk, "_emit", count)
        world.write(SALES)

        assert [("create", 1)] == found

    def test_of_what_was_rolled_back_never_come(self, world: World) -> None:
        """A unit of work that had to begin again tells of its last run only."""
        failures = [ContentionError("made up")] * 2

        def fail(_: object) -> None:
            if failures:
                raise failures.pop()

        event.listen(world.desk.engine, "commit", fail)
        assert "created" == world.write(SALES)["outcome"]
        event.remove(world.desk.engine, "commit", fail)
        assert ["create"] == [action for action, _ in world.heard()]
        assert 1 == len(world.tickets())


class TestTheDesk:
    def test_transfers(self, world: World) -> None:
        """A ticket goes to another connection, unless the contact has one there."""
        first = world.write(SALES)["ticket"]["id"]
        moved: Any = world.post(f"/companies/1/tickets/{first}/transfer", whatsappId=SUPPORT).json
        second = world.write(SALES)["ticket"]["id"]
        blocked = world.post(f"/companies/1/tickets/{second}/transfer", whatsappId=SUPPORT)

        assert (first, SUPPORT) == (moved["id"], moved["whatsappId"])
        assert (409, {"error": "ERR_OTHER_OPEN_TICKET", "ticket": first}) == (
            blocked.status_code,
            blocked.json,
        )

    def test_lists_what_is_open(self, world: World) -> None:
        """The newest first, on every connection."""
        world.write(SALES)
        world.write(SUPPORT)
        headers = {"Authorization": "Bearer channel"}
        found: Any = world.client.get(f"/companies/1/contacts/{ANA}/tickets", headers=headers).json

        assert [SUPPORT, SALES] == [ticket["whatsappId"] for ticket in found]

    def test_finds_no_ticket_of_another_company(self, world: World) -> None:
        """A ticket of another company is as one that does not exist."""
        ticket = world.write(SALES)["ticket"]["id"]
        theirs = world.post(f"/companies/2/tickets/{ticket}/close")
        none = world.post("/companies/2/tickets/999999/close")

        assert (404, none.json) == (theirs.status_code, theirs.json)
