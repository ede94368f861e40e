"""Print a run on each database: `python -m tests.support.soak [postgresql|mariadb|sqlite]`."""

from __future__ import annotations

import sys

from tests.support.soak.run import HEAD, RUNS, durable, soak


def main() -> None:
    print(HEAD)
    for database, (load, kill_workers, kill_servers) in RUNS.items():
        if database not in (sys.argv[1:] or RUNS):
            continue
        with durable(database) as url:
            run = soak(url, load, kill_workers=kill_workers, kill_servers=kill_servers)
        print(run.row(), flush=True)
        for line in (*run.verdict.lost, *run.verdict.doubled, *run.verdict.twice_active):
            print("   ", line)


if __name__ == "__main__":
    main()
