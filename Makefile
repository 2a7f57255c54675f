# Every target makes or mends .venv first and needs nothing prepared but a Python from 3.11 to 3.13.
#   make demo SECONDS=20        ends the demo by itself
#   make test ARGS='-k floors'  hands arguments to pytest
#   make test JOBS=1            runs the tests one after the other
#   make PYTHON=/path/to/python3 test

.DEFAULT_GOAL := help
.PHONY: help demo run test check bench simulate soak fuzz lock clean

BIN := .venv/bin
CODE := pipaid actors templates tests
export PYTHON

# SECONDS counts only when it was given on the command line or in the environment of make.
SECONDS ?=
CONFIG ?= config/pipaid.toml
ARGS ?=
HOURS ?=
COUNT ?=
WORLDS ?=
CROSSINGS ?=
TEETH ?=
SEED ?=
# As many processes run the tests as there are processors, up to four; each takes whole modules, which share their daemons.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n : 4)))
PYTEST = $(BIN)/python -m pytest $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadfile) $(ARGS)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## watch six strategies trade on a synthetic market (SECONDS=20 ends it by itself)
	@.ci/environment run
	@$(BIN)/pipaid demo $(if $(SECONDS),--seconds $(SECONDS))

run: ## run the paper daemon on config/pipaid.toml (CONFIG=... for another)
	@.ci/environment run
	@$(BIN)/pipaidd --config $(CONFIG)

test: ## run the tests
	@.ci/environment test
	@$(PYTEST)

check: ## format, lint, types, tests: what has to be clean before a commit
	@.ci/environment check
	@echo "ruff format"; $(BIN)/ruff format --quiet --check $(CODE)
	@echo "ruff check"; $(BIN)/ruff check --quiet $(CODE)
	@echo "mypy"; $(BIN)/mypy --no-error-summary
	@echo "pyright"; $(BIN)/pyright --pythonpath $(BIN)/python
	@$(PYTEST)

bench: ## measure speed and memory, in CPU time
	@.ci/environment test
	@$(BIN)/python -m tests.bench $(ARGS)

simulate: ## run the whole daemon in made-up worlds of faults and crashes (WORLDS=10000, CROSSINGS=50, TEETH=1, SEED=1)
	@.ci/environment test
	@$(BIN)/python -m tests.simulation $(if $(WORLDS),--worlds $(WORLDS)) $(if $(CROSSINGS),--crossings $(CROSSINGS)) \
	    $(if $(TEETH),--teeth) $(if $(SEED),--first $(SEED)) $(ARGS)

soak: ## kill, restart, disturb and tire real daemons for a quarter of an hour (HOURS=1 for less, ARGS=kills for a part)
	@.ci/environment test
	@$(BIN)/python -m tests.soak $(if $(HOURS),--hours $(HOURS)) $(ARGS)

fuzz: ## besiege a real daemon and try the rest with a million hostile inputs (COUNT=1000 for fewer, SEED=1, ARGS=fills)
	@.ci/environment test
	@$(BIN)/python -m tests.fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SECONDS),--seconds $(SECONDS)) \
	    $(if $(SEED),--seed $(SEED)) $(ARGS)

lock: ## compile requirements/*.txt anew from pyproject.toml (needs uv; UPGRADE=1 takes newer releases)
	@for group in runtime build test dev data; do \
	    echo "requirements/$$group.txt"; \
	    case $$group in \
	        runtime) source=pyproject.toml ;; \
	        data) source="--no-deps --group data" ;; \
	        *) source="pyproject.toml --group $$group" ;; \
	    esac; \
	    uv pip compile --quiet --no-header --no-annotate --generate-hashes --universal --fork-strategy fewest \
	        --python-version 3.11 $(if $(UPGRADE),--upgrade) $$source -o requirements/$$group.txt || exit 1; \
	done

clean: ## remove what was built and cached (the environment, the state of the daemon and the journal stay)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
