"""The application on a real PostgreSQL, called as Meta and the agents' screen call it."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Coroutine, Iterator
from hashlib import sha256
from itertools import count
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from examples.fastapi_whatsapp.app import Settings, create_app
from examples.fastapi_whatsapp.tables import MAPPING, Number, StoredMessage
from tests.support.backends import Databases

SECRET, TOKEN = "app secret", "verify token"
SALES, SUPPORT = "106540352242922", "106540352242923"
TICKETS = MAPPING.table


class Desk:
    """The application under test, and a plain connection beside it."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient, engine: Engine) -> None:
        self._runner = runner
        self.client = client
        self.engine = engine

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(call)

    def post(self, path: str, **options: Any) -> httpx.Response:
        response: httpx.Response = self.run(self.client.post(path, **options))
        return response

    def deliver(self, body: Any) -> httpx.Response:
        return self.post("/webhook", **signed(body))

    def deliver_at_once(self, *bodies: Any) -> list[httpx.Response]:
        async def all_of_them() -> list[httpx.Response]:
            return await asyncio.gather(*(self.client.post("/webhook", **signed(body)) for body in bodies))

        responses: list[httpx.Response] = self.run(all_of_them())
        return responses

    def tickets(self) -> list[tuple[Any, ...]]:
        columns = TICKETS.c
        asked = select(columns.connection_id, columns.status, columns.unread_messages).order_by(columns.id)
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(asked)]

    def texts(self) -> list[str]:
        with Session(self.engine) as session:
            return list(session.scalars(select(StoredMessage.text).order_by(StoredMessage.id)))


@pytest.fixture(scope="module")
def desk_of_module(databases: Databases) -> Iterator[Desk]:
    url = databases.new("postgresql")
    shown = url.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    app = create_app(Settings(shown, SECRET, TOKEN))
    engine = create_engine(url)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://desk")
        yield Desk(runner, client, engine)
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
    engine.dispose()


@pytest.fixture
def desk(desk_of_module: Desk) -> Iterator[Desk]:
    with Session(desk_of_module.engine) as session, session.begin():
        session.add_all([Number(phone_number_id=SALES, company_id=1)])
        session.add_all([Number(phone_number_id=SUPPORT, company_id=1)])
    yield desk_of_module
    with desk_of_module.engine.begin() as connection:
        for table in reversed(MAPPING.metadata.sorted_tables):
            connection.execute(table.delete())


def signed(body: Any, secret: str = SECRET) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = hmac.new(secret.encode(), content, sha256).hexdigest()
    return {"content": content, "headers": {"X-Hub-Signature-256": f"sha256={signature}"}}


def message(id: str, sender: str = "5511988887777", **more: Any) -> dict[str, Any]:
    content = {"type": "text", "text": {"body": f"text of {id}"}}
    return {"id": id, "from": sender, "timestamp": "1764000000"} | content | more


def body(*messages: Any, number: str = SALES, field: str = "messages", **more: Any) -> dict[str, Any]:
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": number}}
    value |= {"messages": list(messages)} | more
    changes = [{"field": field, "value": value}]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}


class TestTheHandshake:
    def test_answers_with_the_challenge(self, desk: Desk) -> None:
        """Meta gets back what it sent, as plain text."""
        asked = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "1158201444"}
        response = desk.run(desk.client.get("/webhook", params=asked))

        assert (200, "1158201444") == (response.status_code, response.text)

    @pytest.mark.parametrize(
        "wrong", [{"hub.verify_token": "guessed"}, {"hub.verify_token": "é"}, {"hub.mode": "x"}]
    )
    def test_refuses_a_stranger(self, desk: Desk, wrong: dict[str, str]) -> None:
        """Without our token nothing is echoed."""
        asked = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "x"} | wrong
        response = desk.run(desk.client.get("/webhook", params=asked))

        assert response.status_code == 403


class TestTheSignature:
    @pytest.mark.parametrize("header", [None, "", "sha256=", "sha256=" + "0" * 64, "é"])
    def test_is_needed(self, desk: Desk, header: str | None) -> None:
        """A body that Meta has not signed is not read."""
        headers = {} if header is None else {"X-Hub-Signature-256": header.encode()}
        content = json.dumps(body(message("a"))).encode()
        response = desk.post("/webhook", content=content, headers=headers)

        assert response.status_code == 403
        assert [] == desk.tickets()

    def test_is_of_this_body_and_secret(self, desk: Desk) -> None:
        """A signature of another body, or by another secret, is none."""
        stolen = signed(body(message("a")))["headers"]
        content = json.dumps(body(message("b"))).encode()

        assert desk.post("/webhook", content=content, headers=stolen).status_code == 403
        assert desk.post("/webhook", **signed(body(message("a")), "another")).status_code == 403
        assert [] == desk.tickets()


class TestDeliveries:
    def test_number_by_number(self, desk: Desk) -> None:
        """Each number has its own ticket with the contact; the messages of one body join it."""
        first = desk.deliver(body(message("a"), message("b")))
        second = desk.deliver(body(message("c"), number=SUPPORT))

        assert {"created": 1, "reused": 1} == first.json()
        assert {"created": 1} == second.json()
        assert [(SALES, "pending", 2), (SUPPORT, "pending", 1)] == desk.tickets()
        assert ["text of a", "text of b", "text of c"] == desk.texts()

    def test_redelivered_are_harmless(self, desk: Desk) -> None:
        """The same body again changes nothing, also together with a new message."""
        desk.deliver(body(message("a"), message("b")))
        again = desk.deliver(body(message("b"), message("a"), message("c")))

        assert {"duplicate": 2, "reused": 1} == again.json()
        assert [(SALES, "pending", 3)] == desk.tickets()
        assert ["text of a", "text of b", "text of c"] == desk.texts()

    def test_at_the_same_moment(self, desk: Desk) -> None:
        """Workers with the same bodies, in different orders: one ticket each, every message once."""
        senders = [f"55119000000{n}" for n in range(6)]
        there = body(*(message(s, s) for s in senders))
        back = body(*(message(s, s) for s in reversed(senders)))
        responses = desk.deliver_at_once(*[there, back] * 4)

        assert {200} == {response.status_code for response in responses}
        assert [(SALES, "pending", 1)] * 6 == desk.tickets()
        assert 6 == len(desk.texts())

    def test_of_receipts_are_skipped(self, desk: Desk) -> None:
        """Statuses, and fields of other kinds, are taken and change nothing."""
        statuses = body(statuses=[{"id": "a", "status": "read", "recipient_id": "5511988887777"}])
        template = {"entry": [{"changes": [{"field": "message_template_status_update", "value": {"x": 1}}]}]}

        assert [{}, {}] == [desk.deliver(statuses).json(), desk.deliver(template).json()]
        assert [] == desk.tickets()

    def test_of_notices_and_echoes_open_nothing(self, desk: Desk) -> None:
        """A reaction, or what the company writes from its own phone, joins an open ticket or is ignored."""
        reaction = message("r", type="reaction")
        echo = body(field="smb_message_echoes", message_echoes=[message("e", SALES, to="5511988887777")])

        assert [{"ignored": 1}] * 2 == [desk.deliver(body(reaction)).json(), desk.deliver(echo).json()]
        desk.deliver(body(message("a")))
        assert {"reused": 1} == desk.deliver(echo).json()
        assert [(SALES, "pending", 1)] == desk.tickets()

    def test_in_a_group_belong_to_the_group(self, desk: Desk) -> None:
        """Two participants of a group share its ticket."""
        ana, bia = (message(name, name, group_id="family") for name in ("ana", "bia"))

        assert {"created": 1, "reused": 1} == desk.deliver(body(ana, bia)).json()

    def test_go_by_the_wa_id(self, desk: Desk) -> None:
        """A number with the ninth digit and one without it are one contact, where WhatsApp says so."""
        contacts = [{"wa_id": "551188887777"}]
        desk.deliver(body(message("a", "5511988887777"), contacts=contacts))

        assert {"reused": 1} == desk.deliver(body(message("b", "551188887777"), contacts=contacts)).json()

    def test_of_another_number_are_counted(self, desk: Desk) -> None:
        """A number that is no company's is no error: Meta would deliver it for days."""
        assert {"unknown number": 1} == desk.deliver(body(message("a"), number="1")).json()
        assert [] == desk.tickets()

    @pytest.mark.parametrize(
        "wrong",
        [
            b"no JSON",
            b"[]",
            {"entry": [{"changes": [{"field": "messages", "value": {"messages": []}}]}]},
            body(message("a"), {"id": "b", "timestamp": "1764000000"}),
            body(message("a"), message("b", timestamp="yesterday")),
        ],
    )
    def test_that_are_wrong_are_refused_whole(self, desk: Desk, wrong: Any) -> None:
        """A body with something in it that we do not understand leaves nothing behind."""
        assert 422 == desk.deliver(wrong).status_code
        assert [] == desk.tickets()


@pytest.fixture
def fail_at_commit(desk: Desk) -> Iterator[Callable[[str, str, int], None]]:
    """Make the next transactions that change a table fail at their COMMIT, with an SQLSTATE."""
    made = []
    numbers = count()

    def prepare(table: str, state: str, times: int) -> None:
        name = f"fail_{next(numbers)}"
        made.append((name, table))
        with desk.engine.begin() as connection:
            # A sequence counts on where its transaction is rolled back.
            connection.execute(text(f"CREATE SEQUENCE {name}"))
            connection.execute(
                text(f"""
                    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        IF nextval('{name}') <= {times} THEN
                            RAISE EXCEPTION 'at COMMIT' USING ERRCODE = '{state}';
                        END IF;
                        RETURN NULL;
                    END $$
                """)
            )
            connection.execute(
                text(f"""
                    CREATE CONSTRAINT TRIGGER {name} AFTER INSERT OR UPDATE ON {table}
                    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {name}()
                """)
            )

    yield prepare
    with desk.engine.begin() as connection:
        for name, table in made:
            connection.execute(text(f"DROP TRIGGER {name} ON {table}"))
            connection.execute(text(f"DROP FUNCTION {name}"))
            connection.execute(text(f"DROP SEQUENCE {name}"))


class TestTheCommit:
    def test_that_may_succeed_is_tried_again(
        self, desk: Desk, fail_at_commit: Callable[[str, str, int], None]
    ) -> None:
        """A serialization failure at COMMIT runs the whole unit of work again, and nothing is counted twice."""
        fail_at_commit("messages", "40001", 2)

        assert {"created": 1} == desk.deliver(body(message("a"))).json()
        assert [(SALES, "pending", 1)] == desk.tickets()
        assert ["text of a"] == desk.texts()

    def test_that_fails_is_told_to_meta(
        self, desk: Desk, fail_at_commit: Callable[[str, str, int], None]
    ) -> None:
        """A delivery that is not kept is not answered with 200, so it comes again, and is kept then."""
        fail_at_commit("messages", "P0001", 1)

        assert 500 == desk.deliver(body(message("a"))).status_code
        assert [] == desk.tickets()
        assert {"created": 1} == desk.deliver(body(message("a"))).json()

    def test_that_fails_is_told_to_the_agent(
        self, desk: Desk, fail_at_commit: Callable[[str, str, int], None]
    ) -> None:
        """The COMMIT of a request comes before its answer: nobody is told of a closing that did not happen."""
        desk.deliver(body(message("a")))
        path = f"/companies/1/tickets/{ticket_of(desk)}/close"
        fail_at_commit(TICKETS.name, "40001", 1)
        refused = desk.post(path)

        assert (503, "1") == (refused.status_code, refused.headers.get("Retry-After"))
        assert [(SALES, "pending", 1)] == desk.tickets()
        assert "closed" == desk.post(path).json()["status"]


def ticket_of(desk: Desk) -> int:
    found: int = desk.run(desk.client.get("/companies/1/contacts/5511988887777/tickets")).json()[0]["id"]
    return found


class TestTheDesk:
    def test_accepts_closes_and_reopens(self, desk: Desk) -> None:
        """The acts of an agent, and what stands against them."""
        desk.deliver(body(message("a")))
        path = f"/companies/1/tickets/{ticket_of(desk)}"

        assert 7 == desk.post(f"{path}/accept", params={"user_id": 7}).json()["user_id"]
        assert 409 == desk.post(f"{path}/accept", params={"user_id": 8}).status_code
        assert "closed" == desk.post(f"{path}/close").json()["status"]
        desk.deliver(body(message("b")))
        blocked = desk.post(f"{path}/reopen")
        assert (409, "ERR_OTHER_OPEN_TICKET") == (blocked.status_code, blocked.json()["error"])

    def test_sees_nothing_of_another_company(self, desk: Desk) -> None:
        """A ticket of another company is as one that does not exist."""
        desk.deliver(body(message("a")))
        theirs = desk.post(f"/companies/2/tickets/{ticket_of(desk)}/close")
        none = desk.post("/companies/2/tickets/999999999/close")

        assert (404, none.json()) == (theirs.status_code, theirs.json())
