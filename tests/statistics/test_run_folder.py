"""What a run folder is read as, and what is said of one that is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import RECORD

LAYERS = {"net": ("features.9", "features.12", "features.2")}


def test_names_are_in_the_manifests_order(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    assert list(run.records.methods) == [
        *("-", "grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic", "guided_xgrad_cam", "random")
    ]
    assert run.metrics[:2] == ("sensitivity_error", "conservation_error")
    assert run.settings == (
        Setting("scenes_fc", "features.9", "scenes"),
        Setting("scenes_residual", "stages.2", "scenes"),
    )


def test_layers_keep_the_manifests_order_and_else_count_their_numbers(
    make_run: Any, make_records: Any, edit_manifest: Any
) -> None:
    folder = make_run(make_records(4, LAYERS), layers=LAYERS, pictures=False)
    assert [setting.layer for setting in RunFolder.read(folder).settings] == list(LAYERS["net"])
    edit_manifest(folder, models={})
    assert [setting.layer for setting in RunFolder.read(folder).settings] == ["features.2", "features.9", "features.12"]


def test_a_label_says_no_more_than_needed(usual_run: Path, make_run: Any, make_records: Any) -> None:
    run = RunFolder.read(usual_run)
    assert [run.label(setting) for setting in run.settings] == ["scenes_fc", "scenes_residual"]
    deep = RunFolder.read(make_run(make_records(4, LAYERS), layers=LAYERS, pictures=False))
    assert deep.label(deep.settings[0]) == "net features.9"


def test_ok_without_a_number_is_not_ok(make_run: Any, make_records: Any) -> None:
    records = make_records(10)
    broken = (records["metric"] == "box_iou") & (records["image_id"] == "scene_00005")
    records.loc[broken, "value"] = np.nan
    run = RunFolder.read(make_run(records, pictures=False))
    changed = run.records.frame().query("status == 'not_finite'")
    assert len(changed) == broken.sum()
    assert set(changed["metric"]) == {"box_iou"}


def test_only_listed_records_count(make_run: Any, make_records: Any) -> None:
    folder = make_run(make_records(5), pictures=False)
    manifest = sealed.read_json(folder / "manifest.json")
    manifest["jobs"] = manifest["jobs"][:3]
    manifest_file.write(folder, manifest)
    assert len(RunFolder.read(folder).records.methods) == 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "can't be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "can't be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "isn't a run's manifest"),
        (lambda folder: (folder / RECORD).unlink(), "can't be read"),
        (lambda folder: (folder / RECORD).write_bytes(b"PAR1"), "can't be read"),
        (lambda folder: (folder / "runtime/one.parquet").write_bytes(b"PAR1"), "can't be read"),
    ],
)
def test_damage_is_told(make_run: Any, make_records: Any, damage: Any, message: str) -> None:
    folder = make_run(make_records(3), pictures=False)
    damage(folder)
    with pytest.raises(BenchError, match=message):
        RunFolder.read(folder)
