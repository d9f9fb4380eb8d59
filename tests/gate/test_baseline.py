"""The committed baselines: the default command holds them.

No fault of a method or of the records passes the gate unnoticed.
"""

from pathlib import Path

import pytest

from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.gate.baseline import Baseline, write_baseline
from axiom_bench.statistics.summary import counts_of

BASELINE = Path(__file__).resolve().parents[2] / "results" / "baselines" / "quick.csv"
HARD = BASELINE.with_name("gate.csv")
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
SOURCE = """\
from axiom_bench.methods.xgrad_cam import xgrad_cam


def faulty(trace):
    return 1.01 * xgrad_cam(trace)
"""


def gate(run, baseline=BASELINE):
    return main(["gate", str(run), "--baseline", str(baseline)])


@pytest.mark.slow
def test_the_default_run_holds(tmp_path, capsys):
    """Run the default command without its report."""
    code, lines, finished = compute([*QUIET, f"results={tmp_path}/results"])
    assert code == 0, lines
    capsys.readouterr()

    code = gate(finished)

    output = capsys.readouterr().out
    assert code == 0, output
    assert output.startswith("Holds: 300 rows")


@pytest.mark.slow
def test_the_hard_rows_hold(tmp_path, monkeypatch, capsys):
    """Run fourteen images, five and three with four networks, without a report."""
    monkeypatch.chdir(tmp_path)
    code, lines, folder = compute(["experiment=gate"])
    assert code == 0, lines
    assert gate(folder, HARD) == 0, capsys.readouterr().out


def test_the_hard_rows_are_hard():
    """Check for rows that the default run lacks; without them the gate would miss their faults."""
    rows = Baseline.read(HARD).rows
    counts = [counts_of(statuses) for statuses in rows["statuses"]]
    statuses = {status for count in counts for status in count}
    assert statuses >= {
        "bad_image",
        "no_annotation",
        "no_mask",
        "no_contributions",
        "not_applicable",
        "not_on_score_scale",
        "zero_drops",
        "zero_map",
        "zero_score",
    }
    assert sum("ok" in count and len(count) > 1 for count in counts) > 400
    means = rows.set_index(["model", "metric"])["mean"]
    assert means["planted_cancelling", "guarded_channels"].item() == 0.2  # one of five images
    assert 0 < means["scenes_vgg", "network accuracy"].item() < 1
    assert {"mask_iou", "max_box_acc (whole set)", "deletion_auc"} <= set(rows["metric"])


@pytest.mark.slow
def test_a_fault_in_a_method_moves(tmp_path, monkeypatch, capsys):
    """Compute XGrad-CAM again with weights that are 1 % larger.

    The records of the other method are reused.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one_percent_more.py").write_text(SOURCE)
    options = [
        *QUIET,
        "model=scenes_vgg",
        "data.size=6",
        "method=[grad_cam,xgrad_cam]",
        "metric=[sensitivity_error,conservation_error,box_iou]",
    ]
    code, _, run = compute(options)
    assert code == 0
    baseline = write_baseline(run, tmp_path / "own.csv")
    files_before = set(run.glob("records/*"))

    code, *_ = compute([*options, "method.xgrad_cam._target_=one_percent_more.faulty"])

    assert code == 0
    assert len(set(run.glob("records/*")) - files_before) == 1
    capsys.readouterr()
    assert gate(run, baseline) == 1
    lines = capsys.readouterr().out.splitlines()[:-1]
    moved = [line.split(":")[0].split() for line in lines]
    assert {method for *_, method, _ in moved} == {"xgrad_cam"}
    assert "sensitivity_error" in {metric for *_, metric in moved}
