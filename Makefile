# What is run here is what CI runs. Python 3.11+ with pip is all that a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As many test workers as there are cores; 0 for none.
WORKERS ?= auto

.PHONY: demo test soak check compat docs pictures bench mutants clean

# The environment is made anew whenever what it is made from has changed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed ## The story of two connections, then an example log, on an SQLite file.
	$(BIN)/ticketrouter demo
	rm -f demo.sqlite3*
	$(BIN)/ticketrouter route examples/messages.jsonl --database sqlite:///demo.sqlite3

test: $(VENV)/.installed ## Every test, each database that can be had.
	$(BIN)/python -m pytest -n $(WORKERS)

# Where a server dies while PyMySQL greets it, the driver leaves its socket to the garbage collector.
soak: $(VENV)/.installed ## What takes minutes: every explored schedule, worker and server deaths under load.
	$(BIN)/python -m pytest -m soak -n $(WORKERS) --dist loadgroup -W "ignore:unclosed <socket:ResourceWarning"

check: $(VENV)/.installed ## Style, types, the import law, and what the tests cover of the core.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes ticketrouter --ignoreexternal > $(VENV)/verifytypes || { cat $(VENV)/verifytypes; false; }
	$(BIN)/python -m tests.api
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -p no:randomly tests/core
	$(BIN)/coverage report --fail-under=100 --include="$(CORE)"

CORE := */ticketrouter/batch.py,*/ticketrouter/checks.py,*/ticketrouter/errors.py,*/ticketrouter/model.py,*/ticketrouter/choices.py,*/ticketrouter/policy.py,*/ticketrouter/lifecycle.py,*/ticketrouter/moves.py,*/ticketrouter/repository.py,*/ticketrouter/log.py,*/ticketrouter/explain.py,*/ticketrouter/router.py,*/ticketrouter/memory.py,*/ticketrouter/presets.py,*/ticketrouter/replay.py,*/ticketrouter/unchecked.py

# A second environment, with the older line of SQLAlchemy that we promise to work with.
OLDER := .venv-sqlalchemy20
$(OLDER)/.installed: pyproject.toml
	$(PYTHON) -m venv $(OLDER)
	$(OLDER)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" "sqlalchemy[asyncio]<2.1"
	touch $@

compat: $(OLDER)/.installed ## The adapter's tests on SQLAlchemy 2.0.
	$(OLDER)/bin/python -m pytest -n $(WORKERS) tests/test_contract.py tests/test_races.py tests/test_batch.py tests/sqlalchemy

docs: $(VENV)/.installed ## The site, in docs/_build/html.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	$(BIN)/python -m tests.links docs/_build/html

# QUICK=1 for a look in under three minutes; SIZES=10000,1000000,10000000; LOG=file.jsonl for a log in its order.
pictures: $(VENV)/.installed ## The pictures of the site that are taken in a browser.
	$(BIN)/python -m docs.make_pictures

bench: $(VENV)/.installed ## Ours beside the driver, bare SQLAlchemy and the ORMs; draws docs/performance.md anew.
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(SIZES),--sizes $(SIZES)) $(if $(LOG),--log $(LOG))

mutants: $(VENV)/.installed ## Mutation-test the rules.
	$(BIN)/mutmut run
	$(BIN)/mutmut results

clean:
	rm -rf $(VENV) $(OLDER) mutants demo.sqlite3* docs/_build
