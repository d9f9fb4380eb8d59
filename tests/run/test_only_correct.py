"""data.only_correct and data.only_classes: which images are explained, what is said of the others, and resuming."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.cli.finish import finish
from axiom_bench.errors import BenchError
from axiom_bench.records.reading import read_records
from axiom_bench.run.computing import compute
from axiom_bench.run.jobs import predictions, ready
from axiom_bench.run.jobs.job import Job, Shard
from axiom_bench.run.manifest import Outcome, assemble

Run = Callable[..., list[Outcome]]
CORRECT = ("data.size=12", "data.only_correct=true", "shard_size=5", "target=label")


def folder_of(results: Path) -> Path:
    return next(results.glob("*/default"))


def read(folder: Path, outcome: Outcome) -> pd.DataFrame:
    return read_records(folder, assemble([outcome], "quick", "default"))


def _job(outcome: Outcome) -> Job:
    return Job.of(outcome.config)


def test_only_images_that_the_model_names_correctly(run: Run, ran: Run, results: Path) -> None:
    (unfiltered,) = run("data.size=12", "target=label", "run=all")
    rows = read(results / "quick/all", unfiltered)
    images = rows[rows["metric"] == "zeta"]
    (outcome,) = ran(*CORRECT)
    kept = read(folder_of(results), outcome)
    labels = images.set_index("image_id")["predicted_class"].to_dict()
    data_set = _job(outcome).data
    right = {name for index, name in enumerate(data_set.ids) if labels[name] in data_set.labels(index)}
    assert set(kept["image_id"]) == right
    assert set(outcome.left_out) == set(labels) - right
    assert (outcome.images, len(outcome.left_out)) == (len(right), 12 - len(right))
    assert right
    assert outcome.left_out


def test_they_are_counted_on_the_screen_in_the_manifest_and_in_the_report(
    ran: Run, results: Path, undrawn: None
) -> None:
    outcomes = ran(*CORRECT)
    _, lines = finish(outcomes[0].config, outcomes)
    left_out = len(outcomes[0].left_out)
    assert any(f"{left_out} of 12 images are left out" in line for line in lines)
    written = json.loads((folder_of(results) / "manifest.json").read_text())
    assert written["jobs"][0]["left_out"] == list(outcomes[0].left_out)
    assert len(written["data"]["scenes"]["ids"]) == 12
    kept = {"chosen": 12, "kept": 12 - left_out, "others": ready.OTHERS}
    assert [model["images"] for model in written["models"].values()] == [{"scenes": kept}]
    (name,) = written["models"]
    report.write(folder_of(results))
    sentence = f"data.only_correct: {name} {12 - left_out} of 12."
    assert sentence in (folder_of(results) / "tables/overview.md").read_text()
    page = (folder_of(results) / "report.html").read_text()
    assert sentence in page
    assert f'<td class="page-number">{12 - left_out} of 12</td>' in page
    assert re.search(r">\d+ of 12 \(\d+ %\)<", page)  # named as labelled, of all chosen


def test_without_the_filter_all_are_kept_and_nothing_is_said(run: Run, results: Path, undrawn: None) -> None:
    outcomes = run("data.size=12", "target=label")
    finish(outcomes[0].config, outcomes)
    written = json.loads((folder_of(results) / "manifest.json").read_text())
    kept = {"chosen": 12, "kept": 12, "others": None}
    assert [model["images"] for model in written["models"].values()] == [{"scenes": kept}]
    assert "data.only_correct" not in (folder_of(results) / "tables/overview.md").read_text()


def test_a_second_run_predicts_nothing_and_a_stopped_one_goes_on(
    run: Run, ran: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = ran(*CORRECT)
    stored = sorted(folder_of(results).glob("predictions/*.json"))
    assert len(stored) == 3
    stored[1].unlink()
    seen: list[int] = []

    def counted(
        job: Job, cut_model: compute.CutModel, shard: Shard, batch_rows: int
    ) -> dict[str, predictions.Prediction]:
        seen.append(len(shard))
        return predict(job, cut_model, shard, batch_rows)

    predict = predictions._of_shard
    monkeypatch.setattr(predictions, "_of_shard", counted)
    (second,) = run(*CORRECT)
    assert len(seen) == 1
    assert (second.left_out, second.computed.shards) == (first.left_out, 0)
    run(*CORRECT)
    assert len(seen) == 1


def test_no_image_left_is_a_sentence(run: Run) -> None:
    outcomes = [run(*CORRECT, "data.size=1", f"model.seed={seed}", f"run={seed}") for seed in range(2)]
    messages = [outcome.failure.message for (outcome,) in outcomes if outcome.failure]
    assert messages
    assert all("names none of the 1 images correctly" in message for message in messages)


def test_a_bad_image_stays_as_a_row(run: Run, results: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for place, name in enumerate(("0/a.png", "1/b.png", "2/c.png")):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        pixels = np.random.default_rng(place).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "images/1/b.png").write_text("no picture")
    folder = ("data=folder", f"data.root={tmp_path / 'images'}", "data.size=null", "data.workers=0", "target=predicted")
    classes = "data.classes=[" + ",".join(f"'{number}'" for number in range(10)) + "]"
    (outcome,) = run(*folder, classes, "data.only_correct=true", "metric=[zeta]", "method=[grad_cam]")
    assert outcome.failure is None
    rows = read(folder_of(results), outcome)
    assert rows.loc[rows["image_id"] == "1/b.png", "status"].unique().tolist() == ["bad_image"]
    assert "1/b.png" not in outcome.left_out


def test_only_classes_of_the_scenes(run: Run, results: Path) -> None:
    (outcome,) = run("data.only_classes=[3]", "data.size=12", "target=label")
    data_set = _job(outcome).data
    ids = set(read(folder_of(results), outcome)["image_id"])
    assert ids == {name for index, name in enumerate(data_set.ids) if 3 in data_set.labels(index)}
    assert 0 < len(ids) < 12


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.only_classes=3", r"data\.only_classes must be a list"),
        ("data.only_correct=perhaps", r"data\.only_correct must be true or false"),
    ],
)
def test_mistakes_stop_before_anything_is_computed(run: Run, override: str, sentence: str) -> None:
    with pytest.raises(BenchError, match=sentence):
        run(override)


def test_a_class_that_is_not_there(run: Run) -> None:
    (outcome,) = run("data.only_classes=[dog]")
    assert outcome.failure is not None
    assert "class of 'scenes'" in outcome.failure.message
