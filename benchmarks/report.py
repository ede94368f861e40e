"""The figures as tables: in the terminal, and in the page.

Law of this file: a table is made once, as rows of cells; what prints it knows nothing of what it says. The page's
words are written by hand, its tables stand between two comments and are drawn anew from the file of figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from attrs import frozen
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.cells import ASYNC_DRIVERS, DRIVERS, Cell, Rule, Shape
from benchmarks.figures import Figure, Results
from benchmarks.goals import GOALS, shown

NAMES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}


@frozen
class Table:
    """A title, the names of the columns, the rows, and the picture of the same, if there is one."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    picture: str = ""


def goals(results: Results) -> Table:
    """Say for each goal what was asked, what was measured, and whether it is reached, judged with one client."""
    rows = []
    for goal in GOALS:
        one, eight = goal.measure(results, 1), goal.measure(results, 8)
        reached = {None: "", True: "yes", False: "no"}[goal.reached(one)]
        if goal.asked and one is None:
            reached = "not measured"
        rows.append((goal.what, goal.asked, _or_nothing(one), _or_nothing(eight), reached))
    return Table("Goals", ("", "asked", "1 client", "8 clients", "reached"), tuple(rows))


def _or_nothing(value: float | None) -> str:
    return "" if value is None else shown(value)


def ways(results: Results, database: str) -> Table:
    """List who routes how many messages a second, one at a time."""
    cells = [cell for cell in _main(results, database) if cell.batch is None and not cell.message_ids]
    cells = [cell for cell in cells if cell.stand.rule is Rule.ACTIVE]
    columns = sorted({(cell.clients, cell.reuse) for cell in cells}, key=lambda it: (it[0], -it[1]))
    head = [f"{_percent(reuse)}, {_clients(clients)}" for clients, reuse in columns]
    rows = []
    for way in dict.fromkeys(cell.way for cell in cells):
        figures = {(cell.clients, cell.reuse): results.figures[cell] for cell in cells if cell.way == way}
        first = figures.get(columns[0])
        rows.append(
            (
                f"{way.contender} ({way.driver})",
                str(way.shape),
                *(_rate(figures.get(column)) for column in columns),
                f"{first.p50:.2f} / {first.p99:.2f}" if first else "",
                f"{first.micros:,.0f}" if first else "",
            )
        )
    title = f"{NAMES[database]}, {_number(results.main(database))} tickets, messages a second"
    last = (f"p50 / p99 in ms ({head[0]})", f"client CPU in µs ({head[0]})") if head else ("", "")
    return Table(title, ("who", "shape", *head, *last), tuple(rows), picture=f"{database}.svg")


def variations(results: Results) -> Table:
    """List what else ours was asked to do, against the same with the right rule and without message ids."""
    rows = []
    for cell, figure in results.figures.items():
        varied = cell.message_ids or cell.stand.rule is not Rule.ACTIVE
        if not varied or cell.stand.name:
            continue
        plain = results.find(
            database=cell.stand.database,
            size=cell.stand.size,
            contender="ours",
            driver=cell.driver,
            shape=cell.shape,
            reuse=cell.reuse,
            clients=cell.clients,
        )
        what = "with message ids" if cell.message_ids else f"rule: {cell.stand.rule}"
        ratio = f"{figure.rate / plain.rate:.2f}" if plain else ""
        rows.append((NAMES[cell.stand.database], what, _clients(cell.clients), _rate(figure), ratio))
    return Table(
        "Message ids and unique rules, in a transaction",
        ("", "what", "clients", "messages a second", "against the right rule, without ids"),
        tuple(rows),
    )


def batches(results: Results) -> Table:
    """List batches by size."""
    rows = [
        (
            NAMES[cell.stand.database],
            f"{cell.contender} ({cell.driver})",
            _clients(cell.clients),
            _number(cell.batch or 0),
            _rate(figure),
            f"{figure.micros:,.0f}",
        )
        for cell, figure in results.figures.items()
        if cell.batch is not None and not cell.stand.name
    ]
    head = ("", "who", "clients", "messages in a batch", "messages a second", "client CPU in µs a message")
    return Table("Batches, each in a transaction", head, tuple(rows), picture="batches.svg")


def sizes(results: Results) -> Table:
    """List how the number of tickets tells."""
    rows = []
    for database in _databases(results):
        for size in results.sizes(database):
            found = {
                who: results.find(
                    database=database, size=size, contender=who, driver=driver, shape=Shape.AUTOCOMMIT
                )
                for who, driver in _kept(database)
            }
            rows.append(
                (
                    NAMES[database],
                    _number(size),
                    *(cell for figure in found.values() for cell in (_rate(figure), _p50(figure))),
                )
            )
    head = ("", "tickets", "ours", "p50 in ms", "raw", "p50 in ms")
    return Table("The number of tickets, autocommit, 95 % reuse, 1 client", head, tuple(rows))


def memory(results: Results) -> Table:
    """Say what the core takes without a database."""
    found = results.memory
    if found is None:
        return Table("In memory", (), ())
    rows = []
    for name, who in (("ours", "ours, `resolve`"), ("bare", "a dict of objects")):
        took = sorted(found[name]["microseconds"])
        weight = found[name]["bytes"]
        rows.append(
            (
                who,
                f"{took[len(took) // 2]:.2f} ({took[0]:.2f} to {took[-1]:.2f})",
                "" if weight is None else f"{weight:.0f}",
            )
        )
    title = f"In memory, {_number(found['tickets'])} tickets, every message finds one"
    return Table(title, ("", "µs a message", "bytes a ticket"), tuple(rows))


@frozen
class Layers:
    """The processor time of a client for each message, in one shape: the driver's, and what each layer adds."""

    name: str
    driver: float
    sqlalchemy: float
    ours: float

    @property
    def total(self) -> float:
        """What ours takes in all."""
        return self.driver + self.sqlalchemy + self.ours


def layers_of(results: Results) -> list[Layers]:
    """Take each layer as the difference between two contenders who send the same to the same driver."""
    found = []
    for database in _databases(results):
        driver, other = DRIVERS[database], ASYNC_DRIVERS[database]
        stacks = (
            (driver, Shape.AUTOCOMMIT, ("raw, our statements", Shape.AUTOCOMMIT)),
            (driver, Shape.TRANSACTION, ("raw, our statements", Shape.TRANSACTION)),
            (driver, Shape.SESSION, ("raw, our statements", Shape.TRANSACTION)),
            (other, Shape.AUTOCOMMIT, ("raw", Shape.AUTOCOMMIT)),
        )
        for name, shape, (raw, raw_shape) in stacks:
            find = partial(results.find, database=database, driver=name)
            figures = (
                find(contender=raw, shape=raw_shape),
                find(contender="core", shape=shape),
                find(contender="ours", shape=shape),
            )
            if None not in figures:
                floor, core, ours = (figure.micros for figure in figures if figure)
                words = f"{NAMES[database]}, {name}, {shape}"
                found.append(Layers(words, floor, core - floor, ours - core))
    return found


def layers(results: Results) -> Table:
    """Say what each layer adds to a client's processor time."""
    rows = [
        (
            each.name,
            f"{each.driver:,.0f}",
            f"{each.sqlalchemy:,.0f}",
            f"{each.ours:,.0f}",
            f"{each.total:,.0f}",
            f"{each.total / (each.driver + each.sqlalchemy):.2f}",
        )
        for each in layers_of(results)
    ]
    return Table(
        "Client processor time a message, in µs, 95 % reuse, 1 client",
        ("", "driver", "SQLAlchemy adds", "ours adds", "ours in all", "ours / bare Core"),
        tuple(rows),
        picture="processor.svg",
    )


def functions(results: Results) -> Table:
    """List the functions in which ours spends the most."""
    rows = [
        (
            f"{profile.cell.driver}, {profile.cell.shape}",
            f"`{each.function}`",
            f"{each.calls:.1f}",
            f"{each.micros:.1f}",
        )
        for profile in results.profiles
        for each in profile.spent[:15]
    ]
    return Table(
        "The functions in which ours spends the most, while watched",
        ("ours on", "function", "calls a message", "µs a message"),
        tuple(rows),
    )


def log(results: Results) -> Table:
    """List who routes a log, in its order."""
    rows = [
        (
            NAMES[cell.stand.database],
            f"{cell.contender} ({cell.driver})" + (f", batches of {cell.batch}" if cell.batch else ""),
            str(cell.shape),
            _rate(figure),
            f"{figure.p50:.2f} / {figure.p99:.2f}",
            f"{figure.micros:,.0f}",
        )
        for cell, figure in results.figures.items()
        if cell.stand.name
    ]
    head = ("", "who", "shape", "messages a second", "p50 / p99 in ms", "client CPU in µs a message")
    return Table(f"A log in its order: {results.about.get('log', '')}", head, tuple(rows))


def about(results: Results) -> Table:
    """Say where and how the run was made."""
    rows = [*results.about.items(), *((f"left out: {name}", why) for name, why in results.left_out.items())]
    return Table("This run", ("", ""), tuple((name, str(value)) for name, value in rows))


def _main(results: Results, database: str) -> list[Cell]:
    size = results.main(database)
    return [
        cell
        for cell in results.figures
        if cell.stand.database == database and cell.stand.size == size and not cell.stand.name
    ]


def _databases(results: Results) -> list[str]:
    found = {cell.stand.database for cell in results.figures if not cell.stand.name}
    return [name for name in NAMES if name in found]


def _kept(database: str) -> Iterable[tuple[str, str]]:
    return (("ours", DRIVERS[database]), ("raw", DRIVERS[database]))


def _rate(figure: Figure | None) -> str:
    if figure is None:
        return ""
    failed = f", {figure.failures} failed" if figure.failures else ""
    return f"{figure.rate:,.0f} ({min(figure.rates):,.0f} to {max(figure.rates):,.0f}{failed})"


def _p50(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.p50:.2f}"


def _number(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"


SECTIONS: dict[str, Callable[[Results], Table]] = {
    "about": about,
    "goals": goals,
    "postgresql": lambda results: ways(results, "postgresql"),
    "mariadb": lambda results: ways(results, "mariadb"),
    "sqlite": lambda results: ways(results, "sqlite"),
    "variations": variations,
    "batches": batches,
    "sizes": sizes,
    "memory": memory,
    "layers": layers,
    "functions": functions,
}
"""What a run has, by the name of its place in the page."""
LOG_SECTIONS: dict[str, Callable[[Results], Table]] = {"log-about": about, "log": log}
SLOWER_SECTIONS: dict[str, Callable[[Results], Table]] = {"slower-about": about, "slower-goals": goals}
"""The same run on a machine with a slower processor; its file of figures is put there by hand."""
OF_FILE = {"full.json": SECTIONS, "log.json": LOG_SECTIONS, "slower.json": SLOWER_SECTIONS}
"""What the page has of each file of figures."""


def in_terminal(results: Results, console: Console) -> None:
    """Print the run: ratios first."""
    sections = LOG_SECTIONS if "log" in results.about else {"goals": goals} | SECTIONS
    for section in sections.values():
        table = section(results)
        if not table.rows:
            continue
        drawn = RichTable(*table.head, title=table.title, title_justify="left")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
    for cell, figure in results.figures.items():
        if figure.failures:
            console.print(f"failed {figure.failures} times: {cell}: {figure.failure}", markup=False)


def in_page(text: str, results: Results, sections: dict[str, Callable[[Results], Table]]) -> str:
    """Return a page with its tables drawn anew.

    Args:
        text: the page; a table's place is between `<!-- figures: NAME -->` and `<!-- end of figures -->`.
        results: the run.
        sections: what goes where; a place of another name is left as it is.
    """

    def draw(place: re.Match[str]) -> str:
        section = sections.get(place["name"])
        if section is None:
            return place[0]
        return f"<!-- figures: {place['name']} -->\n{_markdown(section(results))}<!-- end of figures -->"

    return re.sub(
        r"<!-- figures: (?P<name>[\w-]+) -->\n.*?<!-- end of figures -->", draw, text, flags=re.DOTALL
    )


def _markdown(table: Table) -> str:
    if not table.rows:
        return "\nNot measured yet.\n\n"
    lines = [table.head, tuple("---" for _ in table.head), *table.rows]
    drawn = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    picture = f"\n![{table.title}](performance/{table.picture})\n" if table.picture else ""
    return f"{picture}\n{table.title}:\n\n{drawn}\n\n"


def draw_page(page: Path, results: Results, sections: dict[str, Callable[[Results], Table]]) -> None:
    """Draw the tables of a page anew, in its file."""
    page.write_text(in_page(page.read_text(encoding="utf-8"), results, sections), encoding="utf-8")
