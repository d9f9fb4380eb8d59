"""What a run leaves: manifest, pictures and run times, from one sweep of two models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli.finish import finish, keep
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, combining, files, mirror, reading
from axiom_bench.records.artefacts import Artefact
from axiom_bench.report import stamp
from axiom_bench.run import manifest
from axiom_bench.run.computing.compute import Step
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.sweep import sweep

from .conftest import tiny

SMALL = (
    "model=scenes_vgg,scenes_resnet",
    "data.size=4",
    "data.batch_size=4",
    "method=[grad_cam,cam,centered]",
    "metric=[conservation_error,confidence_drop,zeta]",
    "runtime.repeats=1",
    "runtime.batch_size=2",
    "pictures.rows=3",
    "device=cpu",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder for two models; the report is others' business."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("axiom_bench.report.write", lambda run, **_: run.path / "report.html")
        overrides = [*SMALL, f"results={results}"]
        code, _ = finish(*sweep(overrides), overrides)
    assert code == 0
    return results / "quick" / "default"


@pytest.fixture(scope="module")
def written(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_both_models_are_in_one_manifest(written: dict, folder: Path):
    assert written["overrides"][:-1] == list(SMALL)
    assert list(written["models"]) == ["scenes_vgg", "scenes_resnet"]
    assert written["models"]["scenes_vgg"]["layers"] == ["features.13"]
    assert len(written["models"]["scenes_resnet"]["weights_sha256"]) == 64
    assert [job["job"] for job in written["jobs"]] == [
        "scenes_vgg at features.13 on scenes",
        "scenes_resnet at layer4 on scenes",
    ]
    assert len(written["records"]) == 2
    assert all((folder / path).is_file() for key in ("records", "runtime", "pictures") for path in written[key])
    assert written["failures"] == []
    assert written["data"]["scenes"]["ids"] == [f"evaluation-0-{number:06d}" for number in range(4)]
    assert written["config"]["report"]["headline"]
    assert {"torch", "torchvision", "Pillow", "numpy"} <= set(written["versions"])
    assert (written["device"], written["precision"]) == ("cpu", {"trunk": "fp32", "head": "fp32"})


def test_the_seconds_of_the_command_that_computed_are_kept(written: dict, folder: Path, tmp_path, monkeypatch):
    loop = ["loading", "trace", "methods", "metrics' passes", "metrics"]
    stages = ["start", *loop, "writing", "whole data set", "run times", "pictures"]
    assert [list(seconds) for seconds in written["seconds"].values()] == [stages, stages]
    monkeypatch.setattr("axiom_bench.report.write", lambda run, **_: run.path / "report.html")
    shutil.copytree(folder.parents[1], tmp_path, dirs_exist_ok=True)
    copy = tmp_path / "quick" / "default"
    overrides = [*SMALL, f"results={tmp_path}"]
    stamp.write(copy, "inputs", [], {}, 12.34)
    finish(*sweep(overrides), overrides)
    manifest = json.loads((copy / "manifest.json").read_text())
    assert (manifest["seconds"], manifest["work"]) == (written["seconds"], written["work"])
    assert manifest["report_seconds"] == 12.34


@pytest.mark.parametrize(("weights", "random"), [("null", True), ("default", False)])
def test_the_manifest_says_whether_weights_are_random(run: Callable[..., list[Outcome]], weights: str, random: bool):
    """The report reads it there, and calls nothing best for such a model."""
    outcomes = run(f"model.weights={weights}", "metric=[zeta]", "data.size=1")
    assert manifest.assemble(outcomes, "quick", "default")["models"]["scenes_vgg"]["random_weights"] is random


def test_what_yaml_says_of_methods_and_metrics_is_there(written: dict):
    cam = written["methods"]["cam"]
    assert cam["reference"] == "zhou2016cam"
    assert cam["cited"]["text"] == "Zhou et al. 2016, arXiv:1512.04150"
    assert cam["cited"]["url"] == "https://arxiv.org/abs/1512.04150"
    assert cam["description"].startswith("w_k")
    drop = written["metrics"]["confidence_drop"]
    assert drop["description"].startswith("p - p'")
    assert drop["definition"].startswith("Fig. 4(b)")
    assert "this project's choice" in drop["deviation"]
    about = written["metrics"]["conservation_error"]
    assert (about["unit"], about["better"], about["of"], about["metric"]) == (
        "ratio",
        "lower",
        "method",
        "conservation_error",
    )
    assert written["metrics"]["zeta"]["of"] == "layer"


def test_the_order_is_the_command_line_s(written: dict):
    assert list(written["methods"]) == ["grad_cam", "cam", "centered"]
    assert list(written["metrics"]) == ["conservation_error", "confidence_drop", "zeta"]


def test_nothing_else_is_left_behind(folder: Path):
    of_run = {"gallery", "manifest.json", "pictures", "records", "runtime"}
    assert {path.name for path in folder.iterdir()} == of_run
    assert not list(folder.rglob("*.tmp"))


def test_pictures(written: dict, folder: Path):
    vgg, resnet = (np.load(folder / path) for path in written["pictures"])
    assert str(vgg["model"]), str(vgg["layer"]) == ("scenes_vgg", "features.13")
    assert vgg["methods"].tolist() == ["grad_cam", "centered"]  # cam needs another head
    assert resnet["methods"].tolist() == ["grad_cam", "cam", "centered"]
    assert vgg["images"].shape == (3, 96, 96, 3)
    assert vgg["images"].dtype == vgg["perturbed"].dtype == np.uint8
    assert vgg["heatmaps"].shape == (2, 3, 96, 96)
    assert vgg["perturbed"].shape == (2, 3, 96, 96, 3)
    assert vgg["confidence"].shape == (3,)
    assert vgg["confidence_perturbed"].shape == (2, 3)
    assert vgg["image_ids"].tolist()[0] == "evaluation-0-000000"
    assert vgg["class_names"].shape == (3,)
    assert str(vgg["confidence_of"]) == "probability"
    assert np.ptp(vgg["images"]) > 100  # a picture as people see it, not normalised pixels


def test_the_pictures_show_what_was_measured(written: dict, folder: Path):
    """The drop of confidence in the picture is the one in the records."""
    vgg = np.load(folder / written["pictures"][0])
    table = reading.read_records(folder, written)
    table = table[(table["metric"] == "confidence_drop") & (table["model"] == "scenes_vgg")]
    for place, method in enumerate(vgg["methods"]):
        measured = table[table["method"] == method].head(3)
        assert measured["image_id"].tolist() == vgg["image_ids"].tolist()
        shown = vgg["confidence"] - vgg["confidence_perturbed"][place]
        np.testing.assert_allclose(shown, measured["value"], atol=1e-5)  # batches of 3 and of 4 round apart


def test_pictures_of_an_output_without_probability_show_the_score(run: Callable[..., list[Outcome]], results: Path):
    outcomes = run(
        "model.output=multi_label", "metric=[confidence_drop]", "metric.confidence_drop.params.output=logit",
        "method=[uniform]", "pictures.rows=2", "data.size=3",
    )  # fmt: skip
    arrays = np.load(next(results.rglob("*.npz")))
    assert str(arrays["confidence_of"]) == "score"
    folder = next(results.rglob("records")).parent
    table = reading.read_records(folder, manifest.assemble(outcomes, "quick", "default"))
    assert set(table["status"]) == {"ok"}
    shown = arrays["confidence"] - arrays["confidence_perturbed"][0]
    np.testing.assert_allclose(shown, table["value"].head(2), atol=1e-4)
    assert not ((arrays["confidence"] >= 0) & (arrays["confidence"] <= 1)).all()


def test_run_times(written: dict, folder: Path):
    table = pd.concat(pd.read_parquet(folder / path) for path in written["runtime"])
    assert set(table["model"]) == {"scenes_vgg", "scenes_resnet"}
    assert set(table["data"]) == {"scenes"}
    assert set(table["batch_size"]) == {2}
    assert (table["milliseconds_per_image"] > 0).all()
    assert {"trace", "ablation_drops", "method"} <= set(table["step"])


def test_layers_of_one_model_are_listed_and_failures_are_named():
    facts = {
        "methods": {},
        "metrics": {},
        "axes": {},
        "data": {},
        "device": "cpu",
        "precision": {"trunk": "fp32", "head": "fp32"},
    }
    nets = (
        {"net": {"layer": f"layer{n}", "depths": {f"layer{n}": n}, "images": {f"set{n}": {"chosen": n, "kept": n}}}}
        for n in (1, 2)
    )
    first, other = (Outcome("a", {}, {**facts, "models": models}) for models in nets)
    failed = Outcome("b", {}, failure=Failure("b", "no weights", mendable=True))
    merged = manifest.assemble([first, other, failed], "quick", "default")
    assert merged["models"]["net"]["layers"] == ["layer1", "layer2"]
    assert merged["models"]["net"]["depths"] == {"layer1": 1, "layer2": 2}
    assert merged["models"]["net"]["images"] == {"set1": {"chosen": 1, "kept": 1}, "set2": {"chosen": 2, "kept": 2}}
    assert merged["failures"] == [{"job": "b", "message": "no weights"}]


def test_a_repeated_run_measures_no_time_again(folder: Path, written: dict):
    before = {path: (folder / path).stat().st_mtime_ns for path in written["runtime"]}
    _, outcomes = sweep([*SMALL, f"results={folder.parent.parent}"])
    assert [outcome.computed.shards for outcome in outcomes] == [0, 0]
    assert {path: (folder / path).stat().st_mtime_ns for path in written["runtime"]} == before


def ensure_counts(step: Step) -> tuple[str, ...]:
    """A file for each job, of the number of its images."""
    files.write(step.folder / "counts/count.txt", f"{len(step.facts.job.indices)}".encode())
    return ("counts/count.txt",)


@pytest.fixture
def _counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("their_counts")
    vars(module).update(STAGES={"counts": "counts"}, ensure_counts=ensure_counts)
    monkeypatch.setitem(sys.modules, "their_counts", module)
    row = Artefact("counts", ("txt",), "their_counts", "nobody", "fetched", "input")
    monkeypatch.setattr(artefacts, "TABLE", (*artefacts.TABLE, row))


@pytest.mark.usefixtures("_counts")
def test_a_new_artefact_is_made_listed_shared_stamped_and_kept_inside(results: Path, tmp_path: Path) -> None:
    config, outcomes = sweep([*tiny(()), f"results={results}"])
    keep(config, outcomes)
    assert "counts" in outcomes[0].seconds
    folder = results / "quick/default"
    manifest = reading.read_manifest(folder)
    assert manifest["counts"] == ["counts/count.txt"]
    combined = combining.combine([folder], results / "combined")
    assert (results / "combined" / combined["counts"][0]).read_text() == "5"
    assert mirror._is_fetched("counts/count.txt")
    before = stamp.inputs(folder, manifest)
    (folder / "counts/count.txt").write_text("many")
    assert stamp.inputs(folder, manifest) != before
    (folder / "counts").rename(tmp_path / "elsewhere")
    (folder / "counts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="counts leads out of the run folder"):
        reading.read_manifest(folder)


def test_every_artefact_has_a_writer() -> None:
    for artefact in artefacts.TABLE:
        name = artefact.written_by.removeprefix("axiom_bench.")
        path = Path(artefacts.__file__).parents[1] / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), artefact


CURVES = (
    "model.seed=27",  # of the random weights: with most other seeds some maps are zero, which have no curve
    "metric=[deletion_auc,road_morf]",
    "metric.deletion_auc.params.steps=4",
    "metric.road_morf.params.fractions=[0.3,0.6]",
)


def test_curves_are_kept_listed_and_drawn(run, results):
    outcomes = run(*CURVES)
    folder = results / "quick" / "default"
    code, _ = finish({"results": str(results), "experiment": "quick", "run": "default"}, outcomes)
    assert code == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["axes"]["deletion"]["at"] == [0, 0.25, 0.5, 0.75, 1]
    assert manifest["axes"]["morf"]["at"] == [0.3, 0.6]
    assert [manifest["axes"][name]["y"] for name in ("deletion", "morf")] == ["probability", "accuracy"]
    curves = pd.concat(part.table.to_pandas() for part in reading.read_curves(folder, manifest))
    values = reading.read_records(folder, manifest)
    for curve, metric, area in (
        ("deletion", "deletion_auc", lambda points: np.trapezoid(points, dx=0.25)),
        ("morf", "road_morf", np.mean),
    ):
        own = curves[curves["curve"] == curve].set_index(["method", "image_id", "target_class"])["points"].map(area)
        areas = values[values["metric"] == metric].set_index(["method", "image_id", "target_class"])["value"]
        np.testing.assert_allclose(own.sort_index(), areas.sort_index(), rtol=1e-9, atol=1e-12)
        assert (folder / f"figures/perturbation_{curve}.png").is_file()


ENTRY = r"""
@misc{doe2031brightest,
  title = {The {Brightest} Channel},
  author = {Doe, Jane and R{\"o}e, Richard},
  year = {2031},
  eprint = {3101.00001},
}
"""


def test_a_work_of_two_authors():
    reference = manifest.parsed(ENTRY)["doe2031brightest"]
    assert reference.cited == "Doe and Röe 2031, arXiv:3101.00001"
    assert reference.title == "The Brightest Channel"
    assert reference.url == "https://arxiv.org/abs/3101.00001"


def test_three_authors_are_the_first_and_others():
    text = ENTRY.replace("Richard}", "Richard and Poe, Edgar}").replace("eprint = {3101.00001}", "doi = {10.1/2}")
    reference = manifest.parsed(text)["doe2031brightest"]
    assert (reference.cited, reference.url) == ("Doe et al. 2031, doi:10.1/2", "https://doi.org/10.1/2")


def test_without_a_link():
    reference = manifest.parsed(ENTRY.replace("eprint", "note"))["doe2031brightest"]
    assert (reference.cited, reference.url) == ("Doe and Röe 2031", "")


def test_a_key_that_stands_there_twice_is_refused():
    with pytest.raises(BenchError, match="two entries 'doe2031brightest'"):
        manifest.parsed(ENTRY + ENTRY)


def test_the_nearest_key_is_named():
    with pytest.raises(BenchError, match="did you mean 'fu2020axiom'"):
        manifest.reference("fu2020axioms")
