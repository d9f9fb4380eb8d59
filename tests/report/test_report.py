"""The whole report and its settings, also for runs that lack images, values or run times."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from markupsafe import escape
from PIL import Image

from axiom_bench import report
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.records.entries import JobEntry
from axiom_bench.report.charts.drawing import DPI
from axiom_bench.report.options import Figures, Options, options_of
from axiom_bench.report.page.this_run import this_run
from axiom_bench.report.tables.headline import all_notes, run_conclusion
from axiom_bench.report.writing import CSS_DPI, SavedFigure, embedded
from axiom_bench.statistics.labels import NOTHING
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import entries_of
from tests.report.conftest import Structure

pytestmark = pytest.mark.usefixtures("undrawn")

FEW = ("conservation_error", "box_iou")


@pytest.fixture
def few_records(make_records) -> pd.DataFrame:
    """One model, two methods, two metrics, twelve images."""
    records = make_records(
        12, layers={"scenes_fc": ("features.9",)}, methods={"grad_cam": {}, "random": {}}
    )
    return records[records["metric"].isin(FEW)]


@pytest.fixture
def small_run(make_run, few_records: pd.DataFrame, edit_manifest) -> Any:
    """A function (records, entries of the manifest, **options of make_run) -> a run folder.

    The run has one model, and no pictures unless `pictures=True`.
    """

    def make(
        records: pd.DataFrame = few_records,
        manifest: Any = None,
        pictures: bool = False,
        **options: Any,
    ) -> Path:
        layers = {"scenes_fc": ("features.9",)}
        folder = make_run(records, layers=layers, pictures=pictures, **options)
        edit_manifest(folder, **(manifest or {}))
        return folder

    return make


def text_of(folder: Path) -> str:
    """Write the report and return the text of its page."""
    return report.write(folder).read_text().replace("&#39;", "'")


@pytest.mark.slow
def test_the_page_is_whole_and_stands_alone(small_run):
    folder = small_run(pictures=True)
    path = report.write(folder)
    text = path.read_text()
    page = Structure(text)
    assert path == folder / "report.html"
    assert page.unclosed == page.all("link") == []
    assert all(
        (attributes.get("src") or "data:").startswith("data:") for _, attributes in page.elements
    )
    assert all(image["alt"] and image["width"] for image in page.all("img"))
    figures = {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    assert set() < figures <= {link["href"] for link in page.all("a")}
    assert all("scope" in head for head in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    assert "axiom-bench experiment=synthetic &#39;method=[grad_cam,xgrad_cam]&#39;" in text
    assert "torch 2.13.0" in text


@pytest.mark.slow
def test_the_headline_is_a_table_of_80_columns(usual_run):
    first, second, network, *lines = report.headline(usual_run)
    assert [first.split(), second.split()] == [["Conservation"], ["error", "↓", "Box", "IoU", "↑"]]
    assert network == "scenes_fc (n = 120 images, 120 rows), accuracy 98 of 120 (82 %)"
    (best,) = (line.split() for line in lines[:6] if line.split()[1].startswith("*"))
    assert best[0] == "grad_cam"
    assert any(line.startswith("scenes_residual (n = ") for line in lines)
    start = "Use grad_cam on scenes_fc and scenes_residual: it has the lowest conservation error"
    assert lines[-1].startswith(start)
    assert f"* best, or not significantly worse; {NOTHING} no value" in lines
    assert max(map(len, (first, second, network, *lines[:-2]))) <= 80


@pytest.mark.slow
def test_the_headline_has_a_row_for_each_method_and_says_why_values_are_missing(usual_run):
    lines = report.headline(usual_run)
    row = next(line for line in lines if line.split()[0] == "random")
    assert row.split()[-2] == NOTHING  # conservation error
    text = " ".join(lines)
    assert (
        "guided_xgrad_cam, random have no value of Conservation error: not on the score's" in text
    )


NOTE = "The method 'mine' is left out: it needs a pooling layer."


def with_notes(run: RunFolder, notes: Sequence[str]) -> RunFolder:
    """Return the run, with notes on its first job."""
    job = JobEntry(
        job="net at last on scenes", notes=list(notes), warnings=["5 images are left out"]
    )
    return replace(run, manifest=run.manifest.model_copy(update={"jobs": [job]}))


@pytest.mark.slow
def test_three_notes_are_printed_and_the_page_has_all(usual):
    notes = [NOTE, "The second note.", "The third note.", "The fourth note."]
    run = with_notes(usual, notes)
    known = len(all_notes(usual, run_conclusion(usual).answers))
    lines = report.headline(run, 200)
    assert known == 0
    assert "1 more note: see 'Notes' in the report." in lines
    printed = [line for line in lines if line.startswith("net at last on scenes: ")]
    assert len(printed) == 3
    text = str(this_run(run).body)
    assert "<h3>Notes</h3>" in text
    for note in (*notes, "5 images are left out"):
        assert str(escape(note)) in text
    assert not any("more note" in line for line in report.headline(with_notes(usual, [NOTE]), 200))


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_as_wide_as_the_terminal(usual, width):
    run = with_notes(usual, [NOTE * 5])
    lines = report.headline(run, width)[:-1]  # the conclusion is one line
    assert max(map(len, lines)) <= width
    assert NOTE * 5 in " ".join(lines)


@pytest.mark.slow
def test_no_word_of_a_heading_is_broken(usual):
    title = "Class discriminability of explanations"
    metrics = dict(usual.manifest.metrics)
    metrics["box_iou"] = metrics["box_iou"].model_copy(update={"title": title})
    run = replace(usual, manifest=usual.manifest.model_copy(update={"metrics": metrics}))
    lines = report.headline(run, 60)
    words = [word for line in lines[:4] for word in line.split()]
    assert {"discriminability", "explanations"} <= set(words)


def test_the_gallery_has_an_address(usual):
    assert report.gallery_address(usual) is None
    manifest = usual.manifest.model_copy(update={"gallery": ["gallery/a.parquet"]})
    address = report.gallery_address(replace(usual, manifest=manifest))
    assert address == f"{usual.path}/report.html#gallery"


def test_the_headline_tells_the_layer_s_metrics_below_its_table(make_records, small_run):
    records = make_records(
        12, layers={"scenes_fc": ("features.9",)}, methods={"xgrad_cam": {}, "hires_cam": {}}
    )
    config = {"target": "label", "report": {"headline": ["conservation_error", "zeta", "nothing"]}}
    # No line is about the metric `nothing`, which wasn't measured.
    *table, layer_line, _ = report.headline(small_run(records, {"config": config}))
    first = table[3].split()
    second = table[4].split()
    assert first[0] == "xgrad_cam"
    assert second[0] == "hires_cam"
    assert first[1] == second[1]
    zeta = r"Normalised zeta \(median\): scenes_fc: 0\.\d+ \(n = 12 images, 12 rows\)"
    assert re.fullmatch(zeta, layer_line)


@pytest.mark.parametrize(
    ("chosen", "headline", "columns"),
    [
        (["zeta", "box_iou"], ["box_iou"], ["box_iou"]),  # zeta has no direction
        (["zeta"], ["zeta"], ["zeta"]),
        (
            ["box_iou", "conservation_error"],
            ["conservation_error"],
            ["conservation_error", "box_iou"],
        ),
    ],
)
def test_a_run_leads_with_the_metrics_that_it_has(
    make_records, small_run, chosen, headline, columns
):
    records = make_records(
        12, layers={"scenes_fc": ("features.9",)}, methods={"grad_cam": {}, "random": {}}
    )
    run = RunFolder.read(small_run(records[records["metric"].isin(chosen)], {"config": {}}))
    assert list(options_of(run).headline) == headline
    assert list(options_of(run).columns) == columns
    first_word = run.metadata.value(headline[0]).title.split()[0]
    assert any(first_word in line for line in report.headline(run))


@pytest.mark.slow
def test_rows_of_an_image_are_counted_apart_from_images(small_run, few_records):
    """Check two classes of each image, which double the rows but not the images."""
    other_class = few_records.assign(target_class=few_records["target_class"] + 1)
    folder = small_run(pd.concat([few_records, other_class]))
    counts = "scenes_fc (n = 12 images, 24 rows), "
    assert any(line.startswith(counts) for line in report.headline(folder))
    report.write(folder)
    overview = (folder / "tables/overview.md").read_text()
    assert "n = 12 images, 24 rows; a row is an image" in overview


@pytest.mark.slow
def test_failed_jobs_are_named(small_run):
    folder = small_run(
        manifest={"failures": [{"job": "model=vgg16", "message": "No such file: <here>."}]}
    )
    text = text_of(folder)
    assert all(
        part in text for part in ("1 job failed", "model=vgg16", "No such file: &lt;here&gt;.")
    )
    empty: dict[str, Any] = {key: [] for key in ("jobs", "records", "runtime")}
    empty |= {key: {} for key in ("models", "methods", "metrics", "data", "versions")}
    failures = [{"job": "model=a", "message": "m"}, {"job": "model=b", "message": "n"}]
    folder = small_run(folder="failed", manifest={"failures": failures, **empty})
    text = text_of(folder)
    assert all(part in text for part in ("2 jobs failed", "This run has no records"))
    assert report.headline(folder) == []


@pytest.mark.slow
def test_a_metric_without_any_value(small_run, few_records):
    records = few_records.assign(
        value=few_records["value"].where(few_records["metric"] != "box_iou")
    )
    records["status"] = records["status"].mask(records["metric"] == "box_iou", "no_annotation")
    folder = small_run(records)
    text = text_of(folder)
    assert "box_iou has no value: no box or mask of the class (" in text
    assert "have no value of Box IoU: no box or mask of the class." in text
    shown = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r">[^<]*\bnan\b", shown)
    assert report.headline(folder)[3].split()[-1] == NOTHING


@pytest.mark.slow
def test_one_image_of_one_method_without_run_time(small_run, few_records):
    single = few_records[
        (few_records["image_id"] == "scene_00003") & (few_records["method"] == "grad_cam")
    ]
    text = text_of(small_run(single, methods={"grad_cam": {"on_score_scale": True}}, runtime=False))
    assert "<h1>1 method on 1 network and 1 image</h1>" in text
    assert "Run time wasn't measured in this run; runtime.repeats=5" in text


@pytest.mark.slow
def test_a_bad_image_is_counted(small_run, few_records):
    bad = few_records["image_id"] == "scene_00000"
    few_records.loc[bad, ["value", "status", "target_class", "predicted_class"]] = [
        np.nan,
        "bad_image",
        -1,
        -1,
    ]
    text = text_of(small_run(few_records))
    assert "on 1 of 12 rows: image can't be read." in text
    assert re.search(r"\d+ of 11 \(", text)


# Parts of the run folder, and the step at which each is removed.
REMOVED = {
    "": "figure",
    "records": "comparisons",
    "runtime": "tables",
    "pictures": "figure",
    "tables": "page",
    "figures": "page",
    "report.html": "page",
}


@pytest.mark.slow
def test_what_is_removed_while_a_report_is_written(small_run):
    """Check that the report is written, or that the error names the folder."""
    for number, (part, step) in enumerate(REMOVED.items()):
        folder = small_run(folder=f"run{number}", pictures=True)
        removed = folder / part

        def tell(now: str, step: str = step, removed: Path = removed) -> None:
            if now.split()[0] == step and removed.is_dir():
                shutil.rmtree(removed)
            elif now.split()[0] == step:
                removed.unlink(missing_ok=True)

        try:
            message = str(report.write(folder, tell=tell))
        except BenchError as error:
            message = str(error)
        assert str(folder) in message, (part, step)


@pytest.mark.slow
def test_an_image_of_several_labels_is_right_where_one_of_them_is_predicted(small_run, few_records):
    records = pd.concat(
        [few_records.assign(target_class=label, predicted_class=1) for label in (1, 2)]
    )
    text = text_of(small_run(records, {"config": {"target": "each_label"}}))
    assert "12 of 12 (100 %)" in text
    assert "one row for every class" in text


# The status of grad_cam's rows, the number of such rows of each metric that needs a map, and the
# sentence about them.
NO_MAPS = [
    ("zero_map", 12, "are zero on all 12 rows; metrics of the map have no value there."),
    ("zero_map", 6, "are zero on 6 of 12 rows; metrics of the map have no value there."),
    ("zero_map", 5, None),
    ("not_finite", 12, "aren't finite on all 12 rows, which have no value; guard"),
    ("no_map", 12, "are missing on all 12 rows; one is called by its image's id, as "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("status", "count", "sentence"), NO_MAPS)
def test_a_method_without_maps_is_named(small_run, few_records, status, count, sentence):
    """Check that a sentence explains why a method has a dash in the tables."""
    metrics = ["box_iou"] if status == "zero_map" else FEW
    for metric in metrics:
        rows = few_records.index[
            (few_records["method"] == "grad_cam") & (few_records["metric"] == metric)
        ]
        few_records.loc[rows[:count], ["value", "status"]] = [np.nan, status]
    folder = small_run(few_records)
    named = [line for line in report.headline(folder) if "the maps of grad_cam" in line]
    assert bool(named) == (sentence is not None)
    if sentence:
        assert named[0].startswith(f"scenes_fc: the maps of grad_cam {sentence}")
        if status == "no_map":  # the page takes the sentences of every status from the headline
            assert sentence in text_of(folder)
    # Now at most one metric lacks values, so its status isn't about the maps.
    is_box_iou = few_records["metric"] == "box_iou"
    few_records.loc[is_box_iou, ["value", "status"]] = [0.5, "ok"]
    assert not any("the maps of" in line for line in report.headline(small_run(few_records)))


def test_photographs_are_smaller_in_the_page_than_beside_it(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    photograph = tmp_path / "photograph.png"
    plot = tmp_path / "plot.png"
    Image.fromarray(noise).save(photograph)
    Image.fromarray(np.full_like(noise, 255)).save(plot)
    (large, _), (small, width) = (
        embedded(SavedFigure(png.stem, "Title", "", png)) for png in (photograph, plot)
    )
    assert large.startswith("data:image/webp;base64,")
    assert len(large) < photograph.stat().st_size
    assert small == f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}"
    assert width == round(600 / DPI * CSS_DPI)


@pytest.mark.slow
def test_random_weights_are_named_and_nothing_is_called_best(make_run, make_records, edit_manifest):
    """Check that the model with random weights has no bold values, and the trained model has."""
    records = make_records(12)
    folder = make_run(records[records["metric"].isin(FEW)], pictures=False)
    models = entries_of(folder)["models"]
    models["scenes_fc"] |= {"weights": "random, seed 0", "random_weights": True}
    edit_manifest(folder, models=models)
    first, *lines = report.headline(folder)
    assert first.startswith("Random weights: scenes_fc.")
    random, _, trained = "\n".join(lines).partition("scenes_residual")
    assert "*" not in random
    assert re.search(r"grad_cam +\*0\.\d+", trained)
    text = text_of(folder)
    assert "Random weights: scenes_fc." in text
    assert "The weights are random" in text
    for name, bold in (
        ("metrics_1", False),
        ("metrics_2", True),
        ("correctness_1", False),
        ("correctness_2", False),
    ):
        assert ("**" in (folder / f"tables/{name}.md").read_text()) is bold
    overview = (folder / "tables/overview.md").read_text().split("## ")
    bold_cells = [re.findall(r"\*\*([\d.]+)\*\*", part) for part in overview[1:]]
    assert bold_cells[0] == []
    assert len(bold_cells[1]) > 1 or "**" in overview[2]


def test_keys_of_another_version_do_not_count():
    """Check that keys of an older or newer version don't make a run unreadable."""
    unknown_keys = {"columns": True, "floor": []}
    report = {
        "width": 3,
        "headline": ["zeta"],
        "figures": {**unknown_keys, "pair": ["a", "b"]},
        "latex": {"font": "serif"},
    }
    options = Options.of(report)
    assert options == Options.of({"headline": ["zeta"], "figures": {"pair": ["a", "b"]}})


def test_the_defaults_are_those_of_the_configuration():
    """Compare the defaults of the class with those of the configuration file."""
    defaults = yaml.safe_load((conf_folder() / "config.yaml").read_text())["report"]
    options = Options.of()
    assert list(options.headline) == defaults["headline"]
    assert list(options.columns) == defaults["columns"]
    assert options.figures.perturbed == defaults["figures"]["perturbed"]
    assert {field.name for field in fields(Options)} == set(defaults)
    assert {field.name for field in fields(Figures)} == set(defaults["figures"])
    options = Options.of({"headline": ["zeta"], "figures": {"pair": ["a", "b"]}})
    assert options.headline == ("zeta",)
    assert options.figures.pair == ("a", "b")
