"""The values beside a map: which metrics, and the ranks of the methods on one image."""

from __future__ import annotations

from typing import Any

import pytest

from axiom_bench.report.gallery import Measured, measured, ranked, shown_metrics


@pytest.mark.parametrize(
    ("values", "better", "ranks"),
    [
        ({"a": 0.3, "b": 0.1, "c": 0.2}, "lower", {"a": 3, "b": 1, "c": 2}),
        ({"a": 0.3, "b": 0.1, "c": 0.2}, "higher", {"a": 1, "b": 3, "c": 2}),
        ({"a": -0.3, "b": 0.1}, "lower", {"a": 1, "b": 2}),
        ({"a": 1e-7, "b": 9e-8, "c": 0.1}, "lower", {"a": 1, "b": 1, "c": 3}),  # float32's rounding is no difference
        ({"a": 0.50001, "b": 0.5, "c": 0.4}, "lower", {"a": 2, "b": 2, "c": 1}),  # the same three digits
        ({"a": float("nan"), "b": 2.0}, "higher", {"b": 1}),
    ],
)
def test_ranks(values: dict[str, float], better: str, ranks: dict[str, int]) -> None:
    assert ranked(values, better) == ranks


def test_metrics_that_say_what_is_better_are_shown(gallery_run: Any) -> None:
    report = {"headline": ["confidence_drop"], "columns": ["conservation_error_raw", "sensitivity_error", "box_iou"]}
    run = gallery_run(config={"report": report})
    assert [value.name for value in shown_metrics(run)] == ["confidence_drop", "sensitivity_error"]  # box_iou: no rows


def test_values_of_an_image_under_each_method(gallery_run: Any) -> None:
    run = gallery_run()
    values = measured(run, run.settings[0], shown_metrics(run), {"one"})
    assert values == {
        ("one", 0): {
            "sensitivity_error": {
                "good": Measured(0.1, "0.100", 1),
                "bad": Measured(0.4, "0.400", 2),
                "odd": Measured(None, "not on score scale", None),
            },
            "confidence_drop": {
                "good": Measured(0.9, "0.900", 1),
                "bad": Measured(0.5, "0.500", 2),
                "odd": Measured(0.5, "0.500", 2),
            },
        }
    }


def test_a_value_that_a_formula_makes_0_has_no_rank(gallery_run: Any) -> None:
    """Bad-CAM's error of the second image is as good as Good-CAM's, and first without it."""
    methods = {"good": {"wins_by_construction": ["sensitivity_error"]}, "bad": {}, "odd": {}}
    run = gallery_run(methods=methods)
    values = measured(run, run.settings[0], shown_metrics(run), {"a/two.jpg"})["a/two.jpg", 1]
    assert values["sensitivity_error"]["good"] == Measured(0.2, "0.200\N{DOUBLE DAGGER}", None)
    assert values["sensitivity_error"]["bad"].rank == 1
    assert values["confidence_drop"]["good"].rank == 2
