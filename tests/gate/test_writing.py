"""What --write keeps: reasons with date and commit, versions, values by image, run times."""

import re

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.gate import gate, write_baseline
from axiom_bench.gate.by_image import path_of
from axiom_bench.records import artefacts, files, store


def history(file):
    return re.findall(r"^# history: (.*)$", file.read_text(), re.MULTILINE)


def test_reasons_are_kept_with_date_and_commit(make_run, records, tmp_path, git):
    run, folder = make_run(records), tmp_path / "repository"
    baseline = folder / "baselines" / "b.csv"
    baseline.parent.mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    for reason in (["--reason", "The first\none,\x1b with a break"], [], ["--reason", "the second"]):
        assert main(["gate", str(run), "--baseline", str(baseline), "--write", *reason]) == 0
    first, second = history(baseline)
    head = git(folder, "rev-parse", "HEAD")[:12]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d at commit {head}: The first one, with a break", first)
    assert second.endswith(": the second")
    assert gate(run, baseline).exit_code == 0, "a reason is none of what must be the same"
    (line,) = history(write_baseline(run, tmp_path / "b.csv", reason="x" * 1000))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d: x{500}", line), "outside of a repository there is no commit"


@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_values_that_depend_on_the_batch_are_refused(make_run, records, tmp_path, kind):
    run, why = make_run(records), "depends on the batch"
    baseline = write_baseline(run, tmp_path / "b.csv")
    manifest = artefacts.read(run)
    entries = manifest.get(kind) or {}
    name = {"methods": "xgrad_cam", "metrics": "iou"}[kind]
    artefacts.write(run, {**manifest, kind: {**entries, name: {**entries.get(name, {}), "unstable": why}}})
    sentence = (
        f"Can't compare: '{name}' {why}. A gate compares values that are the same again: leave it out, or mend it."
    )
    assert gate(run, baseline).lines == (sentence,)
    with pytest.raises(BenchError, match=why):
        write_baseline(run, tmp_path / "b.csv")


def test_other_versions_are_named_where_something_moved(make_run, records, tmp_path):
    run = make_run(records, versions={"torch": "2.6.0", "numpy": "2.0"})
    baseline = write_baseline(run, tmp_path / "b.csv")
    assert "# written with: torch 2.6.0, numpy 2.0\n" in baseline.read_text()
    moved = records.assign(value=2 * records["value"])
    line = gate(make_run(moved, versions={"torch": "2.13.0"}), baseline).lines[-2]
    assert line == "The baseline was written with torch 2.6.0, numpy 2.0; this run is of torch 2.13.0."
    assert len(gate(make_run(records, versions={"torch": "2.13.0"}), baseline).lines) == 1


def test_a_refresh_keeps_what_the_baseline_had(make_run, timed, records, tmp_path):
    baseline = write_baseline(timed(records, 2.0), tmp_path / "b.csv", sampled=True, timed="40%")
    before = path_of(baseline).read_bytes()
    write_baseline(timed(records.assign(value=2 * records["value"]), 3.0), baseline)
    assert path_of(baseline).read_bytes() != before
    assert "run time,8,3,3,,median:40%" in baseline.read_text()
    write_baseline(make_run(records), tmp_path / "plain.csv")
    assert not path_of(tmp_path / "plain.csv").exists()


@pytest.fixture
def timed(make_run):
    """(records, forwards of Grad-CAM, device) -> a run with run times."""

    def make(records, forwards, device="cpu"):
        folder = make_run(records)
        steps = [("forward", "-", 1.0), ("trace", "-", 1.2), ("method", "grad_cam", forwards)]
        rows = [
            {"model": "one", "layer": "last", "data": "scenes", "method": method, "step": step, "forwards": ratio,
             "milliseconds_per_image": 7.0, "batch_size": 8, "device": device}
            for step, method, ratio in steps
        ]  # fmt: skip
        empty = ("trunk_forward", "trunk_backward", "head_forward", "head_backward", "peak_memory_bytes")
        store.write(folder / "runtime/a.parquet", pd.DataFrame(rows).assign(**dict.fromkeys(empty, 0.0)), schema=None)
        manifest = files.read_json(folder / "manifest.json")
        artefacts.write(folder, {**manifest, "runtime": ["runtime/a.parquet"]})
        return folder

    return make


@pytest.mark.slow
def test_run_times_are_ratios_and_optional(timed, make_run, records, tmp_path):
    run = timed(records, 2.0)
    plain = write_baseline(run, tmp_path / "plain.csv")
    assert "run time" not in plain.read_text()
    assert gate(timed(records, 9.0), plain).exit_code == 0
    baseline = write_baseline(run, tmp_path / "b.csv", timed="50%")
    assert "\none,last,scenes,grad_cam,run time,8,2,2,,median:50%\n" in baseline.read_text(), "no milliseconds"
    assert "# run time on: cpu\n" in baseline.read_text()
    for forwards, verdicts in ((2.9, []), (1.1, []), (3.1, ["worse"]), (0.9, ["better"])):
        assert [each.verdict for each in gate(timed(records, forwards), baseline).findings] == verdicts, forwards
    assert "device of run times was 'cpu', is 'H200'" in gate(timed(records, 2.0, "H200"), baseline).conclusion
    assert "runtime.repeats=5" in gate(make_run(records), baseline).conclusion
    with pytest.raises(BenchError, match="write a share, as 50%"):
        write_baseline(run, tmp_path / "c.csv", timed="half")
    short = write_baseline(timed(records, 0.02), tmp_path / "short.csv", timed="50%")
    for forwards, code in ((0.2, 0), (0.3, 1)):  # short steps may move by a quarter of a forward pass
        assert gate(timed(records, forwards), short).exit_code == code
