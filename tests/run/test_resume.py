"""What is done stays done: a repeated run, changed inputs, several commands on one run folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from axiom_bench.cli import finish
from axiom_bench.cli.benchmark import share
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, claims, holdings, running
from axiom_bench.run import sweep as sweeps
from axiom_bench.run.computing import compute
from axiom_bench.run.manifest import Outcome
from axiom_bench.run.sweep import sweep
from axiom_bench.statistics.run_folder import RunFolder

from .conftest import failure, rows_of, tiny

RECORDS = "quick/default/records"


def written(results: Path) -> dict[str, int]:
    """Every record file with the moment it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (results / "quick/default/records").glob("*.parquet")}


def computed(results: Path, before: dict[str, int]) -> list[dict[str, set[str]]]:
    """What was computed since: {method: metrics} of each new record file. The others are as they were."""
    after = written(results)
    assert {name: when for name, when in after.items() if name in before} == before
    folder = results / "quick/default"
    files = (holdings.open_file(folder, f"records/{name}")[0] for name in after if name not in before)
    return [{method: set(metrics) for method, metrics in file.values.items()} for file in files]


def test_a_repeated_run_computes_nothing(run, ran, results, capsys):
    first = ran()[0]
    assert (first.shards, first.computed.shards) == (3, 3)
    before = written(results)
    assert len(before) == 3
    again = run()[0]
    assert (again.shards, again.computed.shards) == (3, 0)
    assert again.stored == first.stored
    assert written(results) == before
    assert "3 of 3 shards were already there" in capsys.readouterr().out


BOTH, ERRORS = ("grad_cam", "xgrad_cam"), {"sensitivity_error", "confidence_drop"}


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ("method=[grad_cam,xgrad_cam,uniform]", {"uniform": ERRORS}),
        ("metric=[sensitivity_error,confidence_drop,zeta,box_iou]", {name: {"box_iou"} for name in BOTH}),
        ("metric=[sensitivity_error,confidence_drop,zeta,epsilon]", {"-": {"epsilon"}}),
        ("++metric.confidence_drop.params.fill=zero", {name: {"confidence_drop"} for name in BOTH}),
        (
            "method=[grad_cam,uniform] metric=[sensitivity_error,zeta,box_iou]",
            {"grad_cam": {"box_iou"}, "uniform": {"sensitivity_error", "box_iou"}},
        ),
    ],
)
def test_what_is_missing_is_computed_and_nothing_else(run, ran, rows, results, overrides, missing):
    ran()
    before = written(results)
    outcomes = run(*overrides.split())
    assert computed(results, before) == [missing] * 3
    later = rows(outcomes)
    shutil.rmtree(results)
    pd.testing.assert_frame_equal(later, rows(run(*overrides.split())), check_exact=True)


@pytest.mark.parametrize("folder", ["records", "curves"])
def test_a_damaged_file_is_named_and_computed_again(run, ran, rows, results, folder):
    chosen = ("metric=[max_box_acc,zeta]",)
    before = rows(ran(*chosen))
    path = sorted((results / "quick/default" / folder).glob("*.parquet"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(bytes(content))
    (outcome,) = mended = run(*chosen)
    assert outcome.computed.shards == 1
    assert outcome.notes == (f"1 damaged file is written anew: 1 in {folder}",)
    pd.testing.assert_frame_equal(rows(mended), before, check_exact=True)
    (again,) = run(*chosen)
    assert (again.computed.shards, again.notes) == (0, ())


def test_a_file_that_vanishes_under_a_run_is_missed(run, ran, rows, results, monkeypatch):
    chosen = ("metric=[max_box_acc,zeta]",)
    before = rows(ran(*chosen))
    shutil.rmtree(results)
    compute_shard = compute.compute

    def and_deletes(job, cut_model, shard, *rest):
        file = compute_shard(job, cut_model, shard, *rest)
        if shard == job.shards[-1]:
            min((results / "quick/default/records").glob("*.parquet")).unlink()
        return file

    with monkeypatch.context() as patch:
        patch.setattr(compute, "compute", and_deletes)
        assert "1 of 3 shards that were computed are gone" in failure(run(*chosen))
    pd.testing.assert_frame_equal(rows(run(*chosen)), before, check_exact=True)


@pytest.mark.parametrize("number", [None, 1, artefacts.FORMAT - 1, artefacts.FORMAT + 1, 2.5])
def test_a_run_folder_of_another_format_is_refused(run, results, number):
    folder = results / "quick/default"
    folder.mkdir(parents=True)
    (folder / artefacts.NAME).write_text(json.dumps({"experiment": "quick", "run": "default", "format": number}))
    with pytest.raises(BenchError, match="is a run of another version of axiom-bench"):
        run()
    with pytest.raises(BenchError, match=f"format {number}, not {artefacts.FORMAT}"):
        artefacts.read(folder)
    assert [path.name for path in folder.iterdir()] == [artefacts.NAME]


def test_a_run_that_broke_off_goes_on(run, results, monkeypatch):
    shard_rows, seen = compute.shard_rows, []

    def breaks(*args):
        seen.append(args)
        for part in shard_rows(*args):
            yield part
            if len(seen) == 2:
                raise RuntimeError("a power cut")

    monkeypatch.setattr(compute, "shard_rows", breaks)
    (outcome,) = run()
    assert outcome.failure is not None
    assert "a power cut" in outcome.failure.message
    assert not outcome.failure.mendable
    assert len(written(results)) == 1  # the first shard's file; nothing of the second
    monkeypatch.setattr(compute, "shard_rows", shard_rows)
    assert run()[0].computed.shards == 2


INTERFERES = """
calls = 0

def mine(trace):
    global calls
    calls += trace.num_padding > 0  # a shard's last batch, and not the proof's rows
    if calls > 1:
        trace.cut_model.model.train()
    return trace.gradients
"""


def test_nothing_is_kept_of_the_company_of_a_plug_in_that_is_refused(run, results, tmp_path, monkeypatch):
    """What earlier commands computed without it stays."""
    (tmp_path / "interferes.py").write_text(INTERFERES)
    monkeypatch.syspath_prepend(tmp_path)
    run()
    before = written(results)
    (outcome,) = run("+method.mine._target_=interferes.mine", "++method.mine.on_score_scale=false")
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert outcome.failure.message.startswith("The plug-in 'mine' leaves the network's ")
    assert written(results) == before


SETTINGS = tiny(("metric=[sensitivity_error]", "method=[grad_cam]"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, list[Outcome]]:
    """A run of three shards by one process, and the folder of its results."""
    results = tmp_path_factory.mktemp("alone")
    return results, sweep([*SETTINGS, f"results={results}"])[1]


@pytest.fixture
def shared(tmp_path, alone) -> tuple[Path, Path]:
    """Results to which `--share` has added what it could while another process was at the second shard, and that
    shard's file of the run above."""
    others = sorted((alone[0] / RECORDS).glob("*.parquet"))[1]
    with claims.shard_lock(others.name.partition("-")[0], tmp_path / "quick/default"):
        lines = ["scenes_vgg at features.13 on scenes: computed 2 of 3 shards"]
        assert share([*SETTINGS, f"results={tmp_path}"]) == (0, lines)
    assert [path.name for path in (tmp_path / "quick/default").iterdir()] == ["records"]
    return tmp_path, others


@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_computed_or_comes_from_another_machine(shared, alone, is_copied):
    """A machine without a common file system has record files of its own, which are copied into one folder."""
    results, others = shared
    if is_copied:
        shutil.copy(others, results / RECORDS)
    outcomes = sweep([*SETTINGS, f"results={results}"])[1]
    assert [outcome.computed.shards for outcome in (*alone[1], *outcomes)] == [3, 0 if is_copied else 1]
    pd.testing.assert_frame_equal(rows_of(results, outcomes), rows_of(*alone))


def test_a_failure_is_the_exit_code(tmp_path):
    code, lines = share([*SETTINGS, "model.layer=nowhere", f"results={tmp_path}"])
    assert code == 2
    assert lines[0].startswith("failed: scenes_vgg: ")


CONFIG: dict[str, Any] = {"method": {"cam": {}}, "data": {"size": 5}, "device": {"name": "cpu"}}
OTHER = {**CONFIG, "method": {"grad_cam": {}}}
TYPED = ("method=[cam]", "model=a,b")


def begin(folder: Path, config: Mapping[str, Any], typed: Sequence[str], others: Sequence[Any] = ()) -> None:
    running.begin(folder, {"about": sweeps.about(config, typed), "others": others})


def sentence(folder: Path) -> str | None:
    return sweeps.still_running(folder, sweeps.about(CONFIG, TYPED))


def test_another_command_that_began_later_or_earlier_and_is_still_there(tmp_path):
    with claims.running(tmp_path):
        begin(tmp_path, OTHER, ["method=[grad_cam]", "run=a b"])
        line = sentence(tmp_path)
        begin(tmp_path, CONFIG, TYPED, sweeps.other_commands(tmp_path))
        assert sentence(tmp_path) == line
        begin(tmp_path, CONFIG, ["method=[cam]", "model=c,d"])  # of what is swept over, the configuration has one value
        assert sentence(tmp_path) is not None
        for config, typed in (  # of the same settings nothing is said
            (CONFIG, TYPED),
            ({**CONFIG, "device": {"name": "cuda"}}, [*TYPED, "device=cuda"]),  # another machine
            (CONFIG, [*reversed(TYPED), "data.size=5"]),  # the default, spelt out
        ):
            begin(tmp_path, config, typed)
            assert sentence(tmp_path) is None
    assert line.startswith(f"another command with other settings still runs on {tmp_path}: axiom-bench ")
    assert "'method=[grad_cam]' 'run=a b'" in line
    assert "run=NAME" in line


def test_a_command_that_was_killed_is_no_other(tmp_path):
    """And what it left may be damaged."""
    begin(tmp_path, OTHER, [])
    assert sentence(tmp_path) is None
    for damaged in ("", "5", "[]", '{"about": 5, "others": [3]}'):
        (tmp_path / running.FOLDER / running.COMMAND).write_text(damaged)
        with claims.running(tmp_path):
            assert sentence(tmp_path) is None


def test_the_last_lines_are_of_this_command(tmp_path, monkeypatch):
    """Another command that writes its manifest meanwhile had its methods named by the one that ended first."""
    typed = tiny(("data.size=2", "method=[cam]", "metric=[box_iou]", f"results={tmp_path}"))
    config, outcomes = sweep(typed)
    folder, shown = tmp_path / "quick" / "default", []

    def write(run: RunFolder, **_: object) -> Path:
        shown.append(list(run.manifest["methods"]))
        return run.path / "report.html"

    def end(of: Path) -> None:
        artefacts.write(of, {**artefacts.read(of), "methods": {"grad_cam": {}}, "created": "later"})

    monkeypatch.setattr("axiom_bench.report.write", write)
    monkeypatch.setattr("axiom_bench.report.headline", lambda run: [f"best: {', '.join(run.manifest['methods'])}"])
    with claims.running(folder):
        begin(folder, {**config, "method": {"grad_cam": {}}}, ["method=[grad_cam]"])
        monkeypatch.setattr("axiom_bench.records.running.end", end)
        code, lines = finish.finish(config, outcomes, typed)
    assert (code, shown) == (0, [["cam"]])
    assert lines[-3:-1] == ["best: cam", f"report: {folder}/report.html"]
    assert lines[-1].startswith("another command with other settings still runs on")
