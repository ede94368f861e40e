"""The policies of known desks, as data.

Law of this file: no code but the table. Each preset says what its rule was read from; where a desk leaves a
window to a setting, the preset has the desk's default or, where there is none, a round figure, and says so.
What each decides is told case by case in `tests/cases`, one file per preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from attrs import frozen

from ticketrouter.choices import Effect, Policy, Reopen
from ticketrouter.model import MessageKind, StatusScheme

__all__ = ["ALL", "Preset"]


@frozen
class Preset:
    """How a known desk decides.

    Args:
        name: its name here.
        policy: what it has chosen.
        statuses: its words.
        source: what its rules were read from.
    """

    name: str
    policy: Policy
    statuses: StatusScheme
    source: str


_OWN_OPENS = {MessageKind.ECHO: Effect.OPEN}
"""The company's own phone opens and reopens tickets, with nothing unread: so it is in the whole Whaticket line."""
_CHATWOOT = StatusScheme(
    active=frozenset({"open", "pending", "snoozed"}),
    initial="open",
    reopened="open",
    accepted="open",
    closed="resolved",
    wakes={"snoozed": "open"},
)
_ZAMMAD = StatusScheme(
    active=frozenset({"new", "open", "pending reminder", "pending close"}),
    initial="new",
    reopened="open",
    accepted="open",
    closed="closed",
    final=frozenset({"merged", "removed"}),
    wakes={"pending reminder": "open", "pending close": "open"},
)
_OPEN_OR_CLOSED = StatusScheme(
    active=frozenset({"open"}), initial="open", reopened="open", accepted="open", closed="closed"
)

_PRESETS = (
    Preset(
        name="default",
        policy=Policy(),
        statuses=StatusScheme(),
        source="ticketrouter itself: one open ticket per contact and connection, a new one after closing.",
    ),
    Preset(
        name="whaticket-community",
        policy=Policy(
            reopen=Reopen.within(timedelta(hours=2)),
            groups=Policy(reopen=Reopen.always(), effects=_OWN_OPENS),
            effects=_OWN_OPENS,
        ),
        statuses=StatusScheme(),
        source=(
            "Whaticket community, FindOrCreateTicketService: a group's last ticket at any age, a person's for "
            "two hours after its last update (here after its closing, where the host keeps that time); the agent "
            "is cleared, the queue stays. wbotMessageListener: what the company writes on its own phone goes the "
            "same way with nothing unread; the farewell is left out: give it as a notice."
        ),
    ),
    Preset(
        name="whaticket-saas",
        policy=Policy(reopen=Reopen.always(keep_queue=False), effects=_OWN_OPENS),
        statuses=StatusScheme(),
        source=(
            "The Whaticket SaaS line, FindOrCreateTicketService: one row per contact, company and connection, "
            "reopened at any age, groups too; agent and queue are cleared. wbotMessageListener: what the company "
            "writes on its own phone goes the same way with nothing unread; the farewell is left out: give it as a "
            "notice."
        ),
    ),
    Preset(
        name="ticketz",
        policy=Policy(groups=Policy(reopen=Reopen.always(), effects=_OWN_OPENS), effects=_OWN_OPENS),
        statuses=StatusScheme(),
        source=(
            "ticketz, FindOrCreateTicketService: a group's last ticket at any age; a person's only where the "
            "company has set minutes for it, which is off by default, as here; the agent is cleared, the queue "
            "stays. wbotMessageListener: what the company writes on its own phone goes the same way with nothing "
            "unread; reactions and edits only find a ticket, and the farewell is left out: give these as notices."
        ),
    ),
    Preset(
        name="multi100",
        policy=Policy(reopen=Reopen.within(timedelta(minutes=30), keep_user=True), effects=_OWN_OPENS),
        statuses=StatusScheme(
            active=frozenset({"open", "pending", "group", "chatbot", "nps", "lgpd"}), initial_group="group"
        ),
        source=(
            "The Multi100 line, FindOrCreateTicketService: within the minutes that each connection sets (30 "
            "here, a round figure), agent and queue kept, as pending, groups too; a group's new ticket has the "
            "word group, as where the connection does not treat groups as tickets, which is its default. "
            "wbotMessageListener: what the company writes on its own phone goes the same way with nothing unread; "
            "give farewells and campaigns as notices."
        ),
    ),
    Preset(
        name="press-ticket",
        policy=Policy(
            reopen=Reopen.within(timedelta(seconds=10)),
            groups=Policy(reopen=Reopen.always(), effects=_OWN_OPENS),
            effects=_OWN_OPENS,
        ),
        statuses=StatusScheme(),
        source=(
            "Press-Ticket, FindOrCreateTicketService: a group's last ticket at any age, a person's within the "
            "seconds of one setting (10 here, as a new installation has); the agent is cleared, the queue stays. "
            "wbotMessageListener: what the company writes on its own phone goes the same way with nothing unread, "
            "the farewell too, which we do not copy: give it as a notice."
        ),
    ),
    Preset(
        name="chatwoot-single",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=_CHATWOOT,
        source=(
            "Chatwoot, an inbox locked to a single conversation (set_conversation): the last one is always reopened, "
            "with its agent, as open (as pending where the inbox has a bot, which is not told here). message.rb, "
            "reopen_conversation: an incoming message makes a snoozed one open; one of the company does neither. It "
            "has no groups: they are people here."
        ),
    ),
    Preset(
        name="chatwoot-multi",
        policy=Policy(),
        statuses=_CHATWOOT,
        source=(
            "Chatwoot, an inbox not locked to a single conversation (set_conversation): always a new one after "
            "resolving. message.rb, reopen_conversation: an incoming message makes a snoozed one open, one of the "
            "company does not. It has no groups: they are people here."
        ),
    ),
    Preset(
        name="zammad-same",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=_ZAMMAD,
        source=(
            "Zammad, a group whose follow-ups are possible: all but closed, merged and removed is active; the owner "
            "stays, as by default; where follow-ups end n days after closing, take Reopen.within(timedelta(days=n)). "
            "ticket_states.rb and message.rb, update_ticket: a follow-up makes what waits (pending reminder, pending "
            "close) open, and leaves new as it is; merged and removed are final (Zammad leads a merged one to its "
            "target, here another begins)."
        ),
    ),
    Preset(
        name="zammad-new",
        policy=Policy(),
        statuses=_ZAMMAD,
        source=(
            "Zammad, a group whose follow-ups open a new ticket, and its chat channels (message.rb, find_ticket: "
            "neither closed, merged nor removed); update_ticket: a message makes what waits (pending reminder, "
            "pending close) open, and leaves new as it is; merged and removed are final."
        ),
    ),
    Preset(
        name="papercups",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=_OPEN_OR_CLOSED,
        source=(
            "Papercups, find_or_create_by_customer: a customer has one conversation per inbox, always the same, with "
            "its agent, until it is archived, two weeks after closing (a row condition of the mapping, as its source "
            "is)."
        ),
    ),
    Preset(
        name="rocketchat",
        policy=Policy(),
        statuses=_OPEN_OR_CLOSED,
        source=(
            "Rocket.Chat Omnichannel: a visitor's closed room stays closed, the next message opens another; its "
            "department is our connection."
        ),
    ),
)

ALL: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _PRESETS})
"""Every preset, by its name."""
