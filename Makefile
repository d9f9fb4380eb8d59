# make bench            runs the main job on the embedded default
# make leaderboard      builds the site of the published values in build/leaderboard
# make docs             builds the site of docs/ in build/docs
# make test             lints, checks types and runs the quick tests
# make test-all         also runs the slow tests and those against other libraries, which it installs
# make test-conditions  runs the quick tests under the conditions of other machines
# Every target creates .venv first, with uv if it is installed. `make bench` installs only what a run
# needs. Stamp files in .venv make the next call quick.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
FOR_TESTS := $(VENV)/.installed-for-tests
FOR_PEERS := $(VENV)/.installed-peers
# pip doesn't compile modules, since many of them are never imported. uv ignores the settings of pip, which may name
# another package index, so pip is tried if uv fails.
TEST_EXTRAS := '.[dev,docs,timm,coco,nifti,transformers,executors,https]'
PEER_EXTRAS := '.[peers,ray]'
INSTALL = { uv pip install -q --python $(VENV)/bin/python -c requirements.lock -e $(1) 2> /dev/null || \
	  $(VENV)/bin/python -m pip install -q --no-compile -c requirements.lock -e $(1); }
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start many Python processes, which read the bytecode that the first one compiled.
unexport PYTHONDONTWRITEBYTECODE

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

# These tests fork their commands. A fork may hang in a process in which other tests have started threads.
FORKING := tests/faults
# The tests of numbers also run under two other kernels of BLAS and torch that most processors have. Tests whose result
# no kernel changes are left out: error messages, names, files, the rows of a pass, and statistics, which multiply
# matrices only in the bootstrap. The common suites of methods and metrics compare float64 within 1e-11. The tests next
# to them that a row's place in the batch changes nothing compare values bit by bit. The other files that run the suites'
# checks, or compare float64 within 1e-9, are left out as well. These runs leave out slow tests, so mark a test of these
# folders as slow only from about a second on.
SUITES := methods/test_common_suite.py::test_method[ metrics/test_common_suite.py::test_metric[ \
	metrics/test_common_suite.py::test_what_the_yaml methods/test_peers.py::test_common_checks[ \
	methods/test_objects.py::test_every_method_explains_one_object[
NO_NUMBERS := cutting/test_dependence.py cutting/test_mistakes.py cutting/test_passes.py \
	cutting/test_several_inputs.py cutting/test_wrappers.py methods/test_from_maps.py methods/test_refusals.py \
	metrics/test_properties.py metrics/test_undefined.py
NUMBERS := tests/cutting tests/methods tests/metrics tests/statistics/test_bootstrap.py \
	$(NO_NUMBERS:%=--ignore tests/%) $(SUITES:%=--deselect 'tests/%')
test-all: lint peers
	$(PYTEST) --reruns 1 --disable-warnings -rsR -m '' $(FORKING:%=--ignore %)
	$(PYTEST) --reruns 1 --disable-warnings -rsR -m '' $(FORKING)
	OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 $(PYTEST) --reruns 1 $(NUMBERS)
	OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default $(PYTEST) --reruns 1 $(NUMBERS)

# Run it as root with a Python that every user can read: make test-conditions PYTHON=/usr/bin/python3
test-conditions: setup-tests
	PYTHON="$(PYTHON)" tests/conditions

lint: setup-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	MYPY_NUM_WORKERS=2 $(VENV)/bin/mypy

format: setup-tests
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# hatch_build.py renews the links that the editable install imports, because entries of bench/ come and go.
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
