"""The presets: their names, their sources, and that each decides as its desk does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from tests.support.samples import HOUR, NOW, TICK, a_closed_ticket, a_message
from ticketrouter import Effect, MessageKind, Outcome, Scope, Snapshot, TicketRouter, decide, presets
from ticketrouter.memory import InMemoryTicketRepository

NAMES = {
    "default", "whaticket-community", "whaticket-saas", "ticketz", "multi100", "press-ticket", "chatwoot-single",
    "chatwoot-multi", "zammad-same", "zammad-new", "papercups", "rocketchat",
}  # fmt: skip
YEARS = timedelta(days=3000)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

each_preset = pytest.mark.parametrize("preset", presets.ALL.values(), ids=presets.ALL)


def test_the_presets_are_those_of_the_known_desks():
    """Each stands under its own name."""
    assert set(presets.ALL) == NAMES
    assert [preset.name for preset in presets.ALL.values()] == list(presets.ALL)


def test_the_presets_cannot_be_changed():
    """They are data for reading."""
    with pytest.raises(TypeError):
        presets.ALL["default"] = presets.ALL["ticketz"]  # type: ignore[index]


@each_preset
def test_a_preset_says_what_it_was_read_from(preset):
    """One sentence, ended."""
    assert len(preset.source) > 40
    assert preset.source.endswith(".")


@each_preset
def test_every_known_desk_has_one_conversation_per_connection(preset):
    """No known desk joins connections, in groups either."""
    groups = preset.policy.groups

    assert preset.policy.scope is Scope.CONNECTION
    assert groups is None or groups.scope is Scope.CONNECTION


# The preset; a group or not; how long ago the ticket was closed; what becomes of it; agent and queue kept.
REOPENED, CREATED = Outcome.REOPENED, Outcome.CREATED
DESKS: list[tuple[str, bool, timedelta, Outcome, bool, bool]] = [
    ("default", False, timedelta(0), CREATED, False, False),
    ("default", True, timedelta(0), CREATED, False, False),
    ("whaticket-community", False, 2 * HOUR, REOPENED, False, True),
    ("whaticket-community", False, 2 * HOUR + TICK, CREATED, False, False),
    ("whaticket-community", True, YEARS, REOPENED, False, True),
    ("whaticket-saas", False, YEARS, REOPENED, False, False),
    ("whaticket-saas", True, YEARS, REOPENED, False, False),
    ("ticketz", False, timedelta(0), CREATED, False, False),
    ("ticketz", True, YEARS, REOPENED, False, True),
    ("multi100", False, 30 * MINUTE, REOPENED, True, True),
    ("multi100", False, 30 * MINUTE + TICK, CREATED, False, False),
    ("multi100", True, 30 * MINUTE, REOPENED, True, True),
    ("multi100", True, 30 * MINUTE + TICK, CREATED, False, False),
    ("press-ticket", False, 10 * SECOND, REOPENED, False, True),
    ("press-ticket", False, 10 * SECOND + TICK, CREATED, False, False),
    ("press-ticket", True, YEARS, REOPENED, False, True),
    ("chatwoot-single", False, YEARS, REOPENED, True, True),
    ("chatwoot-multi", False, timedelta(0), CREATED, False, False),
    ("zammad-same", False, YEARS, REOPENED, True, True),
    ("zammad-new", False, timedelta(0), CREATED, False, False),
    ("papercups", False, YEARS, REOPENED, True, True),
    ("rocketchat", False, timedelta(0), CREATED, False, False),
]


@pytest.mark.parametrize(
    ("name", "in_group", "age", "outcome", "keeps_user", "keeps_queue"),
    DESKS,
    ids=[
        f"{name}-{'group' if group else 'direct'}-{age}-{outcome}" for name, group, age, outcome, *_ in DESKS
    ],
)
def test_a_preset_treats_a_closed_ticket_as_its_desk_does(
    name, in_group, age, outcome, keeps_user, keeps_queue
):
    """Reopened or left alone by its age; agent and queue kept or cleared."""
    message = a_message(group_id=9 if in_group else None)
    closed = a_closed_ticket(contact_id=message.key.contact_id, closed_at=NOW - age)

    decision: Any = decide(message, Snapshot(latest_closed=closed), presets.ALL[name].policy, NOW)

    assert (decision.outcome, decision.user_id is not None, decision.queue_id is not None) == (
        outcome,
        keeps_user,
        keeps_queue,
    )


@each_preset
@pytest.mark.parametrize("group_id", [None, 9], ids=["direct", "group"])
def test_no_desk_opens_a_ticket_for_a_reaction_or_a_farewell(preset, group_id):
    """What users complain of happens under no preset: both are notices."""
    message = a_message(kind=MessageKind.NOTICE, group_id=group_id)
    closed = a_closed_ticket(contact_id=message.key.contact_id, closed_at=NOW)

    decision = decide(message, Snapshot(latest_closed=closed), preset.policy, NOW)

    assert decision.outcome is Outcome.IGNORED


LINE = {"whaticket-community", "whaticket-saas", "ticketz", "multi100", "press-ticket"}


@each_preset
@pytest.mark.parametrize("group_id", [None, 9], ids=["direct", "group"])
def test_the_companys_own_phone_opens_a_ticket_in_the_whaticket_line_alone(preset, group_id):
    """With nothing unread; elsewhere it only joins what is active."""
    router = TicketRouter(InMemoryTicketRepository(statuses=preset.statuses), preset.policy)

    result = router.resolve(a_message(kind=MessageKind.ECHO, group_id=group_id))

    assert result.outcome is (Outcome.CREATED if preset.name in LINE else Outcome.IGNORED)
    assert result.outcome is Outcome.IGNORED or result.ticket.unread_messages == 0


@each_preset
def test_no_desk_that_wakes_tickets_lets_its_own_messages_open_them(preset):
    """What may open a ticket wakes it, too: the company's own word must not."""
    policies = [preset.policy, preset.policy.groups or preset.policy]

    assert not preset.statuses.wakes or {each.effects[MessageKind.ECHO] for each in policies} == {
        Effect.ATTACH
    }


# The preset; which word becomes which by a message; the words that no message reopens.
SLEEP_AND_END: dict[str, tuple[dict[str, str], set[str]]] = {
    "chatwoot-single": ({"snoozed": "open"}, set()),
    "chatwoot-multi": ({"snoozed": "open"}, set()),
    "zammad-same": ({"pending reminder": "open", "pending close": "open"}, {"merged", "removed"}),
    "zammad-new": ({"pending reminder": "open", "pending close": "open"}, {"merged", "removed"}),
}


@each_preset
def test_a_preset_knows_the_words_that_wake_and_those_that_end_a_ticket(preset):
    """Those of its desk, and no others; whatever else is closed a message may reopen."""
    wakes, final = SLEEP_AND_END.get(preset.name, ({}, set()))

    assert (dict(preset.statuses.wakes), preset.statuses.final) == (wakes, final)
    assert preset.statuses.also_closed == set()


# The preset; the words of a new ticket, of a group's, of an accepted one, of a closed one; more active words.
WORDS = {
    "default": ("pending", "pending", "open", "closed", set()),
    "whaticket-community": ("pending", "pending", "open", "closed", set()),
    "whaticket-saas": ("pending", "pending", "open", "closed", set()),
    "ticketz": ("pending", "pending", "open", "closed", set()),
    "multi100": ("pending", "group", "open", "closed", {"chatbot", "nps", "lgpd"}),
    "press-ticket": ("pending", "pending", "open", "closed", set()),
    "chatwoot-single": ("open", "open", "open", "resolved", {"pending", "snoozed"}),
    "chatwoot-multi": ("open", "open", "open", "resolved", {"pending", "snoozed"}),
    "zammad-same": ("new", "new", "open", "closed", {"pending reminder", "pending close"}),
    "zammad-new": ("new", "new", "open", "closed", {"pending reminder", "pending close"}),
    "papercups": ("open", "open", "open", "closed", set()),
    "rocketchat": ("open", "open", "open", "closed", set()),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_preset_speaks_the_words_of_its_desk(name):
    """From the first message to the end, on a repository with those words."""
    preset = presets.ALL[name]
    new, group, accepted, closed, more = WORDS[name]
    router = TicketRouter(InMemoryTicketRepository(statuses=preset.statuses), preset.policy)

    words = [
        router.resolve(a_message()).ticket.status,
        router.resolve(a_message(group_id=9)).ticket.status,
        router.accept(1, 1, 5).status,
        router.close(1, 1).status,
    ]

    assert words == [new, group, accepted, closed]
    assert preset.statuses.active == {new, group, accepted, *more, preset.statuses.reopened}
    assert attrs.evolve(preset.statuses) == preset.statuses
