"""Whole experiments as a user types them, each on a handful of images; photographs where there are
some.
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
from PIL import Image

from axiom_bench.cli import paper as paper_command
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.embedded import marked
from axiom_bench.report.paper import paper as study
from axiom_bench.run.spine import configuration

DEFAULT_METHODS = {
    *(
        "ablation_cam",
        "ablation_cam_axiomatic",
        "cam",
        "centered",
        "equal_shares",
        "grad_cam",
        "grad_cam_pp",
    ),
    *("guided_xgrad_cam", "hires_cam", "random", "uniform", "xgrad_cam"),
}
DEFAULT_METRICS = {
    *(
        "average_drop",
        "axiom_floor",
        "axiom_floor_distance",
        "box_iou",
        "confidence_drop",
        "conservation_error",
    ),
    *(
        "conservation_error_raw",
        "epsilon",
        "guarded_channels",
        "pointing_game",
        "pointing_game_strict",
    ),
    *(
        "sensitivity_error",
        "sensitivity_error_raw",
        "sensitivity_error_scaled",
        "single_deletion",
        "zeta",
    ),
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
HERE = (
    *SMALL,
    "data.size=1",
    "data.workers=0",
    "runtime.repeats=0",
    "model=scenes_vgg",
    "run=default",
)
# run here; the others take seconds to be drawn
LAYERS = {
    "alexnet": "features.12",
    "inception_v3": "Mixed_7c",
}
BOX = (
    "<annotation><object><name>n00000007</name><bndbox><xmin>30</xmin><ymin>20</ymin>"
    "<xmax>200</xmax><ymax>180</ymax></bndbox></object></annotation>"
)
ROOT = Path(configuration(["experiment=real"])["real_root"])
REAL = ("data.workers=0", f"real_root={ROOT.resolve()}")
real = pytest.mark.real
undrawn = pytest.mark.usefixtures("undrawn")
photographs = pytest.mark.skipif(
    not (ROOT / "weights").is_dir(),
    reason=f"no photographs and weights in {ROOT}: set AXIOM_BENCH_REAL",
)


def computed(overrides: list[str]) -> int:
    return compute(overrides)[0]


reported = pytest.mark.parametrize(
    "command",
    [
        pytest.param(computed, id="values"),
        pytest.param(main, id="and their report", marks=pytest.mark.slow),
    ],
)


def ran(
    command: Callable, results: Path, experiment: str, *overrides: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The manifest and the records of an experiment."""
    assert (
        command(
            [
                f"experiment={experiment}",
                "run=default",
                *overrides,
                "device=cpu",
                f"results={results}",
            ]
        )
        == 0
    )
    folder = results / experiment / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "networks", "settings"),
    [
        pytest.param("typed_here", ["scenes_vgg"], HERE, id="in this process"),
        pytest.param("typed", NETWORKS, SMALL, id="a process"),
    ],
)
def test_quick(process, networks, settings, tmp_path, request):
    """The default command, in another folder, with nothing set."""
    typed: Callable = request.getfixturevalue(process)
    first = typed(tmp_path, *settings)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    # Hydra leaves nothing in the current folder
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert first.stdout.splitlines()[-1] == "report: results/quick/default/report.html"
    manifest = json.loads(
        (tmp_path / "results" / "quick" / "default" / "manifest.json").read_text()
    )
    assert list(manifest["models"]) == networks
    assert set(manifest["methods"]) == DEFAULT_METHODS
    assert {about["metric"] for about in manifest["metrics"].values()} == DEFAULT_METRICS
    if process == "typed":  # what follows is the same in any process
        return

    again = typed(tmp_path, "run", "-v", *settings)
    assert again.returncode == 0
    assert "report: results/quick" in again.stdout
    assert "together " in again.stdout
    assert (
        f"{len(networks)} of {len(networks)} shards were already there: nothing was computed"
        in again.stdout
    )
    assert "images/s" not in again.stdout

    wrong = typed(tmp_path, "method=[xgrad_can]")
    assert wrong.returncode == 2
    *progress, sentence = wrong.stderr.splitlines()
    assert sentence.startswith("axiom-bench: There is no method 'xgrad_can'; did you mean")
    assert all(line.startswith("methods and metrics: ") for line in progress)  # on a slow machine


def test_a_reader_that_stops_early_is_no_defect(tmp_path, typed):
    """`axiom-bench list | head -1`, where head has gone before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    stopped = typed(tmp_path, "list", stdout=writer)
    os.close(writer)
    assert (stopped.returncode, stopped.stderr) == (141, "")  # 128 + SIGPIPE, as a shell has it


@pytest.mark.slow
@real
@photographs
@reported
def test_real(command, tmp_path):
    """Trained weights, boxes, and the user's own network."""
    chosen = ("model=squeezenet1_1,own_model", "method=[grad_cam,xgrad_cam,ablation_cam_axiomatic]")
    metrics = "metric=[sensitivity_error,conservation_error,confidence_drop,box_iou,zeta]"
    size = (*SMALL, *REAL, "data.size=4", "data.batch_size=4", "runtime.batch_size=1")
    manifest, rows = ran(command, tmp_path, "real", *chosen, metrics, *size)
    assert list(manifest["models"]) == ["squeezenet1_1", "own_model"]
    assert list(manifest["data"]) == ["imagenet", "own_images"]
    assert set(rows["status"]) == {"ok"}
    drops = rows[
        (rows["method"] == "ablation_cam_axiomatic") & (rows["metric"] == "sensitivity_error")
    ]
    assert len(drops) == 8
    # the sensitivity axiom holds by construction, but for guarded channels
    assert drops["value"].max() < 1e-3
    users = rows[(rows["model"] == "own_model") & (rows["metric"] == "zeta")]
    assert (
        users["target_class"] == users["predicted_class"]
    ).mean() >= 0.5  # of 0.9 over all: the weights are right
    boxes = rows[(rows["metric"] == "box_iou") & (rows["method"] == "grad_cam")]
    assert boxes["value"].mean() > 0.2  # boxes follow their images through resize and crop


def test_a_real_root_that_is_not_there(tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    code = main(
        [
            "experiment=real",
            "model=resnet18",
            f"real_root={nowhere}",
            f"results={tmp_path / 'results'}",
        ]
    )
    assert code == 2
    output = capsys.readouterr().err
    assert f"{nowhere}{os.sep}data{os.sep}imagenet" in output
    assert "ImageNet layout" in output  # what was expected there


VOC = (
    *(
        "model=squeezenet1_1",
        "method=[xgrad_cam,ablation_cam_axiomatic]",
        *SMALL,
        "data.size=5",
        "data.batch_size=5",
    ),
    *("metric=[sensitivity_error,confidence_drop,box_iou,zeta]", "runtime.repeats=0", *REAL),
)


@pytest.mark.slow
@real
@photographs
@reported
def test_voc(command, tmp_path):
    """VOC's classes through an ImageNet network, several in an image."""
    manifest, rows = ran(command, tmp_path, "voc", *VOC)
    assert list(manifest["models"]) == ["squeezenet1_1+voc_groups"]
    explained = rows[rows["metric"] == "zeta"]
    assert explained["target_class"].between(0, len(CLASSES) - 1).all()
    assert explained["image_id"].nunique() == 5
    assert set(explained["status"]) == {"ok"}
    drops = rows[
        (rows["method"] == "ablation_cam_axiomatic") & (rows["metric"] == "sensitivity_error")
    ]
    assert drops["value"].max() < 1e-3  # the drops through the groups are exact
    assert (explained["target_class"] == explained["predicted_class"]).mean() >= 0.3


@real
@photographs
def test_without_the_groups_the_sentence_names_them(tmp_path, capsys):
    assert (
        main(["experiment=voc", *VOC, "device=cpu", "model.output=logits", f"results={tmp_path}"])
        == 2
    )
    assert "model.output=voc_groups" in capsys.readouterr().out


@pytest.mark.slow
@reported
def test_shortcut(command, tmp_path):
    """Each method that does better than a map that depends on no class shows the mark where it
    counts, and only there.

    On 59 scenes Grad-CAM's mean share is 0.918 and 0.003, the true ones 0.878 and 0.001, and
    uniform's 0.42 and 0.35.
    """
    size = ("data.size=40", "data.batch_size=8")
    _, rows = ran(command, tmp_path, "shortcut", "method=[grad_cam,uniform]", *size, *NOTHING_DRAWN)
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


def imagenet(root: Path) -> Path:
    """One image of the eighth of a thousand classes, with its box."""
    folder, boxes = root / "val" / "n00000007", root / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True)
    boxes.mkdir(parents=True)
    (root / "LOC_synset_mapping.txt").write_text(
        "".join(f"n{number:08d} class {number}\n" for number in range(1000))
    )
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "ILSVRC2012_val_00000001.JPEG")
    (boxes / "ILSVRC2012_val_00000001.xml").write_text(BOX)
    return root


@pytest.mark.slow
@undrawn
def test_paper(tmp_path):
    """On one photograph in ImageNet's layout with random weights."""
    data = (f"data.root={imagenet(tmp_path / 'imagenet')}", "data.workers=0", "data.batch_size=1")
    chosen = (
        f"model={','.join(LAYERS)}",
        "metric=[sensitivity_error,conservation_error,zeta,epsilon,box_iou]",
    )
    results = tmp_path / "results"
    manifest, rows = ran(
        main, results, "paper", *data, *chosen, "model.weights=null", *NOTHING_DRAWN
    )
    assert {name: model["layer"] for name, model in manifest["models"].items()} == LAYERS
    assert set(rows["target_class"]) == {7}
    measured = rows[rows["status"] == "ok"]
    for name in LAYERS:
        values = measured[measured["model"] == name].set_index(["method", "metric"])["value"]
        # Biases are 0 at first, so some of these are 0 but for float32's rounding of sums of
        # thousands of terms.
        for error, residual in (("sensitivity_error", "zeta"), ("conservation_error", "epsilon")):
            assert values["xgrad_cam", error] == pytest.approx(
                values["-", residual], rel=1e-4, abs=1e-5
            )
        assert values["ablation_cam_axiomatic", "sensitivity_error"] < 1e-5
    assert measured.loc[measured["metric"] == "zeta", "value"].max() > 0.1
    folder = results / "paper/default"
    page = (folder / "report.html").read_text()
    shown = [about["title"] for kind in ("methods", "metrics") for about in manifest[kind].values()]
    assert [title for title in (*LAYERS, *shown) if str(escape(title)) not in page] == []
    assert page.rstrip().endswith("</html>")
    figures = {path.stem for path in (folder / "figures").glob("over_models_*.png")}
    assert figures == {"over_models_zeta", "over_models_epsilon"}


@pytest.mark.slow
@undrawn
def test_the_papers_figures_and_tables_have_a_file_each(tmp_path, capsys):
    methods = "method=[grad_cam,ablation_cam,xgrad_cam,guided_xgrad_cam]"
    errors = "sensitivity_error,conservation_error,zeta,epsilon"
    metrics = f"metric=[{errors},confidence_drop,box_iou,pointing_game,class_discriminability]"
    size = (
        "data.size=4",
        "data.batch_size=8",
        "runtime.repeats=1",
        "pictures.rows=1",
        "device=cpu",
    )
    assert (
        main(
            [
                "paper",
                "data=scenes",
                "model=scenes_vgg",
                methods,
                metrics,
                *size,
                f"results={tmp_path}",
            ]
        )
        == 0
    )
    output = capsys.readouterr().out
    folder = tmp_path / "paper" / "scenes-scenes_vgg" / "paper"
    assert f"paper: {folder / 'index.html'}" in output
    index, page = ((folder / name).read_text() for name in ("index.md", "index.html"))
    assert not (
        tmp_path / "paper_two_classes"
    ).exists()  # the scenes themselves show several classes
    for exhibit in study().exhibits:
        assert f"{exhibit.number}: {exhibit.title}" in output
        assert f"## {exhibit.number}: {exhibit.title}" in index
        assert f'id="{exhibit.file}"' in page
        files = {path.name for path in folder.glob(f"{exhibit.file}*")}
        assert {path.suffix for path in map(Path, files)} >= (
            {".pdf", ".png"} if exhibit.figures else {".tex", ".md"}
        )
        assert all(f"]({name})" in index for name in files)
    assert "<dd>scenes_vgg in this run</dd>" in page
    assert "<dd>4 of scenes in this run</dd>" in page
    assert "has no copy of them" in index


def test_every_metric_and_method_of_the_paper_is_in_its_experiments():
    config = configuration(["experiment=paper"])
    of_two = configuration(["experiment=paper_two_classes"])
    for exhibit in study().exhibits:
        assert set(exhibit.tables) <= set((of_two if exhibit.two_classes else config)["metric"])
        assert exhibit.against is None or exhibit.against in config["method"]


@pytest.mark.slow
def test_networks_of_real_root_stand_in_where_none_of_the_papers_has_weights(
    tmp_path, monkeypatch, capsys
):
    commands: list[list[str]] = []

    def fails(arguments: list[str], _: Path | None, __: str) -> tuple[int, None, dict[str, str]]:
        commands.append(arguments)
        return 2, None, {"alexnet": "The weights can't be downloaded."}

    monkeypatch.setattr(paper_command, "_run", fails)
    places = (f"results={tmp_path}", f"real_root={tmp_path}")
    (tmp_path / "data/imagenet").mkdir(parents=True)
    assert main(["paper", *places]) == 2
    assert len(commands) == 1  # who has no such folder hears of the downloads alone
    commands.clear()
    (tmp_path / "weights").mkdir()
    assert main(["paper", *places]) == 2
    assert commands[1] == [
        *commands[0],
        f"model={','.join(study().instead)}",
        paper_command.IN_PLACE,
    ]
    assert "nothing to show" in capsys.readouterr().out
    commands.clear()
    assert main(["paper", "model=alexnet", *places]) == 2
    assert len(commands) == 1  # named networks are not replaced


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "model"), [("detection", "detector"), ("segmentation", "segmenter")]
)
def test_objects(experiment, model, tmp_path):
    """Every metric has a value of every object, but for methods that the axioms aren't of."""
    manifest, rows = ran(
        computed, tmp_path, experiment, f"model=scenes_{model}", "data.size=2", *NOTHING_DRAWN
    )
    assert rows["image_id"].str.contains("//").all()
    assert rows["image_id"].nunique() >= 3
    assert set(rows["status"]) <= {"ok", "not_on_score_scale", "no_contributions", "one_object"}
    assert set(rows.loc[rows["status"] == "ok", "metric"]) == set(manifest["metrics"])
