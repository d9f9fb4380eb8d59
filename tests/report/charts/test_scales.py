"""Limits and ticks of the charts' axes."""

from __future__ import annotations

import numpy as np

from axiom_bench.report.charts import vega


def test_values_that_spread_little_lie_on_a_linear_axis() -> None:
    params = vega.symlog_params("x", np.array([0.2, 0.5, 1.0]))
    assert params["x_linear"] == vega.LINEAR
    assert params["x_low"] < 0.2 < 1.0 < params["x_high"]
    assert params["x_ticks"] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_values_that_spread_wide_lie_on_a_logarithmic_axis_that_shows_zero() -> None:
    params = vega.symlog_params("x", np.array([0.0, 0.01, 2.0]))
    assert params["x_linear"] == 0.01
    assert params["x_ticks"] == [0, 0.01, 0.1, 1]
    assert params["x_low"] < 0


def test_exact_methods_have_an_axis() -> None:
    """All errors 0, or rounding: the axis still has an extent."""
    for values in (np.zeros(3), np.full(3, 1e-9)):
        params = vega.symlog_params("y", values, from_zero=True)
        assert params["y_low"] < 0 < params["y_high"]
        assert params["y_ticks"][0] == 0


def test_an_axis_never_spans_rounding_alone() -> None:
    """Methods that coincide but for rounding would seem ranked."""
    params = vega.symlog_params("y", np.array([5e-8, 9e-8, -2e-9]))
    assert params["y_high"] >= vega.SMALLEST
    assert params["y_ticks"][0] == 0


def test_negative_values_are_never_on_a_logarithmic_axis() -> None:
    assert vega.symlog_params("y", np.array([-0.5, 0.001, 100]))["y_linear"] == vega.LINEAR


def test_logarithmic_ticks() -> None:
    assert vega.log_ticks(0.05, 700) == [0.1, 1, 10, 100]
    assert vega.log_ticks(0.4, 3) == [0.5, 1, 2]


def test_limits_of_equal_values_are_apart() -> None:
    for value in (0.0, 3.0):
        limits = vega.limits(value, value, log=False)
        assert limits["low"] < value < limits["high"]
