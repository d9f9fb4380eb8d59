# `make bench` runs the main job on the embedded default; `make test` lints, type-checks and tests.
# Both build .venv first; the stamp makes the second time quick.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: bench test lint format setup peers clean

bench: $(STAMP)
	$(VENV)/bin/axiom-bench

test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

setup: $(STAMP)

peers: $(STAMP)
	$(VENV)/bin/python -m pip install -q -c requirements.lock -e '.[peers]'

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "axiom-bench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c requirements.lock -e '.[dev,timm,coco]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
