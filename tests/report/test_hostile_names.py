"""Names come from a user's files and from other people's run folders: none leads out of a folder, none is a formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axiom_bench import report
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, reading
from axiom_bench.records.files import safe_name

LAYERS = {"scenes_fc": ("features.9",)}


@pytest.mark.parametrize("name", ["x/../../escaped", "../../evil", "..", ".", "", "a\\b", "a\0b", ".hidden", "m" * 300])
def test_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    safe = safe_name(name)
    assert (tmp_path / f"{safe}.png").resolve().parent == tmp_path.resolve()
    assert not safe.startswith(".")
    assert len(safe) < 120
    (tmp_path / f"{safe}.png").write_bytes(b"")


def test_two_names_never_share_a_file_and_a_plain_one_is_its_own() -> None:
    assert len({safe_name(name) for name in ("a/b", "a\\b", "a_b", "a b", "m" * 300, "m" * 301)}) == 6
    for name in ("box_iou", "grad_cam@torchcam", "resnet18-layer4.1", "a=b"):
        assert safe_name(name) == name


def test_a_report_writes_inside_its_folder(
    tmp_path: Path, make_run: Any, make_records: Any, edit_manifest: Any
) -> None:
    """A metric, a model and a method of these names, in a run folder that somebody sent."""
    metric, model, method = "x/../../ESCAPED", "../../model", "../method"
    records = make_records(6, layers=LAYERS, methods={"grad_cam": {}, "random": {}})
    records = records[records["metric"] == "box_iou"].assign(metric=metric, model=model)
    records["method"] = records["method"].astype(str).replace("grad_cam", method)
    about = {metric: {"title": "Escaped", "unit": "IoU", "better": "higher", "of": "method"}}
    folder: Path = make_run(records, layers={model: ("features.9",)}, pictures=False)
    edit_manifest(folder, metrics=about)
    outside = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    report.write(folder)
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == outside
    assert list((folder / "figures").glob("*ESCAPED*.png"))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"methods": ["grad_cam"]}, "'methods' must be a mapping"),
        ({"methods": {"grad_cam": 3}}, "'methods.grad_cam' must be a mapping, not 3"),
        ({"models": 3}, "'models' must be a mapping, not 3"),
        ({"records": {"a": 1}}, "'records' must be a list"),
        ({"jobs": [None]}, "'jobs.0' must be a mapping, not null"),
        ({"records": ["../../etc/passwd"]}, "'records' names \"../../etc/passwd\", which is no file of a run folder"),
        ({"pictures": ["/etc/passwd"]}, "which is no file of a run folder"),
        ({"runtime": [None]}, "'runtime.0' must be text, not null"),
        ({"models": {"net": {"layers": "last"}}}, "'models.net.layers' must be a list, not \"last\""),
        ({"models": {"net": {"random_weights": 1}}}, "'models.net.random_weights' must be true or false, not 1"),
        ({"data": {"scenes": {"ids": [3]}}}, "'data.scenes.ids.0' must be text, not 3"),
        ({"seconds": {"net": {"values": "fast"}}}, "'seconds.net.values' must be a number, not \"fast\""),
    ],
)
def test_a_manifest_that_does_not_hold_what_it_must(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    artefacts.write(tmp_path, {"experiment": "quick", "run": "default", **entry})
    with pytest.raises(BenchError, match="is damaged") as caught:
        reading.read_manifest(tmp_path)
    assert sentence in str(caught.value)


def test_a_manifest_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / artefacts.NAME).write_text("[" * 100_000)
    with pytest.raises(BenchError, match="can't be read"):
        reading.read_manifest(tmp_path)
