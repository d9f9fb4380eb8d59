"""The simulation of the report's statistics: its benchmarks are what they are said to be, and it finds what is
wrong."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_statistics as simulation
from simulate_statistics import KINDS, benchmark, coverage, errors


def test_benchmarks_have_one_to_three_objects_and_correlate_by_one_half() -> None:
    numbers, image = benchmark(4000, np.random.default_rng(0))
    assert set(np.bincount(image)) == {1, 2, 3}
    assert numbers.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(numbers.T)[0, 1] == pytest.approx(0.5, abs=0.05)
    same_image = np.flatnonzero(np.diff(image) == 0)
    assert np.corrcoef(numbers[same_image, 0], numbers[same_image + 1, 0])[0, 1] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_each_kind_has_the_mean_and_median_that_it_states(kind: simulation.Kind) -> None:
    values = kind.of(np.random.default_rng(1).normal(size=400_000))
    assert values.mean() == pytest.approx(kind.mean, abs=0.02)
    if kind.mean != 0.5:  # of two equal shares either is a median
        assert np.median(values) == pytest.approx(kind.median, abs=0.02)


def test_coverage_is_that_of_the_report_s_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    held = coverage(KINDS[0], 32, 20)
    assert 0.85 < held["mean"] <= 1
    assert set(held) == {"mean", "median"}
    monkeypatch.setattr(simulation, "mean_intervals", lambda values, image: np.ones((2, values.shape[1])))
    assert coverage(KINDS[0], 32, 2)["mean"] == 0


def test_errors_are_counted() -> None:
    found = errors(KINDS[0], 32, 5, shifts=(2.0, 0.0))
    assert (found.family, found.best, found.found) == (0, 0, 1)
    assert errors(KINDS[0], 32, 5, shifts=(0.0, 0.0)).family <= 0.4
