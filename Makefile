# `make bench` runs the main job on the embedded default; `make leaderboard` builds the site of the published values in
# build/leaderboard, `make docs` that of docs/ in build/docs, which tests of `make test-all` do too; `make test` lints,
# type-checks and tests; `make test-all` runs the slow tests and those of other libraries too, which it installs. All build
# .venv first; stamps make the second time quick.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # the tests start many Pythons, which read what the first compiled

.PHONY: bench leaderboard docs test test-all lint format setup peers clean

bench: setup
	$(VENV)/bin/axiom-bench

leaderboard: setup
	$(VENV)/bin/axiom-bench leaderboard $(wildcard submissions/*) --output build/leaderboard

docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "build/docs/index.html"

test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

# The trials of faults fork their commands: in processes that other tests have filled with threads a fork may hang.
FORKING := tests/faults tests/run/test_remote.py tests/run/test_remote_data.py
test-all: lint peers
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m '' $(FORKING:%=--ignore %)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m '' $(FORKING)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The links that the editable install imports, made anew where an entry of bench/ came or went.
setup: $(STAMP)
	@$(VENV)/bin/python hatch_build.py

peers: setup $(VENV)/.peers

$(VENV)/.peers: $(STAMP)
	$(VENV)/bin/python -m pip install -q -c requirements.lock -e '.[peers]'
	touch $@

$(STAMP): pyproject.toml requirements.lock hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "axiom-bench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c requirements.lock -e '.[dev,docs,timm,coco,transformers,launchers]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
