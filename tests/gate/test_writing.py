"""What --write keeps: reasons with date and commit, versions, values by image, run times."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.gate import gate, write_baseline
from axiom_bench.gate.by_image import path_of
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed, store


def history(file: Path) -> list[str]:
    return re.findall(r"^# history: (.*)$", file.read_text(), re.MULTILINE)


def test_reasons_are_kept_with_date_and_commit(make_run: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *names, *command], cwd=folder, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    baseline = folder / "baselines" / "b.csv"
    baseline.parent.mkdir()
    arguments = ["gate", str(make_run(records)), "--baseline", str(baseline), "--write"]
    assert main([*arguments, "--reason", "The first\none,\x1b with a break"]) == 0
    assert main(arguments) == 0
    assert main([*arguments, "--reason", "the second"]) == 0
    lines = history(baseline)
    assert len(lines) == 2
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d at commit {head.stdout[:12]}: The first one, with a break", lines[0])
    assert lines[1].endswith(": the second")
    assert gate(make_run(records), baseline).exit_code == 0, "a reason is none of what must be the same"


def test_outside_of_a_repository_there_is_no_commit(make_run: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    baseline = write_baseline(make_run(records), tmp_path / "b.csv", reason="x" * 1000)
    (line,) = history(baseline)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d: x{500}", line)


def test_other_versions_are_named_where_something_moved(make_run: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    run = make_run(records, versions={"torch": "2.6.0", "numpy": "2.0"})
    baseline = write_baseline(run, tmp_path / "b.csv")
    assert "# written with: torch 2.6.0, numpy 2.0\n" in baseline.read_text()
    moved = records.assign(value=2 * records["value"])
    line = gate(make_run(moved, versions={"torch": "2.13.0"}), baseline).lines[-2]
    assert line == "The baseline was written with torch 2.6.0, numpy 2.0; this run is of torch 2.13.0."
    assert len(gate(make_run(records, versions={"torch": "2.13.0"}), baseline).lines) == 1


def test_a_refresh_keeps_what_the_baseline_had(
    make_run: Any, timed: Any, records: pd.DataFrame, tmp_path: Path
) -> None:
    baseline = write_baseline(timed(records, 2.0), tmp_path / "b.csv", sampled=True, timed="40%")
    before = path_of(baseline).read_bytes()
    write_baseline(timed(records.assign(value=2 * records["value"]), 3.0), baseline)
    assert path_of(baseline).read_bytes() != before
    assert "run time,8,3,3,,median:40%" in baseline.read_text()
    write_baseline(make_run(records), tmp_path / "plain.csv")
    assert not path_of(tmp_path / "plain.csv").exists()


@pytest.fixture
def timed(make_run: Any) -> Callable[..., Path]:
    """(records, forwards of Grad-CAM, device) -> a run with run times."""

    def make(records: pd.DataFrame, forwards: float, device: str = "cpu") -> Path:
        folder = make_run(records)
        steps = [("forward", "-", 1.0), ("trace", "-", 1.2), ("method", "grad_cam", forwards)]
        rows = [
            {"model": "one", "layer": "last", "data": "scenes", "method": method, "step": step, "forwards": ratio,
             "milliseconds_per_image": 7.0, "batch_size": 8, "device": device}
            for step, method, ratio in steps
        ]  # fmt: skip
        empty = ("trunk_forward", "trunk_backward", "head_forward", "head_backward", "peak_memory_bytes")
        store.write(folder / "runtime/a.parquet", pd.DataFrame(rows).assign(**dict.fromkeys(empty, 0.0)), schema=None)
        manifest = sealed.read_json(folder / "manifest.json")
        manifest_file.write(folder, {**manifest, "runtime": ["runtime/a.parquet"]})
        return folder

    return make


def test_run_times_are_ratios_and_optional(timed: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    plain = write_baseline(timed(records, 2.0), tmp_path / "plain.csv")
    assert "run time" not in plain.read_text()
    assert gate(timed(records, 9.0), plain).exit_code == 0
    baseline = write_baseline(timed(records, 2.0), tmp_path / "b.csv", timed="50%")
    assert "one,last,scenes,grad_cam,run time,8,2,2,,median:50%\n" in baseline.read_text()
    assert "# run time on: cpu\n" in baseline.read_text()
    assert "7" not in re.findall(r"run time.*", baseline.read_text())[0], "no milliseconds"
    for forwards, code in ((2.9, 0), (1.1, 0), (3.1, 1), (0.9, 1)):
        assert gate(timed(records, forwards), baseline).exit_code == code, forwards
    slower, faster = gate(timed(records, 4.0), baseline), gate(timed(records, 0.5), baseline)
    assert [finding.verdict for finding in (*slower.findings, *faster.findings)] == ["worse", "better"]


def test_short_steps_may_move_by_a_quarter_of_a_forward_pass(timed: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    baseline = write_baseline(timed(records, 0.02), tmp_path / "b.csv", timed="50%")
    assert gate(timed(records, 0.2), baseline).exit_code == 0
    assert gate(timed(records, 0.3), baseline).exit_code == 1


def test_run_times_of_another_device_or_none_cannot_be_compared(
    timed: Any, make_run: Any, records: pd.DataFrame, tmp_path: Path
) -> None:
    baseline = write_baseline(timed(records, 2.0), tmp_path / "b.csv", timed="50%")
    assert "device of run times was 'cpu', is 'H200'" in gate(timed(records, 2.0, "H200"), baseline).conclusion
    assert "runtime.repeats=5" in gate(make_run(records), baseline).conclusion
    with pytest.raises(BenchError, match="write a share, as 50%"):
        write_baseline(timed(records, 2.0), tmp_path / "c.csv", timed="half")
