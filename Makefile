# Needs Python 3.11 or newer and make; everything else goes into .venv.
# A stamp in .venv stands for each kind of installation, and is redone when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
IS_NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'
OLDEST := $(VENV)/oldest
# what relies on more of Twisted than it documents, or leans hardest on what it does
NEAR_TWISTED := tests/web tests/flows/test_hot_equality.py tests/flows/test_hot_ports.py tests/flows/test_framing.py \
  tests/flows/test_refusals.py tests/edges/test_agent_pool.py tests/edges/test_agent_proxy.py \
  tests/edges/test_agent_tls.py tests/edges/test_heads.py tests/edges/test_records.py
TOO_OLD = 'pipcache needs Python 3.11 or newer, "$(PYTHON)" is not: try make run PYTHON=python3.12'

.DEFAULT_GOAL := help
.PHONY: help run test test-oldest lint bench bench-quick clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) \
	  | while read -r target effect; do printf 'make %-11s %s\n' "$$target" "$$effect"; done

run: $(VENV)/.installed ## serve on port 8080; ARGS="--config FILE" are options of the program
	@exec $(BIN)/twistd --nodaemon --pidfile= pipcache $(ARGS)

test: lint ## lint, types, layers and all tests; ARGS="-k word" are options of pytest
	@$(BIN)/python -m pytest --numprocesses=auto $(ARGS)

test-oldest: $(VENV)/.installed-oldest ## the tests nearest to Twisted, with the oldest versions that pyproject.toml allows
	@$(OLDEST)/bin/python -m pytest --numprocesses=auto $(NEAR_TWISTED) $(ARGS)

lint: $(VENV)/.installed-dev ## format, lint, types and layers
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## measure beside nginx, proxpi and devpi-server; ARGS="--list" names the parts of it
	@exec $(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.installed-dev ## the same in less than three minutes, coarsely; ARGS="--only NAMES" does a part
	@exec $(BIN)/python -m bench --quick $(ARGS)

clean: ## remove .venv and all that tools left; the cache stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf _trial_temp .coverage twistd.log twistd.pid twisted/plugins/dropin.cache bench/.peers bench/.results.md
	@find pipcache twisted tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that is there already and works is used; a half-made one is made again.
$(VENV)/.made:
	@$(BIN)/python -c $(IS_NEW_ENOUGH) 2>/dev/null && $(PIP) --version >/dev/null 2>&1 \
	  || { $(PYTHON) -c $(IS_NEW_ENOUGH) 2>/dev/null || { echo $(TOO_OLD) >&2; exit 1; }; \
	       echo 'Setting up $(VENV)' >&2; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.made
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# Our dependencies at their lower bounds, the tools of the tests as they are today.
$(VENV)/.installed-oldest: $(VENV)/.lower-bounds
	@rm -rf $(OLDEST) && $(BIN)/python -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip --quiet --disable-pip-version-check install --editable . --requirement $< \
	  hypothesis pytest pytest-randomly pytest-twisted pytest-xdist treq
	@touch $@

$(VENV)/.lower-bounds: pyproject.toml | $(VENV)/.made
	@sed -n '/^dependencies/,/^]/s/^  "\([^">]*\)>=\([^"]*\)".*/\1==\2/p' pyproject.toml >$@
