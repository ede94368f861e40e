# What is run here is what CI runs. Python 3.11+ with pip is all that a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As many test workers as there are cores; 0 for none.
WORKERS ?= auto

.PHONY: demo core check style types public core-tests core-coverage test test-all soak compat docs pictures bench mutants clean

# The environment is made anew whenever what it is made from has changed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed ## The story of two connections, then an example log, on an SQLite file.
	$(BIN)/ticketrouter demo
	rm -f demo.sqlite3*
	$(BIN)/ticketrouter route examples/messages.jsonl --database sqlite:///demo.sqlite3

test: $(VENV)/.installed ## What can break by a change of the code, on each database that can be had.
	$(BIN)/python -m pytest -n $(WORKERS) -m "not soak and not broker and not browser"

test-all: $(VENV)/.installed ## The same with Redis, PgBouncer and a browser.
	$(BIN)/python -m pytest -n $(WORKERS)

# Where a server dies while PyMySQL greets it, the driver leaves its socket to the garbage collector.
soak: $(VENV)/.installed ## What takes minutes: every explored schedule, worker and server deaths under load.
	$(BIN)/python -m pytest -m soak -n $(WORKERS) --dist loadgroup -o faulthandler_timeout=1800 -W "ignore:unclosed <socket:ResourceWarning"

core: $(VENV)/.installed ## Style, types, the import law and the core's tests: in a minute, while one works.
	$(MAKE) --jobs=2 --output-sync style types core-tests

check: $(VENV)/.installed ## Style, types, the import law, the public API, and what the tests cover of the core.
	$(MAKE) --jobs=2 --output-sync core-coverage style types public

style: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.installed
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

public: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes ticketrouter --ignoreexternal > $(VENV)/verifytypes || { cat $(VENV)/verifytypes; false; }
	$(BIN)/python -m tests.support.api

core-tests: $(VENV)/.installed
	$(BIN)/python -m pytest -q tests/core

core-coverage: $(VENV)/.installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -p no:randomly tests/core
	$(BIN)/coverage report --fail-under=100 --include="$(CORE)"

CORE := */ticketrouter/batch.py,*/ticketrouter/checks.py,*/ticketrouter/errors.py,*/ticketrouter/model.py,*/ticketrouter/choices.py,*/ticketrouter/decisions.py,*/ticketrouter/policy.py,*/ticketrouter/lifecycle.py,*/ticketrouter/moves.py,*/ticketrouter/repository.py,*/ticketrouter/log.py,*/ticketrouter/explain.py,*/ticketrouter/flows.py,*/ticketrouter/router.py,*/ticketrouter/memory.py,*/ticketrouter/presets.py,*/ticketrouter/replay.py,*/ticketrouter/_unchecked.py

# A second environment, with the older line of SQLAlchemy that we promise to work with.
OLDER := .venv-sqlalchemy20
$(OLDER)/.installed: pyproject.toml
	$(PYTHON) -m venv $(OLDER)
	$(OLDER)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" "sqlalchemy[asyncio]<2.1"
	touch $@

# What one transaction does to another is the database's, by the same SQL: which SQLAlchemy has sent it cannot matter.
# Memory has none.
compat: $(OLDER)/.installed ## The adapter's tests on SQLAlchemy 2.0.
	$(OLDER)/bin/python -m pytest -n $(WORKERS) -m "not soak and not broker" -k "not memory and not TestOtherUniqueRules" tests/contract/test_contract.py tests/contract/test_batch.py tests/sqlalchemy $(addprefix --ignore=tests/sqlalchemy/,test_dirty_reads.py test_locks.py test_plans.py)

docs: $(VENV)/.installed ## The site, in docs/_build/html.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	$(BIN)/python -m tests.support.links docs/_build/html

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
