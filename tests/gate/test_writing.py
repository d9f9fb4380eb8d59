"""The content that --write keeps: reasons with date and commit, versions, values and run times."""

import re

import pytest

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.gate import gate, write_baseline
from tests.made_runs import entries_of, write_entries


def history(file):
    return re.findall(r"^# history: (.*)$", file.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_reasons_are_kept_with_date_and_commit(make_run, records, tmp_path, git):
    run = make_run(records)
    folder = tmp_path / "repository"
    baseline = folder / "baselines" / "b.csv"
    baseline.parent.mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    reasons = (
        ["--reason", "The first\none,\x1b with a break"],
        [],
        ["--reason", "the second"],
    )

    for reason in reasons:
        assert main(["gate", str(run), "--baseline", str(baseline), "--write", *reason]) == 0

    first, second = history(baseline)
    head = git(folder, "rev-parse", "HEAD")[:12]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d at commit {head}: The first one, with a break", first)
    assert second.endswith(": the second")
    # A reason is none of the settings that must be the same.
    assert gate(run, baseline).exit_code == 0
    # Outside a repository there is no commit.
    (line,) = history(write_baseline(run, tmp_path / "b.csv", reason="x" * 1000))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d: x{500}", line)


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_values_that_depend_on_the_batch_are_refused(make_run, records, tmp_path, kind):
    run = make_run(records)
    why = "depends on the batch"
    baseline = write_baseline(run, tmp_path / "b.csv")
    manifest = entries_of(run)
    entries = manifest.get(kind) or {}
    name = {"methods": "xgrad_cam", "metrics": "iou"}[kind]
    unstable_entry = {**entries.get(name, {}), "unstable": why}
    write_entries(run, {**manifest, kind: {**entries, name: unstable_entry}})
    sentence = (
        f"Can't compare: '{name}' {why}. A gate compares values that can be reproduced: leave it "
        "out, or fix it."
    )
    assert gate(run, baseline).lines == (sentence,)
    with pytest.raises(BenchError, match=why):
        write_baseline(run, tmp_path / "b.csv")


@pytest.mark.slow
def test_other_versions_are_named_where_something_moved(make_run, records, tmp_path):
    run = make_run(records, versions={"torch": "2.6.0", "numpy": "2.0"})
    baseline = write_baseline(run, tmp_path / "b.csv")
    assert "# written with: torch 2.6.0, numpy 2.0\n" in baseline.read_text()
    moved = records.assign(value=2 * records["value"])
    other = make_run(moved, versions={"torch": "2.13.0"})
    line = "The baseline was written with torch 2.6.0, numpy 2.0; this run is of torch 2.13.0."
    assert gate(other, baseline).lines[-2] == line
    assert len(gate(make_run(records, versions={"torch": "2.13.0"}), baseline).lines) == 1
