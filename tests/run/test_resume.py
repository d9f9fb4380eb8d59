"""Tests that a run computes nothing again that is already stored.

They repeat a run, change its inputs, and start several commands on one run folder.
"""

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path

import pandas as pd
import pytest

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, record_files, running
from axiom_bench.run import shards
from tests.faults.runs import wait_until

from .conftest import RUN, failure, write_module


def record_paths(results: Path) -> list[Path]:
    return sorted((results / RUN / "records").glob("*.parquet"))


def record_times(results: Path) -> dict[str, int]:
    """Return the time at which each record file was written."""
    return {path.name: path.stat().st_mtime_ns for path in record_paths(results)}


def computed_since(results: Path, before: dict[str, int]) -> list[dict[str, set[str]]]:
    """Return `{method: metrics}` of each record file that is new since `before`.

    Check also that the earlier files are unchanged.
    """
    after = record_times(results)
    assert {name: time for name, time in after.items() if name in before} == before
    computed = []
    for name in after:
        if name not in before:
            file, *_ = record_files.open_file(results / RUN, f"records/{name}")
            computed.append({method: set(metrics) for method, metrics in file.values.items()})
    return computed


ERRORS = {"sensitivity_error", "confidence_drop"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ("method=[grad_cam,xgrad_cam,uniform]", {"uniform": ERRORS}),
        (
            "metric=[sensitivity_error,confidence_drop,zeta,box_iou]",
            {"grad_cam": {"box_iou"}, "xgrad_cam": {"box_iou"}},
        ),
        ("metric=[sensitivity_error,confidence_drop,zeta,epsilon]", {"-": {"epsilon"}}),
        (
            "++metric.confidence_drop.params.fill=zero",
            {"grad_cam": {"confidence_drop"}, "xgrad_cam": {"confidence_drop"}},
        ),
        (
            "method=[grad_cam,uniform] metric=[sensitivity_error,zeta,box_iou]",
            {"grad_cam": {"box_iou"}, "uniform": {"sensitivity_error", "box_iou"}},
        ),
    ],
)
def test_what_is_missing_is_computed_and_nothing_else(
    run, copied_run, rows, results, overrides, missing
):
    copied_run()
    before = record_times(results)

    resumed = run(overrides.split())

    assert computed_since(results, before) == [missing] * 3
    resumed_rows = rows(resumed)
    shutil.rmtree(results)
    fresh_rows = rows(run(overrides.split()))
    pd.testing.assert_frame_equal(resumed_rows, fresh_rows, check_exact=True)


# Both metrics need the same 16 forward passes of each image.
DELETIONS = "metric=[single_deletion,non_sensitivity]"


def passes_per_row(outcomes):
    """Return the forward passes of a run of one job, per row of its batches."""
    (outcome,) = outcomes
    return outcome.computed.passes["trunk_forward"] / outcome.computed.passes["head_backward"]


@pytest.mark.slow
def test_an_added_method_or_metric_repeats_no_pass_that_depends_on_no_method(
    run, copied_run, rows, results
):
    first = copied_run(["method=[grad_cam]", DELETIONS])
    assert passes_per_row(first) > 2
    resumed = run(["method=[grad_cam,xgrad_cam]", DELETIONS])
    assert passes_per_row(resumed) == 1  # the traces
    resumed_rows = rows(resumed)
    shutil.rmtree(results)
    fresh_rows = rows(run(["method=[grad_cam,xgrad_cam]", DELETIONS]))
    pd.testing.assert_frame_equal(resumed_rows, fresh_rows, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "repeats"),
    [
        ("metric.single_deletion.params.fill=blur", True),
        ("metric.single_deletion.params.output=probability", True),
        ("model.seed=1", True),
        ("device.ablation_memory=200000", True),
        ("report.compare=grad_cam", False),
    ],
)
def test_kept_answers_are_those_of_the_same_passes(run, copied_run, change, repeats):
    copied_run(["method=[grad_cam]", "metric=[single_deletion]"])
    added = run(["method=[grad_cam,xgrad_cam]", "metric=[single_deletion]", change])
    assert (passes_per_row(added) > 2) == repeats


@pytest.mark.slow
def test_jobs_at_other_layers_repeat_no_pass_of_changed_images(run, rows, results):
    command = ["method=[grad_cam]", "metric=[single_deletion]"]
    first, second = run([*command, "model.layer=features.9,features.3"])
    assert passes_per_row([first]) > 2
    assert passes_per_row([second]) == 1  # the traces
    values = rows([first, second])
    shutil.rmtree(results)
    alone = rows(run([*command, "model.layer=features.3"]))
    shared = values[values["layer"] == "features.3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, alone, check_exact=True)


@pytest.mark.slow
def test_answers_are_kept_by_commands_without_users_own_code_only(
    run, results, tmp_path, monkeypatch
):
    code = "def cam(trace):\n    return trace.gradients\n"
    write_module(tmp_path, "users_only_cam", code, monkeypatch)
    command = ("method=[grad_cam]", "metric=[single_deletion]")

    run([*command, "+method.mine._target_=users_only_cam.cam"])
    assert not (results / RUN / "answers").exists()
    assert passes_per_row(run(["method=[xgrad_cam]", "metric=[single_deletion]"])) > 2

    (outcome,) = run([*command, "+method.another._target_=users_only_cam.cam"])
    passes = outcome.computed.passes
    # One image of each of the 3 shards needs its 16 passes again.
    assert passes["trunk_forward"] == passes["head_backward"] + 3 * 16


@pytest.mark.slow
def test_a_file_that_vanishes_under_a_run_is_missed(run, copied_run, rows, results, monkeypatch):
    metrics = "metric=[max_box_acc,zeta]"
    before = rows(copied_run([metrics]))
    shutil.rmtree(results)
    compute_shard = shards.compute

    def compute_and_delete_first(keys, shard, *rest):
        file = compute_shard(keys, shard, *rest)
        if shard == keys.job.shards[-1]:
            record_paths(results)[0].unlink()
        return file

    with monkeypatch.context() as patch:
        patch.setattr(shards, "compute", compute_and_delete_first)
        assert "1 of 3 shards that were computed are gone" in failure(run([metrics]))
    pd.testing.assert_frame_equal(rows(run([metrics])), before, check_exact=True)


COMMIT = "0123456789" * 4
WRITERS = [  # entries of a manifest, a pattern in the refusal, and a text that isn't in it
    (
        {"versions": {"axiom-bench": "0.0.7"}},
        r"'0\.0\.7', format 1.*run git checkout v0\.0\.7 && pip",
        "==",
    ),
    (
        {"versions": {"axiom-bench": "0.0.7"}, "git_commit": COMMIT},
        f"'0.0.7'.*git checkout {COMMIT} && pip install",
        "==",
    ),
    (
        {"versions": {"axiom-bench": "0; rm -rf ~"}, "git_commit": f"{COMMIT}; rm"},
        "format 1, not",
        "To read it",
    ),
    ({"versions": ["axiom-bench"], "git_commit": 3}, "None, format 1, not", "To read it"),
]


@pytest.mark.parametrize(("entries", "pattern", "absent"), WRITERS)
def test_the_version_that_wrote_a_run_and_how_it_is_installed_are_told(
    tmp_path, entries, pattern, absent
):
    content = {"experiment": "quick", "run": "default", "format": 1, **entries}
    (tmp_path / artefacts.NAME).write_text(json.dumps(content))
    for read in (artefacts.read, ab.read_run):
        with pytest.raises(BenchError, match=pattern) as refusal:
            read(tmp_path)
        assert absent not in str(refusal.value)


INTERFERES = """
calls = 0

def mine(trace):
    global calls
    calls += trace.num_padding > 0  # a shard's last batch, and not the proof's rows
    if calls > 1:
        next(trace.cut_model.model.parameters()).data.mul_(2)
    return trace.gradients
"""


@pytest.mark.slow
def test_nothing_is_kept_of_the_company_of_a_plug_in_that_is_refused(
    run, results, tmp_path, monkeypatch
):
    """Check also that the values of earlier commands without the plug-in stay."""
    write_module(tmp_path, "interferes", INTERFERES, monkeypatch)
    run()
    before = record_times(results)
    outcomes = run(["+method.mine._target_=interferes.mine", "++method.mine.on_score_scale=false"])
    assert failure(outcomes).startswith("The plug-in 'mine' (")
    assert record_times(results) == before


@pytest.mark.slow
@pytest.mark.parametrize("num_copied", [1, 3])
def test_record_files_of_another_machine_count(run, copied_run, rows, results, num_copied):
    """Check record files that are copied into a run folder, some or all of them."""
    before = rows(copied_run())
    for path in record_paths(results)[num_copied:]:
        path.unlink()
    outcomes = run()
    assert outcomes[0].computed.shards == 3 - num_copied
    pd.testing.assert_frame_equal(rows(outcomes), before)


@pytest.mark.slow
def test_a_second_command_on_a_folder_waits_and_finds_what_the_first_has_computed(
    run, copied_run, results
):
    copied_run()
    with redirect_stderr(io.StringIO()) as errors, ThreadPoolExecutor(1) as pool:
        with running.hold_lock(results / RUN):
            second = pool.submit(run)
            wait_until(lambda: "waiting for" in errors.getvalue())
            assert not second.done()
        assert second.result()[0].computed.shards == 0
