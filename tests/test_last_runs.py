"""What `make test-all` says of tests that it skips, and what tests/last_runs.yaml keeps."""

import subprocess
import sys
from datetime import date, timedelta
from importlib.metadata import version

import pytest
import yaml

from tests import last_runs

TODAY = date(2026, 11, 23)


def group(days=None):
    """A group of tests that ran so many days ago."""
    ran = None if days is None else {"date": TODAY - timedelta(days), "commit": "abc", "versions": {}}
    return {"reason": "^no gadget|needs a gadget", "tests": "tests/a.py::test_a", "packages": ["numpy"], "ran": ran}


@pytest.mark.parametrize(("days", "skipped", "expected"), [
    (None, ["no gadget", "it needs a gadget"], ["2 skipped of gadget, which never ran on record: CONTRIBUTING.md"]),
    (91, ["no gadget"], ["1 skipped of gadget, which last ran 91 days ago (2026-08-24): CONTRIBUTING.md"]),
    (90, ["no gadget"], []),
    (None, [], []),
    (1, ["it has no gadget"], ["1 skipped, of no group of tests/last_runs.yaml: it has no gadget"]),
])  # fmt: skip
def test_what_was_skipped_and_ran_long_ago_is_told(days, skipped, expected):
    assert list(last_runs.warnings({"gadget": group(days)}, skipped, TODAY)) == expected


@pytest.mark.parametrize(("passed", "skipped", "ran"), [
    (["tests/a.py::test_a[1]"], ["no network"], True),
    (["tests/a.py::test_a[1]"], ["no gadget"], False),
    (["tests/b.py::test_a"], [], False),
])  # fmt: skip
def test_a_group_ran_where_a_test_of_it_passed_and_none_was_skipped(passed, skipped, ran):
    before = {"gadget": group(200)}
    after = last_runs.updated(before, passed, skipped, TODAY, "def")["gadget"]
    expected = {"date": TODAY, "commit": "def", "versions": {"numpy": version("numpy")}}
    assert after == {**group(), "ran": expected if ran else group(200)["ran"]}
    assert before == {"gadget": group(200)}


def test_groups_are_of_tests_that_there_are():
    for name, entry in yaml.safe_load(last_runs.FILE.read_text()).items():
        file, _, test = entry["tests"].partition("::")
        assert f"def {test.partition('[')[0]}(" in (last_runs.FILE.parents[1] / file).read_text(), name


@pytest.mark.slow
@pytest.mark.parametrize(("marks", "told"), [("", True), ("not slow", False)])
def test_a_run_of_all_tests_says_so_at_its_end(tmp_path, marks, told):
    (tmp_path / "test_a.py").write_text("import pytest\n\ndef test_a():\n    pytest.skip('no gadget')\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-m", marks, str(tmp_path)]
    done = subprocess.run(command, cwd=last_runs.FILE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert ("1 skipped, of no group of tests/last_runs.yaml: no gadget" in done.stdout) == told
