"""Tests of whole experiments as users type them, each on a handful of images.

If this machine has photographs and weights, they are used too.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from omegaconf import OmegaConf
from PIL import Image

from axiom_bench.cli import paper as paper_command
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.embedded import marked
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.report.paper import paper as study
from axiom_bench.run.spine import configuration

DEFAULT_METHODS = {
    "ablation_cam",
    "ablation_cam_axiomatic",
    "cam",
    "centered",
    "equal_shares",
    "grad_cam",
    "grad_cam_pp",
    "guided_xgrad_cam",
    "hires_cam",
    "random",
    "uniform",
    "xgrad_cam",
}
DEFAULT_METRICS = {
    "average_drop",
    "axiom_floor",
    "axiom_floor_distance",
    "box_iou",
    "confidence_drop",
    "conservation_error",
    "conservation_error_raw",
    "epsilon",
    "guarded_channels",
    "pointing_game",
    "pointing_game_strict",
    "sensitivity_error",
    "sensitivity_error_raw",
    "sensitivity_error_scaled",
    "single_deletion",
    "zeta",
}
SMALL = (
    "data.size=2",
    "runtime.repeats=1",
    "pictures.rows=1",
    "pictures.gallery=1",
    "report.figures.formats=[png]",
)
NOTHING_DRAWN = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0", "data.workers=0")
NETWORKS = ["scenes_vgg", "scenes_resnet"]
SMALLEST = (
    *SMALL,
    "data.size=1",
    "data.workers=0",
    "runtime.repeats=0",
    "model=scenes_vgg",
    "run=default",
)
# Two of the paper's networks; drawing the random weights of the others takes seconds.
LAYERS = {
    "alexnet": "features.12",
    "inception_v3": "Mixed_7c",
}
BOX = (
    "<annotation><object><name>n00000007</name><bndbox><xmin>30</xmin><ymin>20</ymin>"
    "<xmax>200</xmax><ymax>180</ymax></bndbox></object></annotation>"
)
# Composing the experiment would give the same folder, but takes a second at every collection.
SETTINGS = OmegaConf.create({"real_root": read_yaml(conf_folder() / "config.yaml")["real_root"]})
ROOT = Path(SETTINGS["real_root"])
REAL = ("data.workers=0", f"real_root={ROOT.resolve()}")
real = pytest.mark.real
undrawn = pytest.mark.usefixtures("undrawn")
photographs = pytest.mark.skipif(
    not (ROOT / "weights").is_dir(),
    reason=f"no photographs and weights in {ROOT}: set AXIOM_BENCH_REAL",
)


def compute_without_report(overrides: list[str]) -> int:
    """Run the command without its report, and return its exit code."""
    code, _, _ = compute(overrides)
    return code


with_and_without_report = pytest.mark.parametrize(
    "command",
    [
        pytest.param(compute_without_report, id="values"),
        pytest.param(main, id="and their report", marks=pytest.mark.slow),
    ],
)


def run_experiment(
    command: Callable, results: Path, experiment: str, *overrides: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run an experiment, and return its manifest and its records."""
    settings = [f"experiment={experiment}", "run=default", "device=cpu", f"results={results}"]
    assert command([*settings, *overrides]) == 0
    folder = results / experiment / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])


def values_of(rows: pd.DataFrame, method: str, metric: str) -> pd.Series:
    """Return the values of one metric for one method."""
    return rows.loc[(rows["method"] == method) & (rows["metric"] == metric), "value"]


@pytest.mark.slow
def test_quick(tmp_path, typed, typed_here):
    """Check the default command, typed outside the checkout, and the same command again."""
    settings = [*SMALL, "data.size=1", "runtime.repeats=0", "run=default"]

    first = typed(tmp_path, *settings)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    names = [path.name for path in tmp_path.iterdir()]
    assert names == ["results"]  # Hydra leaves nothing in the current folder
    assert first.stdout.splitlines()[-1] == "report: results/quick/default/report.html"
    manifest = json.loads((tmp_path / "results/quick/default/manifest.json").read_text())
    assert list(manifest["models"]) == NETWORKS
    assert set(manifest["methods"]) == DEFAULT_METHODS
    assert {entry["metric"] for entry in manifest["metrics"].values()} == DEFAULT_METRICS

    again = typed_here(tmp_path, "run", "-v", *settings)
    assert again.returncode == 0
    assert "report: results/quick" in again.stdout
    assert "together " in again.stdout
    assert "2 of 2 shards were already there: nothing was computed" in again.stdout
    assert "images/s" not in again.stdout

    wrong = typed_here(tmp_path, "method=[xgrad_can]")
    assert wrong.returncode == 2
    *progress, sentence = wrong.stderr.splitlines()
    assert sentence.startswith("axiom-bench: There is no method 'xgrad_can'; did you mean")
    # Only a slow machine prints its progress.
    assert all(line.startswith("Loading methods and metrics ... ") for line in progress)


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_defect(tmp_path, typed):
    """Check `axiom-bench list | head -1` if `head` ends before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    stopped = typed(tmp_path, "list", stdout=writer)
    os.close(writer)
    assert stopped.returncode == 141  # 128 + SIGPIPE, as in a shell
    assert stopped.stderr == ""


@pytest.mark.slow
@real
@photographs
@with_and_without_report
def test_real(command, tmp_path):
    """Check trained weights, boxes, and a user's own network."""
    overrides = [
        "model=squeezenet1_1,own_model",
        "method=[grad_cam,xgrad_cam,ablation_cam_axiomatic]",
        "metric=[sensitivity_error,conservation_error,confidence_drop,box_iou,zeta]",
        *SMALL,
        *REAL,
        "data.size=4",
        "data.batch_size=4",
        "runtime.batch_size=1",
    ]

    manifest, rows = run_experiment(command, tmp_path, "real", *overrides)

    assert list(manifest["models"]) == ["squeezenet1_1", "own_model"]
    assert list(manifest["data"]) == ["imagenet", "own_images"]
    assert set(rows["status"]) == {"ok"}
    errors = values_of(rows, "ablation_cam_axiomatic", "sensitivity_error")
    assert len(errors) == 8
    # The sensitivity axiom holds by construction, except for guarded channels.
    assert errors.max() < 1e-3
    own_rows = rows[(rows["model"] == "own_model") & (rows["metric"] == "zeta")]
    # The accuracy on all images is 0.9: with wrong weights it would be far lower.
    assert (own_rows["target_class"] == own_rows["predicted_class"]).mean() >= 0.5
    # Boxes follow their images through resize and crop.
    assert values_of(rows, "grad_cam", "box_iou").mean() > 0.2


@pytest.mark.slow
def test_a_real_root_that_is_not_there(tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    overrides = ["experiment=real", "model=resnet18", f"real_root={nowhere}"]
    assert main([*overrides, f"results={tmp_path / 'results'}"]) == 2
    output = capsys.readouterr().err
    assert f"{nowhere}{os.sep}data{os.sep}imagenet" in output
    assert "ImageNet layout" in output  # the message describes the expected files


VOC = (
    "model=squeezenet1_1",
    "method=[xgrad_cam,ablation_cam_axiomatic]",
    *SMALL,
    "data.size=5",
    "data.batch_size=5",
    "metric=[sensitivity_error,confidence_drop,box_iou,zeta]",
    "runtime.repeats=0",
    *REAL,
)


@pytest.mark.slow
@real
@photographs
@with_and_without_report
def test_voc(command, tmp_path):
    """Check VOC's classes with an ImageNet network, and images of several classes."""
    manifest, rows = run_experiment(command, tmp_path, "voc", *VOC)

    assert list(manifest["models"]) == ["squeezenet1_1+voc_groups"]
    explained = rows[rows["metric"] == "zeta"]
    assert explained["target_class"].between(0, len(CLASSES) - 1).all()
    assert explained["image_id"].nunique() == 5
    assert set(explained["status"]) == {"ok"}
    # The drops through the groups are exact.
    assert values_of(rows, "ablation_cam_axiomatic", "sensitivity_error").max() < 1e-3
    assert (explained["target_class"] == explained["predicted_class"]).mean() >= 0.3


@pytest.mark.slow
@real
@photographs
def test_without_the_groups_the_sentence_names_them(tmp_path, capsys):
    overrides = [*VOC, "device=cpu", "model.output=logits", f"results={tmp_path}"]
    assert main(["experiment=voc", *overrides]) == 2
    assert "model.output=voc_groups" in capsys.readouterr().out


@pytest.mark.slow
@with_and_without_report
def test_shortcut(command, tmp_path):
    """Check that Grad-CAM shows the mark if it counts, and only then.

    Its error is compared with that of a uniform map, which doesn't depend on the class. On 59
    scenes, Grad-CAM's mean shares for the two networks are 0.918 and 0.003, the true ones 0.878 and
    0.001, and the uniform map's 0.42 and 0.35.
    """
    overrides = ["method=[grad_cam,uniform]", "data.size=40", "data.batch_size=8", *NOTHING_DRAWN]

    _, rows = run_experiment(command, tmp_path, "shortcut", *overrides)

    assert set(rows["status"]) == {"ok"}
    assert set(rows["target_class"]) == {marked.CLASS}
    assert rows["image_id"].nunique() >= 5
    mean = rows.groupby(["model", "method", "metric"])["value"].mean()
    for method, metric in (("-", "mark_effect_share"), ("grad_cam", "mark_share")):
        assert mean["scenes_shortcut", method, metric] > 0.7
        assert mean["scenes_vgg", method, metric] < 0.1
    for network in ("scenes_shortcut", "scenes_vgg"):
        errors = mean[network, :, "mark_share_error"]
        assert errors["grad_cam"] < 0.5 * errors["uniform"]


def write_imagenet(root: Path) -> Path:
    """Write one image of the eighth of a thousand classes, with its box, in ImageNet's layout."""
    images = root / "val" / "n00000007"
    boxes = root / "Annotations" / "CLS-LOC" / "val"
    images.mkdir(parents=True)
    boxes.mkdir(parents=True)
    class_lines = "".join(f"n{number:08d} class {number}\n" for number in range(1000))
    (root / "LOC_synset_mapping.txt").write_text(class_lines)
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "ILSVRC2012_val_00000001.JPEG")
    (boxes / "ILSVRC2012_val_00000001.xml").write_text(BOX)
    return root


@pytest.mark.slow
@undrawn
def test_paper(tmp_path):
    """Check the paper's experiment on one photograph, with random weights."""
    results = tmp_path / "results"
    overrides = [
        f"data.root={write_imagenet(tmp_path / 'imagenet')}",
        "data.workers=0",
        "data.batch_size=1",
        f"model={','.join(LAYERS)}",
        "metric=[sensitivity_error,conservation_error,zeta,epsilon,box_iou]",
        "model.weights=null",
        *NOTHING_DRAWN,
    ]

    manifest, rows = run_experiment(main, results, "paper", *overrides)

    assert {name: model["layer"] for name, model in manifest["models"].items()} == LAYERS
    assert set(rows["target_class"]) == {7}
    measured = rows[rows["status"] == "ok"]
    for name in LAYERS:
        values = measured[measured["model"] == name].set_index(["method", "metric"])["value"]
        # New biases are 0, so that some of these values are 0 except for float32's rounding of sums
        # of thousands of terms.
        for error, residual in (("sensitivity_error", "zeta"), ("conservation_error", "epsilon")):
            expected = pytest.approx(values["-", residual], rel=1e-4, abs=1e-5)
            assert values["xgrad_cam", error] == expected
        assert values["ablation_cam_axiomatic", "sensitivity_error"] < 1e-5
    assert measured.loc[measured["metric"] == "zeta", "value"].max() > 0.1

    folder = results / "paper/default"
    page = (folder / "report.html").read_text()
    entries = [*manifest["methods"].values(), *manifest["metrics"].values()]
    titles = [*LAYERS, *(entry["title"] for entry in entries)]
    assert [title for title in titles if str(escape(title)) not in page] == []
    assert page.rstrip().endswith("</html>")
    figures = {path.stem for path in (folder / "figures").glob("over_models_*.png")}
    assert figures == {"over_models_zeta", "over_models_epsilon"}


@pytest.mark.slow
@undrawn
def test_the_papers_figures_and_tables_have_a_file_each(tmp_path, capsys):
    errors = "sensitivity_error,conservation_error,zeta,epsilon"
    overrides = [
        "data=scenes",
        "model=scenes_vgg",
        "method=[grad_cam,ablation_cam,xgrad_cam,guided_xgrad_cam]",
        f"metric=[{errors},confidence_drop,box_iou,pointing_game,class_discriminability]",
        "data.size=4",
        "data.batch_size=8",
        "runtime.repeats=1",
        "pictures.rows=1",
        "device=cpu",
        f"results={tmp_path}",
    ]

    assert main(["paper", *overrides]) == 0

    output = capsys.readouterr().out
    folder = tmp_path / "paper" / "scenes-scenes_vgg" / "paper"
    assert f"paper: {folder / 'index.html'}" in output
    index = (folder / "index.md").read_text()
    page = (folder / "index.html").read_text()
    # The scenes themselves show several classes, so that no second run is needed.
    assert not (tmp_path / "paper_two_classes").exists()
    for exhibit in study().exhibits:
        assert f"{exhibit.number}: {exhibit.title}" in output
        assert f"## {exhibit.number}: {exhibit.title}" in index
        assert f'id="{exhibit.file}"' in page
        files = list(folder.glob(f"{exhibit.file}*"))
        suffixes = {".pdf", ".png"} if exhibit.figures else {".tex", ".md"}
        assert {file.suffix for file in files} >= suffixes
        assert all(f"]({file.name})" in index for file in files)
    assert "<dd>scenes_vgg in this run</dd>" in page
    assert "<dd>4 of scenes in this run</dd>" in page
    assert "has no copy of them" in index


@pytest.mark.slow
def test_every_metric_and_method_of_the_paper_is_in_its_experiments():
    one_class = configuration(["experiment=paper"])
    two_classes = configuration(["experiment=paper_two_classes"])
    for exhibit in study().exhibits:
        config = two_classes if exhibit.two_classes else one_class
        assert set(exhibit.tables) <= set(config["metric"])
        assert exhibit.against is None or exhibit.against in one_class["method"]


@pytest.mark.slow
def test_networks_of_real_root_stand_in_where_none_of_the_papers_has_weights(
    tmp_path, monkeypatch, capsys
):
    commands: list[list[str]] = []

    def fails(arguments: list[str], _: Path | None, __: str) -> tuple[int, None, dict[str, str]]:
        commands.append(arguments)
        return 2, None, {"alexnet": "The weights can't be downloaded."}

    monkeypatch.setattr(paper_command, "_run", fails)
    folders = (f"results={tmp_path}", f"real_root={tmp_path}")

    (tmp_path / "data/imagenet").mkdir(parents=True)
    assert main(["paper", *folders]) == 2
    assert len(commands) == 1  # without a folder of weights, only the downloads are tried

    commands.clear()
    (tmp_path / "weights").mkdir()
    assert main(["paper", *folders]) == 2
    first, second = commands
    assert second == [*first, f"model={','.join(study().instead)}", paper_command.IN_PLACE]
    assert "nothing to show" in capsys.readouterr().out

    commands.clear()
    assert main(["paper", "model=alexnet", *folders]) == 2
    assert len(commands) == 1  # networks that the user names aren't replaced


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "model"), [("detection", "detector"), ("segmentation", "segmenter")]
)
def test_objects(experiment, model, tmp_path):
    """Check that every metric has a value for each object, except for methods without axioms."""
    overrides = [f"model=scenes_{model}", "data.size=2", *NOTHING_DRAWN]
    manifest, rows = run_experiment(compute_without_report, tmp_path, experiment, *overrides)
    assert rows["image_id"].str.contains("//").all()
    assert rows["image_id"].nunique() >= 3
    assert set(rows["status"]) <= {"ok", "not_on_score_scale", "no_contributions", "one_object"}
    assert set(rows.loc[rows["status"] == "ok", "metric"]) == set(manifest["metrics"])
