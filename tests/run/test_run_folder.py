"""Tests of the files in a run folder.

They are the manifest with its citations, pictures, gallery, curves, run times and other files.
"""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.finish import finish
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, combining, files, reading, running
from axiom_bench.records.artefacts import Artefact
from axiom_bench.records.entries import Facts, FailureEntry, JobEntry, Manifest
from axiom_bench.records.store import read_gallery
from axiom_bench.run import gallery_rows, manifest, samples
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.keys import Keys
from axiom_bench.run.manifest import keep
from axiom_bench.run.result import Failure, JobResult
from axiom_bench.run.spine import configuration

from .conftest import RUN, manifest_of, tiny_overrides

SMALL = (
    "model=scenes_vgg,scenes_resnet",
    "data.size=4",
    "data.batch_size=4",
    "method=[grad_cam,cam,centered]",
    "metric=[conservation_error,confidence_drop,zeta]",
    "runtime.repeats=1",
    "runtime.batch_size=2",
    "pictures.rows=3",
    "pictures.arrays=true",
    "device=cpu",
    "run=default",
)
IDS = [f"evaluation-0-{number:06d}" for number in range(4)]
STAGES = [
    "start",
    "loading",
    "trace",
    "methods",
    "metrics' passes",
    "metrics",
    "writing",
    "whole data set",
    "run times",
    "pictures",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run folder of two models, without a report."""
    overrides = [*SMALL, f"results={tmp_path_factory.mktemp('results')}"]
    settings, outcomes = run_jobs(overrides)
    keep(settings, outcomes, overrides)
    return Path(str(settings.results), RUN)


@pytest.fixture(scope="module")
def written(folder) -> dict:
    """The content of the manifest in `folder`."""
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.slow
def test_both_models_are_in_one_manifest(written, folder):
    jobs = ["scenes_vgg at features.13 on scenes", "scenes_resnet at layer4 on scenes"]
    assert written["overrides"][:-1] == list(SMALL)
    assert list(written["models"]) == ["scenes_vgg", "scenes_resnet"]
    assert written["models"]["scenes_vgg"]["layers"] == ["features.13"]
    assert len(written["models"]["scenes_resnet"]["weights_sha256"]) == 64
    assert [job["job"] for job in written["jobs"]] == jobs
    assert len(written["records"]) == 2
    for path in (*written["records"], *written["runtime"], *written["pictures"]):
        assert (folder / path).is_file()
    assert written["failures"] == []
    assert written["data"]["scenes"]["ids"] == IDS
    assert written["config"]["report"]["headline"]
    assert {"torch", "torchvision", "Pillow", "numpy"} <= set(written["versions"])
    assert written["device"] == "cpu"
    assert written["precision"] == {"trunk": "fp32", "head": "fp32"}
    # in the command line's order
    assert list(written["methods"]) == ["grad_cam", "cam", "centered"]
    assert list(written["metrics"]) == ["conservation_error", "confidence_drop", "zeta"]
    kinds = {"examination", "gallery", "manifest.json", "pictures", "records", "runtime"}
    assert {path.name for path in folder.iterdir()} == kinds | {running.RUN}
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
def test_the_seconds_of_the_command_that_computed_are_kept(written, folder, tmp_path, unreported):
    """Check also that a repeated run measures no time again."""
    assert all(0 < work["images_per_second"] < 1e4 for work in written["work"].values())
    assert [list(seconds) for seconds in written["seconds"].values()] == [STAGES, STAGES]
    shutil.copytree(folder.parents[1], tmp_path, dirs_exist_ok=True)
    copy = tmp_path / RUN

    def file_times() -> dict[str, int]:
        return {path: (copy / path).stat().st_mtime_ns for path in written["runtime"]}

    times_before = file_times()
    overrides = [*SMALL, f"results={tmp_path}"]

    settings, outcomes = run_jobs(overrides)
    finish(settings, outcomes, overrides)

    repeated = json.loads((copy / "manifest.json").read_text())
    assert repeated["seconds"] == written["seconds"]
    assert repeated["work"] == written["work"]
    assert [outcome.computed.shards for outcome in outcomes] == [0, 0]
    assert file_times() == times_before


@pytest.mark.slow
def test_the_manifest_says_whether_weights_are_random(run):
    """Check the entry from which the report learns that it must call no method the best."""
    for weights, is_random in (("null", True), ("default", False)):
        outcomes = run([f"model.weights={weights}", "metric=[zeta]", "data.size=1"])
        assert manifest_of(outcomes).models["scenes_vgg"].random_weights is is_random


@pytest.mark.slow
def test_what_yaml_says_of_methods_and_metrics_is_there(written):
    cam = written["methods"]["cam"]
    assert cam["reference"] == "zhou2016cam"
    assert cam["cited"]["text"] == "Zhou et al. 2016, arXiv:1512.04150"
    assert cam["cited"]["url"] == "https://arxiv.org/abs/1512.04150"
    assert cam["description"].startswith("w_k")

    metrics = written["metrics"]
    assert metrics["confidence_drop"]["description"].startswith("Compute p - p'")
    assert metrics["confidence_drop"]["definition"].startswith("Fig. 4(b)")
    assert "this project's choice" in metrics["confidence_drop"]["deviation"]
    entry = {
        "unit": "ratio",
        "kind": "ratio",
        "better": "lower",
        "of": "method",
        "metric": "conservation_error",
    }
    assert entry.items() <= metrics["conservation_error"].items()
    assert metrics["zeta"]["of"] == "layer"


def test_pictures_show_what_was_measured(written, folder):
    """Check that the drop of confidence in the picture is the one in the records."""
    vgg, resnet = (np.load(folder / path) for path in written["pictures"])
    assert str(vgg["model"]) == "scenes_vgg"
    assert str(vgg["layer"]) == "features.13"
    assert vgg["methods"].tolist() == ["grad_cam", "centered"]  # cam needs another head
    assert resnet["methods"].tolist() == ["grad_cam", "cam", "centered"]
    shapes = {
        "images": (3, 96, 96, 3),
        "heatmaps": (2, 3, 96, 96),
        "perturbed": (2, 3, 96, 96, 3),
        "confidence": (3,),
        "confidence_perturbed": (2, 3),
        "class_names": (3,),
    }
    assert {name: vgg[name].shape for name in shapes} == shapes
    assert vgg["images"].dtype == vgg["perturbed"].dtype == np.uint8
    assert vgg["image_ids"].tolist()[0] == IDS[0]

    raw_maps = torch.from_numpy(vgg["raw_map_grad_cam"])  # written with pictures.arrays=true
    heatmaps = ab.heatmap(raw_maps, (96, 96)).numpy()
    # half a grey level, as the stored heatmaps are bytes
    np.testing.assert_allclose(heatmaps, vgg["heatmaps"][0] / 255, atol=0.5 / 255 + 1e-5)
    assert str(vgg["confidence_of"]) == "probability"
    assert np.ptp(vgg["images"]) > 100  # a picture as people see it, not normalised pixels

    table = reading.read_records(folder, Manifest.model_validate(written))
    table = table[(table["metric"] == "confidence_drop") & (table["model"] == "scenes_vgg")]
    for index, method in enumerate(vgg["methods"]):
        measured = table[table["method"] == method].head(3)
        assert measured["image_id"].tolist() == vgg["image_ids"].tolist()
        drops = vgg["confidence"] - vgg["confidence_perturbed"][index]
        # a batch of 3 images rounds differently from a batch of 4
        np.testing.assert_allclose(drops, measured["value"], atol=1e-5)


@pytest.mark.slow
def test_pictures_of_an_output_without_probability_show_the_score(run, results):
    settings = [
        "model.output=multi_label",
        "metric=[confidence_drop]",
        "metric.confidence_drop.params.output=logit",
        "method=[uniform]",
        "pictures.rows=2",
        "data.size=3",
    ]
    outcomes = run(settings)

    arrays = np.load(next(results.rglob("*.npz")))
    assert str(arrays["confidence_of"]) == "score"
    table = reading.read_records(results / RUN, manifest_of(outcomes))
    assert set(table["status"]) == {"ok"}
    drops = arrays["confidence"] - arrays["confidence_perturbed"][0]
    np.testing.assert_allclose(drops, table["value"].head(2), atol=1e-4)
    is_probability = (arrays["confidence"] >= 0) & (arrays["confidence"] <= 1)
    assert not is_probability.all()

    # cam doesn't apply to this network, so that the run has no pictures.
    (cam,) = run(["method=[cam]", "metric=[zeta]", "pictures.rows=1", "data.size=1"])
    assert cam.failure is None


def test_run_times(written, folder):
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
        "precision": {},
    }
    outcomes = []
    for number in (1, 2):
        net = {
            "layer": f"layer{number}",
            "depths": {f"layer{number}": number},
            "images": {f"set{number}": {"chosen": number, "kept": number}},
        }
        facts_of_net = Facts.model_validate({**facts, "models": {"net": net}})
        outcomes.append(JobResult("a", facts=facts_of_net))
    outcomes.append(JobResult("b", failure=Failure("no weights")))
    for layer in ("layer3", "layer4"):
        outcomes.append(JobResult("c", failure=Failure(f"no {layer}")))

    merged = manifest.assemble(outcomes, Settings.of(configuration([])))

    net = merged.model_dump()["models"]["net"]
    assert net["layers"] == ["layer1", "layer2"]
    assert net["depths"] == {"layer1": 1, "layer2": 2}
    assert net["images"] == {"set1": {"chosen": 1, "kept": 1}, "set2": {"chosen": 2, "kept": 2}}
    assert merged.failures == [
        FailureEntry(job="b", message="no weights"),
        FailureEntry(job="c", message="no layer3"),
        FailureEntry(job="c", message="no layer4"),
    ]


def ensure_counts(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """Write a file with the number of a job's images."""
    count = len(keys.job.indices)
    files.write(keys.job.settings.run_folder / "counts/count.txt", f"{count}".encode())
    return ("counts/count.txt",)


@pytest.mark.slow
def test_a_new_artefact_is_made_listed_shared_stamped_and_kept_inside(
    results, tmp_path, monkeypatch
):
    """Check that a row of the table and a module that writes the file are enough."""
    module = ModuleType("their_counts")
    vars(module).update(STAGES={"counts": "counts"}, ensure_counts=ensure_counts)
    monkeypatch.setitem(sys.modules, "their_counts", module)
    row = Artefact("counts", ("txt",), "their_counts", "nobody", "input")
    monkeypatch.setattr(artefacts, "TABLE", (*artefacts.TABLE, row))

    settings, outcomes = run_jobs([*tiny_overrides(()), f"results={results}"])
    keep(settings, outcomes)

    assert "counts" in outcomes[0].seconds
    folder = results / RUN
    written = reading.read_manifest(folder)
    assert written.files("counts") == ["counts/count.txt"]
    combined = combining.combine([folder], results / "combined")
    assert (results / "combined" / combined.files("counts")[0]).read_text() == "5"

    (folder / "counts").rename(tmp_path / "elsewhere")
    (folder / "counts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="counts leads out of the run folder"):
        reading.read_manifest(folder)


def test_every_artefact_has_a_writer():
    for artefact in artefacts.TABLE:
        name = artefact.written_by.removeprefix("axiom_bench.")
        path = Path(artefacts.__file__).parents[1] / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), artefact


CURVES = (
    # With most other seeds of the random weights some maps are zero, and they have no curve.
    "model.seed=27",
    "metric=[deletion_auc,road_morf]",
    "metric.deletion_auc.params.steps=4",
    "metric.road_morf.params.fractions=[0.3,0.6]",
)


@pytest.mark.slow
def test_perturbation_curves_are_kept_listed_and_drawn(run, results):
    folder = results / RUN
    outcomes = run(CURVES)
    code, _ = finish(outcomes[0].settings, outcomes)
    assert code == 0

    written = json.loads((folder / "manifest.json").read_text())
    axes = {name: (axis["at"], axis["y"]) for name, axis in written["axes"].items()}
    assert axes["deletion"] == ([0, 0.25, 0.5, 0.75, 1], "probability")
    assert axes["morf"] == ([0.3, 0.6], "accuracy")

    parts = reading.read_curves(folder, Manifest.model_validate(written))
    curves = pd.concat(part.table.to_pandas() for part in parts)
    values = reading.read_records(folder, Manifest.model_validate(written))
    row = ["method", "image_id", "target_class"]

    def area(points: np.ndarray) -> float:
        return np.trapezoid(points, dx=0.25)

    for curve, metric, summarise in (
        ("deletion", "deletion_auc", area),
        ("morf", "road_morf", np.mean),
    ):
        points = curves[curves["curve"] == curve].set_index(row)["points"]
        expected = points.map(summarise).sort_index()
        measured = values[values["metric"] == metric].set_index(row)["value"].sort_index()
        np.testing.assert_allclose(expected, measured, rtol=1e-9, atol=1e-12)
        assert (folder / f"figures/perturbation_{curve}.png").is_file()


ENTRY = r"""
@misc{doe2031brightest,
  title = {The {Brightest} Channel},
  author = {Doe, Jane and R{\"o}e, Richard},
  year = {2031},
  eprint = {3101.00001},
}
"""
ENTRY_OF_THREE_AUTHORS = r"""
@misc{doe2031brightest,
  title = {The {Brightest} Channel},
  author = {Doe, Jane and R{\"o}e, Richard and Poe, Edgar},
  year = {2031},
  doi = {10.1/2},
}
"""


def test_how_a_work_is_cited():
    for entry, cited, url in (
        (ENTRY, "Doe and Röe 2031, arXiv:3101.00001", "https://arxiv.org/abs/3101.00001"),
        (ENTRY_OF_THREE_AUTHORS, "Doe et al. 2031, doi:10.1/2", "https://doi.org/10.1/2"),
        (ENTRY.replace("eprint", "note"), "Doe and Röe 2031", ""),
    ):
        reference = manifest.parsed(entry)["doe2031brightest"]
        assert reference.title == "The Brightest Channel"
        assert reference.cited == cited
        assert reference.url == url
    with pytest.raises(BenchError, match="two entries 'doe2031brightest'"):
        manifest.parsed(ENTRY + ENTRY)
    with pytest.raises(BenchError, match="did you mean 'fu2020axiom'"):
        manifest.reference("fu2020axioms")


GALLERY = ("method=[grad_cam,cam,centered,uniform]", "metric=[box_iou]")


def gallery_of(outcome: JobResult, results: Path) -> list[dict[str, Any]]:
    gallery = Manifest(gallery=list(outcome.files["gallery"]))
    return list(read_gallery(results / RUN, gallery))


def decoded(picture: bytes | None) -> Image.Image:
    return Image.open(io.BytesIO(picture or b""))


def test_images_are_spread_over_the_runs():
    images = (3, 1, 4, 1, 5)
    chosen_by_count = {None: images, 9: images, 2: (3, 4), 1: (3,), 0: ()}
    for count, chosen in chosen_by_count.items():
        assert gallery_rows.spread(images, count) == chosen
    assert gallery_rows.spread((), None) == ()


@pytest.mark.slow
def test_a_row_has_picture_classes_boxes_and_maps(run, results):
    (outcome,) = run([*GALLERY, "data.size=4", "pictures.gallery=2", "model.weights=default"])

    rows = gallery_of(outcome, results)
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    assert ids == ["evaluation-0-000000", "evaluation-0-000002"]
    records = reading.read_records(results / RUN, manifest_of([outcome]))
    records = records[records["image_id"].isin(ids) & (records["method"] == "grad_cam")]
    columns = ["image_id", "target_class", "predicted_class"]
    expected = [*records[columns].itertuples(index=False, name=None)]
    assert [tuple(row[column] for column in columns) for row in rows] == expected
    for row in rows:
        assert row["methods"] == ["grad_cam", "centered", "uniform"]  # cam needs another head
        assert (row["width"], row["height"]) == (96, 96)
        assert row["target_name"] == f"digit {row['target_class']}"
        assert 0 < row["target_probability"] <= row["predicted_probability"] <= 1
        (box,) = row["boxes"]
        outline = np.asarray(decoded(row["outline"]))[..., -1] > 0
        y = outline.any(1).nonzero()[0]
        x = outline.any(0).nonzero()[0]
        assert (x[0], y[0], x[-1] + 1, y[-1] + 1) == tuple(box)
        assert np.asarray(decoded(row["picture"])).shape == (96, 96, 3)
        for heatmap in row["maps"]:
            assert np.asarray(decoded(heatmap)).max() > 240


@pytest.mark.slow
def test_many_images_are_in_several_files_which_the_manifest_lists(run, results, monkeypatch):
    monkeypatch.setattr(samples, "IMAGES", 2)
    outcomes = run([*GALLERY, "data.size=3", "pictures.gallery=null"])
    written = manifest_of(outcomes).gallery
    assert written == list(outcomes[0].files["gallery"])
    assert len(written) == 2
    assert len({row["image_id"] for row in gallery_of(outcomes[0], results)}) == 3
    assert run([*GALLERY, "data.size=1", "pictures.gallery=0"])[0].files["gallery"] == ()


def test_disagreement_in_closed_form():
    """Check three maps with the correlations 1, -1 and -1.

    The mean of 1 - r is (0 + 2 + 2) / 3. Constant maps and maps with NaN don't count.
    """
    heatmap = np.array([[0.0, 0.5], [0.25, 1.0]])
    constant_map = np.ones((2, 2))
    nan_map = np.full((2, 2), np.nan)
    maps = [heatmap, heatmap / 2 + 0.1, 1 - heatmap]
    assert gallery_rows.disagreement(maps) == pytest.approx(4 / 3)
    assert gallery_rows.disagreement([*maps, constant_map, nan_map]) == pytest.approx(4 / 3)
    assert np.isnan(gallery_rows.disagreement([heatmap, constant_map]))


def test_the_outline_of_a_mask_is_its_pixels_beside_others():
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1:5, 1:4] = True  # its last row is the image's: the outside of the image counts as outside
    expected = mask.clone()
    expected[2:4, 2] = False
    edge = np.asarray(decoded(gallery_rows.outline(mask.numpy())))
    assert np.array_equal(edge[..., -1] == 255, expected.numpy())
    assert gallery_rows.outline(np.zeros((5, 6), bool)) is None


def test_a_stored_map_is_close_to_the_heatmap_and_large_pictures_are_smaller():
    y, x = np.mgrid[:224, :224] / 224
    heatmap = np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.02)
    stored = np.asarray(decoded(gallery_rows.webp(255 * heatmap)).convert("L")) / 255
    assert np.abs(stored - heatmap).mean() < 0.005
    assert np.abs(stored - heatmap).max() < 0.05
    assert decoded(gallery_rows.webp(np.zeros((300, 600, 3)))).size == (256, 128)


def test_the_commit_of_the_checkout_is_kept(git):
    """Check an editable install, whose folder contains only links to the checkout."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists() or top.stat().st_uid != os.geteuid():
        pytest.skip("not a checkout of this user's")  # git reads no other
    assert manifest.commit() == git(top, "rev-parse", "HEAD").strip()
