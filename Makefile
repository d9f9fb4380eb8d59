# `make bench` runs the main job on the embedded default; `make leaderboard` builds the site of the published values in
# build/leaderboard, `make docs` that of docs/ in build/docs, which tests of `make test-all` do too; `make test` lints,
# type-checks and tests; `make test-all` runs the slow tests and those of other libraries too, which it installs;
# `make test-conditions` runs the quick ones as on other machines. All build .venv first, `make bench` with the packages
# of a run alone, by uv where it is installed; stamps make the second time quick.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
FOR_TESTS := $(VENV)/.installed-for-tests
FOR_PEERS := $(VENV)/.installed-peers
# What is never imported needn't be compiled. uv doesn't read the settings of pip, which may name another index.
TEST_EXTRAS := '.[dev,docs,timm,coco,nifti,transformers,executors,https]'
PEER_EXTRAS := '.[peers,ray]'
INSTALL = { uv pip install -q --python $(VENV)/bin/python -c requirements.lock -e $(1) 2> /dev/null || \
	  $(VENV)/bin/python -m pip install -q --no-compile -c requirements.lock -e $(1); }
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # the tests start many Pythons, which read what the first compiled

.PHONY: bench leaderboard docs test test-all test-conditions lint format setup setup-tests peers clean

bench: setup
	$(VENV)/bin/axiom-bench

leaderboard: setup
	$(VENV)/bin/axiom-bench leaderboard $(wildcard submissions/*) --output build/leaderboard

docs: setup-tests
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "build/docs/index.html; its search needs a server: python -m http.server --directory build/docs"

PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist worksteal
test: lint
	$(PYTEST)

# The trials of faults fork their commands: in processes that other tests have filled with threads a fork may hang.
FORKING := tests/faults
# The rooms that hold numbers, under two other kernels of BLAS and torch that most processors have. Left out is what no
# kernel decides: refusals, names, files that are read, rows of a pass, and the statistics, which multiply matrices only
# in the bootstrap. The suites that users run on a method or metric of theirs compare float64 within 1e-11; the test of a
# row's place, next to them, compares the same values bit by bit. `make test-conditions` runs all quick tests so.
SUITES := methods/test_common_suite.py::test_method[ metrics/test_common_suite.py::test_metric[
NO_NUMBERS := cutting/test_mistakes.py cutting/test_passes.py cutting/test_wrappers.py methods/test_from_maps.py \
	methods/test_refusals.py metrics/test_undefined.py
NUMBERS := tests/cutting tests/methods tests/metrics tests/statistics/test_bootstrap.py \
	$(NO_NUMBERS:%=--ignore tests/%) $(SUITES:%=--deselect 'tests/%')
test-all: lint peers
	$(PYTEST) --reruns 1 -rs -m '' $(FORKING:%=--ignore %)
	$(PYTEST) --reruns 1 -rs -m '' $(FORKING)
	OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 $(PYTEST) --reruns 1 $(NUMBERS)
	OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default $(PYTEST) --reruns 1 $(NUMBERS)

# make test-conditions PYTHON=/usr/bin/python3, as root: a Python that every user can read.
test-conditions: setup-tests
	PYTHON="$(PYTHON)" tests/conditions

lint: setup-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup-tests
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The links that the editable install imports, made anew where an entry of bench/ came or went.
setup: $(INSTALLED)
	@$(VENV)/bin/python hatch_build.py

setup-tests: setup $(FOR_TESTS)

peers: setup-tests $(FOR_PEERS)

$(FOR_TESTS): $(INSTALLED)
	$(call INSTALL,$(TEST_EXTRAS))
	touch $@

$(FOR_PEERS): $(FOR_TESTS)
	$(call INSTALL,$(PEER_EXTRAS))
	touch $@

$(INSTALLED): pyproject.toml requirements.lock hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "axiom-bench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(call INSTALL,.)
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
