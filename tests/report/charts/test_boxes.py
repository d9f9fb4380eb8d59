"""Box-plots: their numbers in closed form, and how many single values the page holds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from axiom_bench.report.charts import boxes, by_method
from axiom_bench.statistics.labels import rows_at
from axiom_bench.statistics.run_folder import RunFolder


def test_five_numbers() -> None:
    """Whiskers end at the last value within 1.5 interquartile ranges, not at the fence itself."""
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100])
    expected = {"low": 1, "q1": 3.25, "median": 5.5, "q3": 7.75, "high": 9, "mean": 14.5}
    assert boxes.five_numbers(values) == pytest.approx(expected)


def test_one_value_is_a_box_of_its_own() -> None:
    assert set(boxes.five_numbers(np.array([0.3])).values()) == {0.3}


def test_the_farthest_outside() -> None:
    values = np.concatenate([np.linspace(0, 1, 101), [5.0, -7, 3, 4]])
    places = boxes.farthest_outside(values, boxes.five_numbers(values))
    assert values[places].tolist() == [-7, 5, 4, 3]
    many = np.concatenate([np.linspace(0, 1, 1001), np.arange(10, 10 + 2 * boxes.MAX_OUTSIDE)])
    assert len(boxes.farthest_outside(many, boxes.five_numbers(many))) == boxes.MAX_OUTSIDE


def test_boxes_are_of_the_records(rich_run: RunFolder) -> None:
    chart = by_method.chart(rich_run)
    assert chart is not None
    choice = next(choice for choice in chart.choices if choice.label == "Box IoU")
    table, values = choice.panels[0].tables["boxes"], choice.panels[0].tables["values"]
    rows = rows_at(rich_run.records.frame(), rich_run.settings[0])
    own = rows[(rows["metric"] == "box_iou") & (rows["method"] == "xgrad_cam") & (rows["status"] == "ok")]
    place = table["method"].index("xgrad_cam")
    assert table["n"][place] == len(own) > 0
    assert table["median"][place] == pytest.approx(own["value"].median(), rel=1e-4)
    assert len(values["value"]) == sum(table["n"])
    first = values["method"].index("xgrad_cam")
    assert own.set_index("image_id")["value"][values["image"][first]] == pytest.approx(values["value"][first], rel=1e-4)


def test_the_headline_comes_first(rich_run: RunFolder) -> None:
    chart = by_method.chart(rich_run)
    assert chart is not None
    assert [choice.label for choice in chart.choices][:2] == ["Conservation error", "Box IoU"]


@pytest.mark.parametrize("name", ["MAX_VALUES", "MAX_OF_BOX"])
def test_a_long_run_sends_few_single_values(rich_run: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The page of 50,000 images must stay small: boxes hold all values, dots are the farthest outside."""
    every = by_method.chart(rich_run)
    monkeypatch.setattr(boxes, name, 10)
    few = by_method.chart(rich_run)
    assert every is not None
    assert few is not None
    for all_of, choice in zip(every.choices, few.choices, strict=True):
        assert "farthest" in choice.caption
        for panel, other in zip(all_of.panels, choice.panels, strict=True):
            assert json.dumps(panel.tables["boxes"]) == json.dumps(other.tables["boxes"])
            assert len(other.tables["values"]["value"]) <= boxes.MAX_OUTSIDE * len(other.tables["boxes"]["n"])
