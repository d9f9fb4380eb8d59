"""target=predicted where data and model number different classes: no label, box or mask may pass for the model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from axiom_bench.run.manifest import Outcome

METRICS = "metric=[zeta,box_iou,mask_iou,class_correlation,class_discriminability]"
NETWORK = """
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, {classes}))
"""


@pytest.fixture
def net(tmp_path: Path) -> Callable[[int], tuple[str, ...]]:
    """The settings of a network of so many classes, on the scenes of ten."""

    def settings(classes: int) -> tuple[str, ...]:
        (tmp_path / "net.py").write_text(NETWORK.format(classes=classes))
        own = ("model=user", f"model.architecture={tmp_path}/net.py:build", "model.layer='1'")
        return (*own, "target=predicted", METRICS, "method=[grad_cam]")

    return settings


def statuses(rows: pd.DataFrame) -> dict[str, set[str]]:
    return {name: set(part["status"]) for name, part in rows.groupby("metric")}


def test_nothing_of_the_data_is_read_as_a_class_of_the_model(net, run, rows):
    outcomes: list[Outcome] = run(*net(7))
    assert outcomes[0].failure is None
    by_metric = statuses(rows(outcomes))
    assert (by_metric["zeta"], by_metric["box_iou"], by_metric["mask_iou"]) == ({"ok"}, {"no_annotation"}, {"no_mask"})
    assert [name for name in by_metric if "ok" in by_metric[name]] == ["zeta"]
    (note,) = outcomes[0].notes
    assert "the 10 classes of 'scenes' aren't the 7 of user" in note
    assert "boxes and masks aren't used" in note


def test_where_the_classes_are_as_many_they_are_used(net, run, rows):
    outcomes = run(*net(10), "data.size=12")
    assert "ok" in statuses(rows(outcomes))["class_correlation"]
    assert outcomes[0].notes == ()


def test_which_images_are_correct_can_not_be_told(net, run):
    (outcome,) = run(*net(7), "data.only_correct=true")
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert "data.only_correct=false" in outcome.failure.message


def test_a_picture_names_the_model_s_class(net, run, results):
    run(*net(7), "pictures.rows=2")
    (file,) = results.glob("*/*/pictures/*.npz")
    assert all(name.isdecimal() for name in np.load(file)["class_names"])


def test_an_explained_label_must_be_a_class(net, run):
    (outcome,) = run(*net(12), "target=each_label")
    assert outcome.failure is not None
    assert "has 12 classes and the data set scenes 10" in outcome.failure.message
