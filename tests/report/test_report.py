"""The report as a whole: from records alone, the same bytes again, and sensible where a run is thin or failed."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from axiom_bench import report
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from axiom_bench.report.charts.drawing import DPI
from axiom_bench.report.writing import SavedFigure, embedded
from tests.report.conftest import Structure

pytestmark = pytest.mark.usefixtures("undrawn")

FEW = ("conservation_error", "box_iou")


@pytest.fixture
def few_records(make_records: Any) -> pd.DataFrame:
    """One model, two methods, two metrics, twelve images."""
    records = make_records(12, layers={"scenes_fc": ("features.9",)}, methods={"grad_cam": {}, "random": {}})
    return records[records["metric"].isin(FEW)]


@pytest.fixture
def make_small_run(make_run: Any) -> Any:
    """(records, **how) -> a run folder of one model, without pictures."""

    def make(records: pd.DataFrame, **options: Any) -> Path:
        return make_run(records, **{"layers": {"scenes_fc": ("features.9",)}, "pictures": False, **options})

    return make


def written(folder: Path) -> dict[str, bytes]:
    files = [path for name in ("tables", "figures") for path in (folder / name).iterdir()]
    return {path.name: path.read_bytes() for path in [*files, folder / "report.html"]}


def test_the_page_is_whole_and_stands_alone(make_run: Any, few_records: pd.DataFrame) -> None:
    folder = make_run(few_records, layers={"scenes_fc": ("features.9",)})
    path = report.write(folder)
    text = path.read_text()
    page = Structure(text)
    assert path == folder / "report.html"
    assert page.unclosed == []
    assert page.all("link") == []
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in page.elements)
    assert all(image["alt"] and image["width"] for image in page.all("img"))
    links = {link["href"] for link in page.all("a")}
    figures = {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    assert figures
    assert figures <= links
    assert all("scope" in head for head in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    assert "axiom-bench experiment=synthetic &#39;method=[grad_cam,xgrad_cam]&#39;" in text
    assert "torch 2.13.0" in text


def test_names_are_text_not_markup_and_again_gives_the_same_bytes(
    make_small_run: Any, few_records: pd.DataFrame
) -> None:
    markup = "<script>alert(1)</script>"
    folder = make_small_run(few_records.replace({"method": {"random": markup}}), methods={"grad_cam": {}, markup: {}})
    text = report.write(folder).read_text()
    assert markup not in text
    assert "&lt;script&gt;" in text
    first = written(folder)
    (folder / "report.html").unlink()
    report.write(folder)
    assert written(folder) == first


def test_headline_names_the_best(usual_run: Path) -> None:
    conservation, iou = report.headline(usual_run)
    assert conservation.startswith("Conservation error (median, lower is better): scenes_fc: grad_cam 0.")
    assert "scenes_residual: grad_cam" in conservation
    assert iou.startswith("Box IoU (mean, higher is better): scenes_fc: ")
    assert "(n = 114 images, 114 rows)" in iou


def test_headline_names_all_that_tie(make_records: Any, make_small_run: Any, edit_manifest: Any) -> None:
    records = make_records(12, layers={"scenes_fc": ("features.9",)}, methods={"xgrad_cam": {}, "hires_cam": {}})
    folder = make_small_run(records)
    config = {"target": "label", "report": {"headline": ["conservation_error", "zeta", "nothing"]}}
    edit_manifest(folder, config=config)
    ties, free = report.headline(folder)  # of what wasn't measured there is nothing to say
    assert ": xgrad_cam = hires_cam " in ties
    assert re.fullmatch(r"Normalised zeta \(median\): scenes_fc: 0\.\d+ \(n = 12 images, 12 rows\)", free)


def test_rows_of_an_image_are_counted_apart_from_images(make_small_run: Any, few_records: pd.DataFrame) -> None:
    """Two classes of each image: twice the rows, and no more images."""
    folder = make_small_run(pd.concat([few_records, few_records.assign(target_class=few_records["target_class"] + 1)]))
    conservation, iou = report.headline(folder)
    assert "(n = 12 images, 24 rows)" in conservation
    assert "(n = 12 images, 24 rows)" in iou
    report.write(folder)
    assert "n = 12 images, 24 rows; a row is an image" in (folder / "tables/overview.md").read_text()


def test_failed_jobs_are_named(make_small_run: Any, few_records: pd.DataFrame, edit_manifest: Any) -> None:
    folder = make_small_run(few_records)
    edit_manifest(folder, failures=[{"job": "model=vgg16", "message": "No such file: <here>."}])
    text = report.write(folder).read_text()
    assert "1 job failed" in text
    assert "model=vgg16" in text
    assert "No such file: &lt;here&gt;." in text


def test_failures_only(make_small_run: Any, few_records: pd.DataFrame, edit_manifest: Any) -> None:
    folder = make_small_run(few_records)
    empty: dict[str, Any] = {key: [] for key in ("jobs", "records", "runtime")}
    empty |= {key: {} for key in ("models", "methods", "metrics", "data", "versions")}
    edit_manifest(folder, failures=[{"job": "model=a", "message": "m"}, {"job": "model=b", "message": "n"}], **empty)
    text = report.write(folder).read_text()
    assert "2 jobs failed" in text
    assert "This run has no records" in text
    assert report.headline(folder) == []


def test_a_metric_without_any_value(make_small_run: Any, few_records: pd.DataFrame) -> None:
    records = few_records.assign(value=few_records["value"].where(few_records["metric"] != "box_iou"))
    records["status"] = records["status"].mask(records["metric"] == "box_iou", "no_annotation")
    folder = make_small_run(records)
    text = report.write(folder).read_text()
    assert "No row of box_iou has status ok (no_annotation " in text
    assert "Not measured, no box or mask of the class: Box IoU of " in text
    shown = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r">[^<]*\bnan\b", shown)
    assert report.headline(folder)[1] == "Box IoU (mean, higher is better): scenes_fc: no value"


def test_one_image_of_one_method_without_run_time(make_small_run: Any, few_records: pd.DataFrame) -> None:
    single = few_records[(few_records["image_id"] == "scene_00003") & (few_records["method"] == "grad_cam")]
    folder = make_small_run(single, methods={"grad_cam": {"on_score_scale": True}}, runtime=False)
    text = report.write(folder).read_text().replace("&#39;", "'")
    assert "<h1>1 method on 1 network and 1 image</h1>" in text
    assert "Run time wasn't measured in this run." in text


def test_a_bad_image_is_counted(make_small_run: Any, few_records: pd.DataFrame) -> None:
    bad = few_records["image_id"] == "scene_00000"
    records = few_records.copy()
    records.loc[bad, ["value", "status", "target_class", "predicted_class"]] = [np.nan, "bad_image", -1, -1]
    text = report.write(make_small_run(records)).read_text().replace("&#39;", "'")
    assert "On 1 of 12 rows not measured, image can't be read" in text
    assert re.search(r"\d+ of 11 \(", text)


def test_a_folder_that_cannot_be_written_is_told(make_small_run: Any, few_records: pd.DataFrame) -> None:
    folder = make_small_run(few_records)
    (folder / "tables").write_text("a file where a folder should be")
    with pytest.raises(BenchError, match="Can't write"):
        report.write(folder)


def test_an_image_of_several_labels_is_right_where_one_of_them_is_predicted(
    make_small_run: Any, few_records: pd.DataFrame, edit_manifest: Any
) -> None:
    right = few_records.assign(target_class=1, predicted_class=1)
    other = few_records.assign(target_class=2, predicted_class=1)
    folder = make_small_run(pd.concat([right, other], ignore_index=True))
    edit_manifest(folder, config={"target": "each_label"})
    text = report.write(folder).read_text()
    assert "12 of 12 (100 %)" in text
    assert "one row for every class" in text


def test_photographs_are_smaller_in_the_page_than_beside_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    photograph, plot = tmp_path / "photograph.png", tmp_path / "plot.png"
    Image.fromarray(noise).save(photograph)
    Image.fromarray(np.full_like(noise, 255)).save(plot)
    (large, _), (small, width) = (embedded(SavedFigure(png.stem, "Title", "", png)) for png in (photograph, plot))
    assert large.startswith("data:image/webp;base64,")
    assert len(large) < photograph.stat().st_size
    assert small == f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}"
    assert width == round(600 / DPI * 125)


def test_random_weights_are_named_and_nothing_is_called_best(usual_run: Path, make_run: Any, make_records: Any) -> None:
    """Six methods with 0 ± 0 were all bold. The other model of the run is as before."""
    folder = make_run(make_records(12), pictures=False)
    manifest = sealed.read_json(folder / "manifest.json")
    manifest["models"]["scenes_fc"] |= {"weights": "random, seed 0", "random_weights": True}
    manifest_file.write(folder, manifest)
    first, conservation, _ = report.headline(folder)
    assert first.startswith("Random weights: scenes_fc.")
    random, trained = conservation.split(": ", 1)[1].split("; ")
    assert re.match(r"scenes_fc: 0\.\d+ to 0\.\d+ over 4 methods", random)
    assert re.match(r"scenes_residual: grad_cam 0\.\d+ ", trained)
    text = report.write(folder).read_text()
    assert "Random weights: scenes_fc." in text
    assert "The weights are random" in text
    for name, bold in (("metrics_1", False), ("metrics_2", True), ("correctness_1", False), ("correctness_2", False)):
        assert ("**" in (folder / f"tables/{name}.md").read_text()) is bold
    overview = (folder / "tables/overview.md").read_text().split("## ")
    bold_cells = [re.findall(r"\*\*([\d.]+)\*\*", part) for part in overview[1:]]
    assert bold_cells[0] == ["11.0"]  # the run time, which doesn't depend on what was learnt
    assert len(bold_cells[1]) > 1 or "**" in overview[2]
