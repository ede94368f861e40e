"""A replay as one page of HTML that needs nothing else: no network, no other file.

Law of this file: values in, a text out. Whatever comes from the log is escaped by Jinja, in the text of the page as
in its data. The plots are Vega-Lite: specifications are data, it draws SVG that a screen reader can name, and its
bundle is 0.9 MB where Bokeh's has 1.3 and Plotly's 4.8. No script of the page may load anything: its own security
policy forbids it, and names the only two scripts that run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import vl_convert
from attrs import asdict

from ticketrouter.cli.files import STANDARD_INPUT
from ticketrouter.cli.page import page
from ticketrouter.cli.replay.contacts import MOST_MESSAGES, Contact
from ticketrouter.cli.replay.result import Difference, Result, longest_first
from ticketrouter.cli.replay.tables import about, differences_text, facts, peak_text, time_text
from ticketrouter.cli.replay.timeline import Timeline
from ticketrouter.cli.report import id_text, plain_id
from ticketrouter.model import Outcome
from ticketrouter.replay import Peak, Totals

MOST_QUEUES = 50
"""How many connections are listed, those with the longest queues first."""

SHAPES = {
    Outcome.CREATED: "circle",
    Outcome.REOPENED: "triangle-up",
    Outcome.REUSED: "M-0.4,-2.4h0.8v4.8h-0.8z",
    Outcome.IGNORED: "M-0.9,-0.6l0.3,-0.3l0.6,0.6l0.6,-0.6l0.3,0.3l-0.6,0.6l0.6,0.6l-0.3,0.3l-0.6,-0.6l-0.6,0.6l-0.3,-0.3l0.6,-0.6z",
    Outcome.DUPLICATE: "diamond",
}
"""The mark of a message, by its outcome: a shape, for those who do not see a colour."""

_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_VERSION = "6.4"


def html(result: Result, timeline: Timeline, contacts: Sequence[Contact]) -> str:
    """Return the page.

    Args:
        result: what was found.
        timeline: the active tickets over time.
        contacts: the contacts to choose from.
    """
    numbers = {(each.company, each.contact): number for number, each in enumerate(contacts)}
    script, bundle = _script(), _bundle()
    return page(
        "replay.html",
        about=about(result),
        # Where the log lies is nobody's business who is sent the page.
        log=Path(result.log).name if result.log != STANDARD_INPUT else "standard input",
        verdict=differences_text(result),
        policies=result.policies,
        facts=_rows(result),
        queues=_queues(result),
        differences=[_difference(each, numbers) for each in result.differences.first],
        more=result.differences.count - len(result.differences.first),
        contacts=contacts,
        most_messages=MOST_MESSAGES,
        outcomes=list(Outcome),
        data=_data(result, timeline, contacts),
        bundle=bundle,
        script=script,
        hashes=" ".join(_hash(text) for text in (bundle, script)),
    )


def _data(result: Result, timeline: Timeline, contacts: Sequence[Contact]) -> dict[str, Any]:
    """Return what the script of the page draws."""
    measures = {
        "Tickets created": [each.outcomes[Outcome.CREATED] for each in result.totals.values()],
        "Tickets reopened": [each.outcomes[Outcome.REOPENED] for each in result.totals.values()],
        "Most tickets active at once": [each.longest.count for each in result.totals.values()],
        "Contacts ever on several connections": [each.ever_on_several for each in result.totals.values()],
    }
    return {
        "policies": result.policies,
        "begin": None if result.begin is None else _milliseconds(result.begin),
        "end": None if result.end is None else _milliseconds(result.end),
        "measures": [
            {"title": title, "spec": measure_spec(title, result.policies, values)}
            for title, values in measures.items()
        ],
        "timeline": timeline_spec(result, timeline),
        "lanes": [lanes_spec(number, result.policies) for number in range(len(result.policies))],
        "contacts": [asdict(each) for each in contacts],
    }


# --- the plots: specifications of Vega-Lite, without colours, which are the page's ------------------------------


def measure_spec(title: str, policies: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
    """Return bars, one for each policy, with their figures."""
    rows = [{"policy": name, "value": value} for name, value in zip(policies, values, strict=True)]
    said = ", ".join(f"{name} {value}" for name, value in zip(policies, values, strict=True))
    y: dict[str, Any] = {
        "field": "policy",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"ticks": False, "domain": False},
    }
    x = {
        "field": "value",
        "type": "quantitative",
        "title": None,
        "axis": None,
        # Room for the figure behind the longest bar.
        "scale": {"domain": [0, 1.3 * max(1, *values)]},
    }
    return {
        "$schema": _SCHEMA,
        "description": f"{title}: {said}",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 30 * len(policies),
        "data": {"values": rows},
        "encoding": {"y": y, "x": x},
        "layer": [
            {
                "mark": {"type": "bar", "size": 18, "cornerRadiusEnd": 3},
                "encoding": {"color": _colour(policies)},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 6},
                "encoding": {"text": {"field": "value", "type": "quantitative", "format": ","}},
            },
        ],
    }


def timeline_spec(result: Result, timeline: Timeline) -> dict[str, Any]:
    """Return the active tickets of each policy over time."""
    rows = [
        {"policy": name, "at": _milliseconds(level.at), "active": level.active}
        for lane, name in enumerate(result.policies)
        for level in ([] if result.end is None else timeline.levels(lane, result.end))
    ]
    return {
        "$schema": _SCHEMA,
        "description": "Tickets active over time, a line for each policy",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 240,
        "data": {"values": rows},
        "encoding": {
            "x": {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "title": None, "axis": {}},
            "y": {"field": "active", "type": "quantitative", "title": None, "axis": {"tickMinStep": 1}},
            "color": _colour(result.policies)
            | {"legend": {"orient": "top", "title": None, "direction": "vertical", "symbolType": "stroke"}},
        },
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
                "encoding": {
                    "strokeDash": {
                        "field": "policy",
                        "type": "nominal",
                        "scale": {
                            "domain": result.policies,
                            "range": [_DASHES[n % len(_DASHES)] for n in range(len(result.policies))],
                        },
                        "legend": {"orient": "top", "title": None, "direction": "vertical"},
                    }
                },
            },
            {
                "mark": {"type": "point", "opacity": 0, "size": 90},
                "encoding": {
                    "tooltip": [
                        {"field": "policy", "type": "nominal"},
                        {
                            "field": "at",
                            "type": "temporal",
                            "format": "%Y-%m-%d %H:%M",
                            "timeUnit": "utcyearmonthdatehoursminutes",
                        },
                        {"field": "active", "type": "quantitative"},
                    ]
                },
            },
        ],
    }


def lanes_spec(number: int, policies: Sequence[str]) -> dict[str, Any]:
    """Return the swim lanes of one policy: a lane for each connection, in it the tickets and the messages.

    The script of the page puts in the colours, the connections, and the datasets: `spans`, `marks`, those of them
    that are `differing`, and the `edges` of the time that every lane shows.
    """
    y: dict[str, Any] = {
        "field": "connection",
        "type": "nominal",
        "title": None,
        "scale": {"domain": []},
        "axis": {"labelLimit": 96, "ticks": False, "domain": False, "grid": True},
    }
    time: dict[str, Any] = {"type": "temporal", "title": None, "scale": {"type": "utc", "padding": 14}}
    colour = _colour(policies)
    return {
        "$schema": _SCHEMA,
        "description": f"The tickets of the chosen contact under {policies[number]}, a lane for each connection",
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 48,
        "datasets": {"spans": [], "marks": [], "differing": [], "edges": []},
        "layer": [
            {
                "data": {"name": "edges"},
                "mark": {"type": "point", "opacity": 0, "tooltip": None},
                "encoding": {"x": {"field": "at", **time}},
            },
            {
                "data": {"name": "spans"},
                "mark": {"type": "bar", "size": 14, "yOffset": 8, "cornerRadius": 4, "opacity": 0.6},
                "encoding": {
                    "y": y,
                    "x": {"field": "begin", **time},
                    "x2": {"field": "end"},
                    "color": colour,
                    "tooltip": [{"field": name, "type": "nominal"} for name in ("ticket", "from", "to")],
                },
            },
            {
                "data": {"name": "spans"},
                "mark": {"type": "text", "align": "left", "dx": 2, "dy": -10, "style": "ticket"},
                "encoding": {
                    "y": y,
                    "x": {"field": "begin", **time},
                    "text": {"field": "label", "type": "nominal"},
                },
            },
            {
                "data": {"name": "differing"},
                "mark": {
                    "type": "point",
                    "shape": "circle",
                    "size": 230,
                    "yOffset": 8,
                    "style": "differs",
                    "filled": False,
                },
                "encoding": {"y": y, "x": {"field": "at", **time}},
            },
            {
                "data": {"name": "marks"},
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 70,
                    "yOffset": 8,
                    "opacity": 1,
                    "style": "message",
                },
                "encoding": {
                    "y": y,
                    "x": {"field": "at", **time},
                    "shape": {
                        "field": "outcome",
                        "type": "nominal",
                        "legend": None,
                        "scale": {"domain": [each.value for each in SHAPES], "range": list(SHAPES.values())},
                    },
                    "tooltip": [
                        {"field": name, "type": "nominal"}
                        for name in ("message", "time", "kind", "outcome", "reason", "ticket")
                    ],
                },
            },
        ],
    }


def _colour(policies: Sequence[str]) -> dict[str, Any]:
    return {"field": "policy", "type": "nominal", "legend": None, "scale": {"domain": list(policies)}}


# --- the tables -------------------------------------------------------------------------------------------------


def _rows(result: Result) -> list[tuple[str, list[str]]]:
    columns = [list(facts(totals)) for totals in result.totals.values()]
    return [(row[0][0], [figure for _, figure in row]) for row in zip(*columns, strict=True)]


def _queues(result: Result) -> list[tuple[str, str, list[str]]]:
    places: dict[tuple[Any, Any], None] = {}
    for totals in result.totals.values():
        places.update({(company, connection): None for company, connection, _ in longest_first(totals)})
    return [
        (id_text(place[0]), id_text(place[1]), [_peak(totals, place) for totals in result.totals.values()])
        for place in list(places)[:MOST_QUEUES]
    ]


def _peak(totals: Totals, place: tuple[Any, Any]) -> str:
    return peak_text(totals.longest_on.get(place, Peak()))


def _difference(difference: Difference, numbers: dict[tuple[Any, Any], int]) -> dict[str, Any]:
    key = difference.key
    return {
        "line": f"{difference.line:,}",
        "at": time_text(difference.step.at),
        "message": id_text(difference.step.message.message_id),
        "company": id_text(key.company_id),
        "contact": id_text(key.contact_id),
        "connection": id_text(key.connection_id),
        "number": numbers.get((plain_id(key.company_id), plain_id(key.contact_id))),
        "answers": [
            {
                "outcome": answer.outcome.value,
                "ticket": None if answer.ticket_id is None else id_text(answer.ticket_id),
                "reason": answer.reason.value,
            }
            for answer in difference.step.answers
        ],
    }


# --- what the page is made of -----------------------------------------------------------------------------------


@cache
def _bundle() -> str:
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VERSION)


@cache
def _script() -> str:
    return files("ticketrouter.cli").joinpath("templates/replay.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
