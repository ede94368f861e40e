"""What the import costs: `python -m benchmarks.importing`.

Law of this file: each import is one of a fresh interpreter, and what attrs costs by itself is not counted.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

TIMES = 25
_PROGRAM = """
import time, attrs
begun = time.process_time()
import ticketrouter
print(1000 * (time.process_time() - begun))
"""


def main() -> None:
    command = [sys.executable, "-c", _PROGRAM]
    taken = [float(subprocess.check_output(command, text=True)) for _ in range(TIMES)]
    print(
        f"import ticketrouter, after attrs: {median(taken):.0f} ms of processor time "
        f"(median of {TIMES}, {min(taken):.0f} to {max(taken):.0f})"
    )


if __name__ == "__main__":
    main()
