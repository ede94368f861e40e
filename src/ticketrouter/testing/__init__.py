"""The kit for whoever writes a repository, or tests an application: contract, state machine, cases, clock.

Law of this file: it names what is public of the kit. It loads by import alone, never as a plugin of pytest.
"""

from __future__ import annotations

try:
    import hypothesis
    import pytest
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"ticketrouter.testing needs {_missing.name}: pip install 'ticketrouter[testing]'", name=_missing.name
    ) from None

del hypothesis  # it was only asked for

# So that a failing assertion of the kit shows its values, as one in a test does.
pytest.register_assert_rewrite(
    f"{__name__}.cases",
    f"{__name__}.concurrency",
    f"{__name__}.contract",
    f"{__name__}.machine",
    f"{__name__}.many",
    f"{__name__}.routed",
    f"{__name__}.samples",
    f"{__name__}.words",
)

from ticketrouter.testing.cases import Case, CaseError, cases_of, read_cases, run_case  # noqa: E402
from ticketrouter.testing.clock import FakeClock  # noqa: E402
from ticketrouter.testing.contract import TicketRepositoryContract  # noqa: E402
from ticketrouter.testing.machine import TicketRepositoryMachine, run_machine  # noqa: E402
from ticketrouter.testing.model import Model, Plan  # noqa: E402
from ticketrouter.testing.store import AsyncStore, Blocking, EventLoop, Overwrites, Store  # noqa: E402

__all__ = [
    "AsyncStore",
    "Blocking",
    "Case",
    "CaseError",
    "EventLoop",
    "FakeClock",
    "Model",
    "Overwrites",
    "Plan",
    "Store",
    "TicketRepositoryContract",
    "TicketRepositoryMachine",
    "cases_of",
    "read_cases",
    "run_case",
    "run_machine",
]
