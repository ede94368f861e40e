"""What is remembered of a replay, and how programs read it.

Law of this file: values, and JSON that is a promise to programs (docs/reference/cli.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import define, field, frozen

from ticketrouter.checks import Id
from ticketrouter.cli.report import plain_id
from ticketrouter.cli.tally import Tally
from ticketrouter.model import Outcome, TicketKey
from ticketrouter.replay import Peak, Step, Totals

_MOST_SHOWN = 500


@frozen
class Difference:
    """A message of which two policies make different things.

    Args:
        line: where in the log it stands.
        step: what each policy made of it.
    """

    line: int
    step: Step

    @property
    def key(self) -> TicketKey:
        """The key of the message."""
        return self.step.message.key


@define
class Differences:
    """How many differences there were, and the first of them.

    Args:
        most: how many of them are held.
    """

    most: int = _MOST_SHOWN
    count: int = 0
    first: list[Difference] = field(factory=list[Difference])

    def add(self, difference: Difference) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < self.most:
            self.first.append(difference)


@frozen
class Result:
    """A whole replay.

    Args:
        log: the name of the log.
        close_after: after how long an idle ticket was closed; None: never.
        begin: the time of the first message; None: there was none.
        end: the time of the last message.
        totals: what each policy made of it, by the name of the policy.
        differences: where they differ.
        tally: what in the log was no message.
    """

    log: str
    close_after: timedelta | None
    begin: datetime | None
    end: datetime | None
    totals: Mapping[str, Totals]
    differences: Differences
    tally: Tally

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies."""
        return tuple(self.totals)

    @property
    def messages(self) -> int:
        """How many messages there were."""
        return sum(next(iter(self.totals.values())).outcomes.values())


def json_object(result: Result) -> str:
    """Return the result for programs."""
    return json.dumps(
        {
            "messages": result.messages,
            "begin": _time(result.begin),
            "end": _time(result.end),
            "close_after": None if result.close_after is None else result.close_after.total_seconds(),
            "differences": result.differences.count,
            "bad_lines": result.tally.bad_lines,
            "skipped": dict(sorted(result.tally.skipped.items())),
            "policies": {name: _totals(totals) for name, totals in result.totals.items()},
        },
        indent=2,
    )


def json_line(difference: Difference, policies: tuple[str, ...]) -> str:
    """Return the line of a difference for programs."""
    step, key = difference.step, difference.key
    return json.dumps(
        {
            "line": difference.line,
            "message_id": plain_id(step.message.message_id),
            "company_id": plain_id(key.company_id),
            "contact_id": plain_id(key.contact_id),
            "connection_id": plain_id(key.connection_id),
            "at": _time(step.at),
            "policies": {
                name: {
                    "outcome": answer.outcome.value,
                    "reason": answer.reason.value,
                    "ticket_id": plain_id(answer.ticket_id),
                }
                for name, answer in zip(policies, step.answers, strict=True)
            },
        }
    )


def longest_first(totals: Totals) -> list[tuple[Id, Id, Peak]]:
    """List the longest queue of each connection: company, connection, and its peak, the highest first."""
    queues = [(company, connection, peak) for (company, connection), peak in totals.longest_on.items()]
    return sorted(queues, key=lambda queue: (-queue[2].count, str(queue[0]), str(queue[1])))


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        **{outcome.value: totals.outcomes[outcome] for outcome in Outcome},
        "closed": totals.closed,
        "active": totals.active,
        "longest_queue": _peak(totals.longest),
        "longest_queues": [
            {"company_id": plain_id(company), "connection_id": plain_id(connection), **_peak(peak)}
            for company, connection, peak in longest_first(totals)
        ],
        "contacts_on_several_connections": {
            **_peak(totals.on_several),
            "at_any_time": totals.ever_on_several,
        },
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {"count": peak.count, "at": _time(peak.at)}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
