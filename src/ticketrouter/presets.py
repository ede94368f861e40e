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

from ticketrouter.choices import Policy, Reopen
from ticketrouter.model import StatusScheme


@frozen
class Preset:
    """How a known desk decides.

    Args:
        name: its name here.
        policy: what it has chosen.
        statuses: its words.
        source: what its rule was read from.
    """

    name: str
    policy: Policy
    statuses: StatusScheme
    source: str


_PRESETS = (
    Preset(
        name="default",
        policy=Policy(),
        statuses=StatusScheme(),
        source="ticketrouter itself: one open ticket per contact and connection, a new one after closing.",
    ),
    Preset(
        name="whaticket-community",
        policy=Policy(reopen=Reopen.within(timedelta(hours=2)), groups=Policy(reopen=Reopen.always())),
        statuses=StatusScheme(),
        source=(
            "Whaticket community, FindOrCreateTicketService: a group's last ticket at any age, a person's for "
            "two hours after its last update (here after its closing, where the host keeps that time); the agent "
            "is cleared, the queue stays."
        ),
    ),
    Preset(
        name="whaticket-saas",
        policy=Policy(reopen=Reopen.always(keep_queue=False)),
        statuses=StatusScheme(),
        source=(
            "The Whaticket SaaS line, FindOrCreateTicketService: one row per contact, company and connection, "
            "reopened at any age; agent and queue are cleared."
        ),
    ),
    Preset(
        name="ticketz",
        policy=Policy(groups=Policy(reopen=Reopen.always())),
        statuses=StatusScheme(),
        source=(
            "ticketz, FindOrCreateTicketService: a group's last ticket at any age; a person's only where the "
            "company has set minutes for it, which is off by default, as here; the agent is cleared, the queue "
            "stays."
        ),
    ),
    Preset(
        name="multi100",
        policy=Policy(reopen=Reopen.within(timedelta(minutes=30), keep_user=True)),
        statuses=StatusScheme(
            active=frozenset({"open", "pending", "group", "chatbot", "nps", "lgpd"}), initial_group="group"
        ),
        source=(
            "The Multi100 line, FindOrCreateTicketService: within the minutes that each connection sets (30 "
            "here, a round figure), agent and queue kept, as pending, groups too; a group's new ticket has the "
            "word group, as where the connection does not treat groups as tickets, which is its default."
        ),
    ),
    Preset(
        name="press-ticket",
        policy=Policy(reopen=Reopen.within(timedelta(seconds=10)), groups=Policy(reopen=Reopen.always())),
        statuses=StatusScheme(),
        source=(
            "Press-Ticket, FindOrCreateTicketService: a group's last ticket at any age, a person's within the "
            "seconds of one setting (10 here, as a new installation has); the agent is cleared, the queue stays."
        ),
    ),
    Preset(
        name="chatwoot-single",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=StatusScheme(
            active=frozenset({"open", "pending", "snoozed"}),
            initial="open",
            reopened="open",
            accepted="open",
            closed="resolved",
        ),
        source=(
            "Chatwoot, an inbox locked to a single conversation: the last one is always reopened, with its agent, "
            "as open (as pending where the inbox has a bot, which is not told here)."
        ),
    ),
    Preset(
        name="chatwoot-multi",
        policy=Policy(),
        statuses=StatusScheme(
            active=frozenset({"open", "pending", "snoozed"}),
            initial="open",
            reopened="open",
            accepted="open",
            closed="resolved",
        ),
        source="Chatwoot, an inbox not locked to a single conversation: always a new one after resolving.",
    ),
    Preset(
        name="zammad-same",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=StatusScheme(
            active=frozenset({"new", "open", "pending reminder", "pending close"}),
            initial="new",
            reopened="open",
            accepted="open",
            closed="closed",
        ),
        source=(
            "Zammad, a group whose follow-ups are possible: all but closed, merged and removed is active; the owner "
            "stays, as by default; where follow-ups end n days after closing, take Reopen.within(timedelta(days=n))."
        ),
    ),
    Preset(
        name="zammad-new",
        policy=Policy(),
        statuses=StatusScheme(
            active=frozenset({"new", "open", "pending reminder", "pending close"}),
            initial="new",
            reopened="open",
            accepted="open",
            closed="closed",
        ),
        source="Zammad, a group whose follow-ups open a new ticket.",
    ),
    Preset(
        name="papercups",
        policy=Policy(reopen=Reopen.always(keep_user=True)),
        statuses=StatusScheme(
            active=frozenset({"open"}), initial="open", reopened="open", accepted="open", closed="closed"
        ),
        source="Papercups: a customer has one conversation per inbox, always the same, with its agent.",
    ),
    Preset(
        name="rocketchat",
        policy=Policy(),
        statuses=StatusScheme(
            active=frozenset({"open"}), initial="open", reopened="open", accepted="open", closed="closed"
        ),
        source=(
            "Rocket.Chat Omnichannel: a visitor's closed room stays closed, the next message opens another; its "
            "department is our connection."
        ),
    ),
)

ALL: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _PRESETS})
"""Every preset, by its name."""
