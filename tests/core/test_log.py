"""What the routers tell the logger: one line for each answer, and no id of a contact."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from ticketrouter import InboundMessage, Policy, Reopen, TicketKey, TicketRouter
from ticketrouter.decisions import Decision, Keep, Write
from ticketrouter.log import _LINES
from ticketrouter.memory import InMemoryTicketRepository

CANARY = "5511987654321"


def live(router: TicketRouter) -> None:
    """Let a ticket live through every answer there is."""
    on_10 = InboundMessage(1, CANARY, 10, message_id="m1")
    router.resolve(on_10)
    router.resolve(on_10)
    router.resolve(InboundMessage(1, CANARY, 13))
    router.resolve(InboundMessage(1, CANARY, 13))
    router.resolve(InboundMessage(1, "other", 13, kind="echo"))
    router.accept(1, 1, 7)
    router.close(1, 1)
    router.close(1, 1)
    router.resolve(InboundMessage(1, CANARY, 10))
    router.transfer(1, 1, 14)
    router.open(TicketKey(1, CANARY, 15))


def test_every_answer_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Each call is told in one line, with the ticket, its connection and what else is active."""
    caplog.set_level(logging.DEBUG, logger="ticketrouter")
    live(TicketRouter(InMemoryTicketRepository(), Policy(reopen=Reopen.always())))

    assert [
        "ticket #1 created on connection 10",
        "ticket #1 had this message before on connection 10",
        "ticket #2 created on connection 13; also active: #1 on connection 10",
        "ticket #2 reused on connection 13; also active: #1 on connection 10",
        "a message was ignored",
        "ticket #1 accepted on connection 10",
        "ticket #1 closed on connection 10",
        "ticket #1 left as it is on connection 10",
        "ticket #1 reopened on connection 10; also active: #2 on connection 13",
        "ticket #1 transferred on connection 14",
        "ticket #3 created on connection 15; also active: #1 on connection 14; also active: #2 on connection 13",
    ] == caplog.messages


def test_a_message_id_of_two_contacts_is_told_at_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The second message has joined nothing: its id was recorded for another contact's, whose ticket is answered."""
    caplog.set_level(logging.WARNING, logger="ticketrouter")
    router = TicketRouter(InMemoryTicketRepository())
    messages = [InboundMessage(1, contact, 10, message_id="m") for contact in ("other", "other", CANARY)]
    for message in (*messages, *messages):
        router.resolve(message)
    router.resolve_many(messages)

    assert ["ticket #1 had a message with this id before, from another contact, on connection 10"] * 3 == [
        record.getMessage() for record in caplog.records
    ]
    assert {logging.WARNING} == {record.levelno for record in caplog.records}
    assert "routed_for_another_contact" == caplog.records[0].__dict__["reason"]
    assert CANARY not in str([vars(record) for record in caplog.records])


def test_only_new_and_reopened_tickets_are_told_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """At INFO there is a line for each ticket that appears, and none for what happens all the time."""
    caplog.set_level(logging.INFO, logger="ticketrouter")
    live(TicketRouter(InMemoryTicketRepository(), Policy(reopen=Reopen.always())))

    assert ["created", "created", "reopened", "created"] == [r.__dict__["outcome"] for r in caplog.records]


def test_the_fields_of_a_record_are_its_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """A structured handler finds outcome, reason and ids without reading the text."""
    caplog.set_level(logging.DEBUG, logger="ticketrouter")
    router = TicketRouter(InMemoryTicketRepository())
    router.open(TicketKey(1, CANARY, 10))
    router.resolve(InboundMessage(1, CANARY, 13))
    record = caplog.records[-1].__dict__

    expected = {
        "outcome": "created",
        "reason": "no_active_ticket",
        "ticket_id": 2,
        "company_id": 1,
        "connection_id": 13,
        "other_active": [1],
    }
    assert expected == {name: record[name] for name in expected}


def test_no_id_of_a_contact_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """An id of a contact may be a telephone number: it stands in no line and in no field."""
    caplog.set_level(logging.DEBUG, logger="ticketrouter")
    live(TicketRouter(InMemoryTicketRepository(), Policy(reopen=Reopen.always())))

    assert not [record for record in caplog.records if CANARY in str(record.__dict__)]


def test_an_id_cannot_begin_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """A line break in an id of a connection, which a stranger may have sent, does not forge a line of the log."""
    caplog.set_level(logging.DEBUG, logger="ticketrouter")
    TicketRouter(InMemoryTicketRepository()).resolve(InboundMessage(1, CANARY, "10\nERROR: forged"))

    assert [r"ticket #1 created on connection '10\nERROR: forged'"] == caplog.messages


def test_there_is_a_line_for_every_answer() -> None:
    """No answer of the policy or the desk is without words."""
    assert {*get_args(Decision), *get_args(Write), Keep} == set(_LINES)
