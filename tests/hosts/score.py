"""The score of each desk, as the table of docs/real-desks.md: `python -m tests.hosts.score` draws it anew.

Law of this file: counted is what `trying` says, and nothing is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.hosts.desks import Desk
from tests.hosts.trying import Tried, opened, tried
from tests.support.backends import Databases

PAGE = Path(__file__).parents[2] / "docs" / "real-desks.md"
BEGIN, END = "<!-- the score, drawn by tests/hosts/score.py -->", "<!-- the end of the score -->"
ENGINES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}
HEAD = "| desk | on | how it keeps the status | cases | find their ticket | all columns too | beyond |"


def table(results: Mapping[str, Sequence[Tried]]) -> str:
    """Return the table of all desks, from what came of each case of each."""
    rows = [_row(desk, results[desk.name]) for desk in Desk.all()]
    total = [
        "**together**",
        "",
        "",
        *(f"**{sum(int(row[place]) for row in rows)}**" for place in range(3, 7)),
    ]
    lines = [f"| {' | '.join(row)} |" for row in [*rows, total]]
    return "\n".join([HEAD, "|---" * 7 + "|", *lines])


def _row(desk: Desk, results: Sequence[Tried]) -> list[str]:
    due = [tried for case, tried in zip(desk.cases, results, strict=True) if case.beyond is None]
    finds = sum(each.finds for each in due)
    same = sum(not each.complaints for each in due)
    kind = desk.said["status"]["kind"].replace("_", " ")
    counted = (len(due), finds, same, len(desk.cases) - len(due))
    return [desk.name, ENGINES[desk.database], kind, *map(str, counted)]


def on_the_page() -> str:
    """Return the table that stands on the page."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    """Draw the table of the page anew."""
    with tempfile.TemporaryDirectory() as place:
        databases = Databases(Path(place))
        results = {}
        for desk in Desk.all():
            with opened(databases, desk) as desk_open:
                results[desk.name] = [tried(desk_open, case) for case in desk.cases]
        databases.close()
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = f"{head}{BEGIN}\n\n{table(results)}\n\n{END}{rest.split(END)[1]}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
