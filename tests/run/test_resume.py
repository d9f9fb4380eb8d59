"""What is done stays done: a repeated run, changed inputs, several commands on one run folder."""

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

from .conftest import failure, module_of

RECORDS = "quick/default/records"


def written(results: Path) -> dict[str, int]:
    """Every record file with the moment it was written."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in (results / "quick/default/records").glob("*.parquet")
    }


def computed(results: Path, before: dict[str, int]) -> list[dict[str, set[str]]]:
    """What was computed since: {method: metrics} of each new record file. The others are as they
    were.
    """
    after = written(results)
    assert {name: when for name, when in after.items() if name in before} == before
    folder = results / "quick/default"
    files = (
        record_files.open_file(folder, f"records/{name}")[0] for name in after if name not in before
    )
    return [{method: set(metrics) for method, metrics in file.values.items()} for file in files]


BOTH = ("grad_cam", "xgrad_cam")
ERRORS = {"sensitivity_error", "confidence_drop"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        ("method=[grad_cam,xgrad_cam,uniform]", {"uniform": ERRORS}),
        (
            "metric=[sensitivity_error,confidence_drop,zeta,box_iou]",
            {name: {"box_iou"} for name in BOTH},
        ),
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


# both ask for the same 16 passes of each image
DELETIONS = ("metric=[single_deletion,non_sensitivity]",)


def passes_per_row(outcomes):
    """The forward passes that a run of one job has computed, for each row of its batches."""
    (outcome,) = outcomes
    return outcome.computed.passes["trunk_forward"] / outcome.computed.passes["head_backward"]


@pytest.mark.slow
def test_an_added_method_or_metric_repeats_no_pass_that_depends_on_no_method(
    run, ran, rows, results
):
    first = ran("method=[grad_cam]", *DELETIONS)
    assert passes_per_row(first) > 2
    added = run("method=[grad_cam,xgrad_cam]", *DELETIONS)
    assert passes_per_row(added) == 1  # the traces
    later = rows(added)
    shutil.rmtree(results)
    pd.testing.assert_frame_equal(
        later, rows(run("method=[grad_cam,xgrad_cam]", *DELETIONS)), check_exact=True
    )


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
def test_kept_answers_are_those_of_the_same_passes(run, ran, change, repeats):
    ran("method=[grad_cam]", "metric=[single_deletion]")
    added = run("method=[grad_cam,xgrad_cam]", "metric=[single_deletion]", change)
    assert (passes_per_row(added) > 2) == repeats


@pytest.mark.slow
def test_answers_are_kept_by_commands_without_users_own_code_only(
    run, results, tmp_path, monkeypatch
):
    module_of(
        tmp_path, "users_only_cam", "def cam(trace):\n    return trace.gradients\n", monkeypatch
    )
    chosen = ("method=[grad_cam]", "metric=[single_deletion]")
    run(*chosen, "+method.mine._target_=users_only_cam.cam")
    assert not (results / "quick/default/answers").exists()
    assert passes_per_row(run("method=[xgrad_cam]", "metric=[single_deletion]")) > 2
    (outcome,) = run(*chosen, "+method.another._target_=users_only_cam.cam")
    passes = outcome.computed.passes
    # an image of each shard again
    assert passes["trunk_forward"] == passes["head_backward"] + 3 * 16


@pytest.mark.slow
def test_a_file_that_vanishes_under_a_run_is_missed(run, ran, rows, results, monkeypatch):
    chosen = ("metric=[max_box_acc,zeta]",)
    before = rows(ran(*chosen))
    shutil.rmtree(results)
    compute_shard = shards.compute

    def and_deletes(keys, shard, *rest):
        file = compute_shard(keys, shard, *rest)
        if shard == keys.job.shards[-1]:
            min((results / "quick/default/records").glob("*.parquet")).unlink()
        return file

    with monkeypatch.context() as patch:
        patch.setattr(shards, "compute", and_deletes)
        assert "1 of 3 shards that were computed are gone" in failure(run(*chosen))
    pd.testing.assert_frame_equal(rows(run(*chosen)), before, check_exact=True)


COMMIT = "0123456789" * 4
WRITERS = [  # entries of a manifest: what the refusal has, and hasn't
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


@pytest.mark.parametrize(("about", "words", "absent"), WRITERS)
def test_the_version_that_wrote_a_run_and_how_it_is_installed_are_told(
    tmp_path, about, words, absent
):
    content = {"experiment": "quick", "run": "default", "format": 1, **about}
    (tmp_path / artefacts.NAME).write_text(json.dumps(content))
    for read in (artefacts.read, ab.read_run):
        with pytest.raises(BenchError, match=words) as refusal:
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
    """What earlier commands computed without it stays."""
    (tmp_path / "interferes.py").write_text(INTERFERES)
    monkeypatch.syspath_prepend(tmp_path)
    run()
    before = written(results)
    (outcome,) = run("+method.mine._target_=interferes.mine", "++method.mine.on_score_scale=false")
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert outcome.failure.message.startswith("The plug-in 'mine' (")
    assert written(results) == before


@pytest.mark.slow
@pytest.mark.parametrize("copied", [1, 3])
def test_record_files_of_another_machine_count(run, ran, rows, results, copied):
    """Copied into a folder, whatever it holds."""
    before = rows(ran())
    paths = sorted((results / RECORDS).glob("*.parquet"))
    for path in paths[copied:]:
        path.unlink()
    outcomes = run()
    assert outcomes[0].computed.shards == 3 - copied
    pd.testing.assert_frame_equal(rows(outcomes), before)


@pytest.mark.slow
def test_a_second_command_on_a_folder_waits_and_finds_what_the_first_has_computed(
    run, ran, results
):
    ran()
    with redirect_stderr(io.StringIO()) as told, ThreadPoolExecutor(1) as pool:
        with running.held(results / "quick/default"):
            second = pool.submit(run)
            wait_until(lambda: "waiting for" in told.getvalue())
            assert not second.done()
        assert second.result()[0].computed.shards == 0
