"""The figures as pictures.

Law of this file: a picture shows what a table says; nothing is smoothed, every axis of a bar begins at zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture

from benchmarks.cells import Cell, Rule
from benchmarks.figures import Results
from benchmarks.report import NAMES, layers_of

COLOURS = {
    "raw": "#6b7280",
    "raw, our statements": "#9ca3af",
    "core": "#2f6db5",
    "ours": "#d9622b",
    "orm": "#7c9a3d",
    "django": "#3d7f6e",
}
LINES = {"postgresql": "#2f6db5", "mariadb": "#d9622b", "sqlite": "#3d7f6e"}

# The same file for the same figures, and letters that any viewer has.
mpl.rcParams.update({"svg.hashsalt": "ticketrouter", "svg.fonttype": "path", "font.size": 9})


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw every picture for which there are figures.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {f"{name}.svg": _ways(results, name) for name in NAMES}
    pictures |= {"batches.svg": _batches(results), "processor.svg": _processor(results)}
    drawn = []
    for name, picture in pictures.items():
        if picture is not None:
            picture.savefig(folder / name, bbox_inches="tight", facecolor="white", metadata={"Date": None})
            drawn.append(folder / name)
    return drawn


def _ways(results: Results, database: str) -> Picture | None:
    """Draw messages a second, one at a time, with the lowest and the highest turn."""
    size = results.main(database)
    shown = [
        cell
        for cell in results.figures
        if cell.stand.database == database
        and cell.stand.size == size
        and cell.stand.rule is Rule.ACTIVE
        and not (cell.stand.name or cell.message_ids or cell.batch)
        and cell.reuse == 0.95
    ]
    if not shown:
        return None
    clients = sorted({cell.clients for cell in shown})
    picture = Picture(figsize=(4.6 * len(clients) + 1.5, 0.3 * len(shown) / len(clients) + 1.2))
    axes: Any = picture.subplots(1, len(clients), sharey=True, squeeze=False)[0]
    for number, axis in zip(clients, axes, strict=True):
        cells = [cell for cell in shown if cell.clients == number]
        cells.sort(key=lambda cell: results.figures[cell].rate if number == clients[0] else 0)
        if number != clients[0]:
            cells.sort(key=lambda cell: order.index(cell.way))
        else:
            order = [cell.way for cell in cells]
        figures = [results.figures[cell] for cell in cells]
        rates = [figure.rate for figure in figures]
        spread = [
            [rate - min(figure.rates) for rate, figure in zip(rates, figures, strict=True)],
            [max(figure.rates) - rate for rate, figure in zip(rates, figures, strict=True)],
        ]
        axis.barh(
            [_name(cell) for cell in cells],
            rates,
            xerr=spread,
            color=[COLOURS[cell.contender] for cell in cells],
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
        axis.set_title(f"{number} client{'s' * (number > 1)}", loc="left", fontsize=10)
        axis.set_xlabel("messages a second")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", linewidth=0.4)
        axis.set_axisbelow(True)
    words = f"{NAMES[database]}, {size:,} tickets, 95 % reuse: median, lowest and highest turn"
    picture.suptitle(words, x=0.0, y=1.0, ha="left", fontweight="bold")
    return picture


def _name(cell: Cell) -> str:
    return f"{cell.contender}, {cell.driver}, {cell.shape}"


def _batches(results: Results) -> Picture | None:
    """Draw messages a second over the size of a batch, one client."""
    picture = Picture(figsize=(6.4, 3.6))
    axis: Any = picture.subplots()
    drawn = False
    for database, colour in LINES.items():
        points = sorted(
            (cell.batch, figure.rate)
            for cell, figure in results.figures.items()
            if cell.batch and cell.stand.database == database and cell.contender == "ours"
            if cell.clients == 1 and not cell.stand.name
        )
        if points:
            drawn = True
            axis.plot(*zip(*points, strict=True), marker="o", color=colour, label=NAMES[database])
    if not drawn:
        return None
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sorted({batch for line in axis.lines for batch in line.get_xdata()}), minor=False)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_minor_formatter("")
    axis.set_xlabel("messages in a call of resolve_many, which has a transaction of its own")
    axis.set_ylabel("messages a second")
    axis.set_title("Batches, 1 client", loc="left", fontweight="bold")
    axis.grid(linewidth=0.4)
    axis.legend(frameon=False)
    return picture


def _processor(results: Results) -> Picture | None:
    """Draw what each layer adds to a client's processor time."""
    stacks = layers_of(results)[::-1]
    if not stacks:
        return None
    picture = Picture(figsize=(7.6, 0.36 * len(stacks) + 1.4))
    axis: Any = picture.subplots()
    names = [each.name for each in stacks]
    left = [0.0] * len(stacks)
    for who, layer in (("raw", "driver"), ("core", "sqlalchemy"), ("ours", "ours")):
        widths = [max(0.0, getattr(each, layer)) for each in stacks]
        label = {"driver": "driver", "sqlalchemy": "SQLAlchemy adds", "ours": "ours adds"}[layer]
        axis.barh(names, widths, left=left, color=COLOURS[who], label=label)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axis.set_xlabel("microseconds of client processor time a message")
    axis.set_title("What each layer adds, 95 % reuse, 1 client", loc="left", fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", linewidth=0.4)
    axis.set_axisbelow(True)
    axis.legend(frameon=False)
    return picture
