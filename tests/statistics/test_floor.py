"""The floor of means: by hand, its shape, and that no choice of contributions gets below it."""

from __future__ import annotations

import numpy as np

from axiom_bench.statistics.chart_data import floor_of_means


def test_two_images_by_hand() -> None:
    # Image 1: c0 = 4, s0 = 1 (slope 4); image 2: c0 = 1, s0 = 1 (slope 1). The steeper step comes first.
    sensitivity, conservation = floor_of_means(np.array([1.0, 1.0]), np.array([1.0, 4.0]))
    np.testing.assert_allclose(sensitivity, [0, 0.5, 1.0], atol=1e-15)
    np.testing.assert_allclose(conservation, [2.5, 0.5, 0.0], atol=1e-15)


def test_it_falls_and_is_convex() -> None:
    generator = np.random.default_rng(0)
    s0, c0 = generator.uniform(0.1, 1, 50), generator.lognormal(0, 2, 50)
    sensitivity, conservation = floor_of_means(s0, c0)
    slopes = np.diff(conservation) / np.diff(sensitivity)
    assert (slopes < 0).all()
    assert (np.diff(slopes) > -1e-9 * np.abs(slopes[1:])).all()
    np.testing.assert_allclose([sensitivity[-1], conservation[0]], [s0.mean(), c0.mean()], rtol=1e-12)


def test_no_mixture_lies_below() -> None:
    """An image may put any part of its gap into either error; the means of all such choices lie on or above."""
    generator = np.random.default_rng(1)
    s0, c0 = generator.uniform(0.1, 1, 8), generator.lognormal(0, 1, 8)
    floor = floor_of_means(s0, c0)
    for part in generator.beta(0.3, 0.3, (500, 8)):
        x, y = (part * s0).mean(), ((1 - part) * c0).mean()
        assert y >= np.interp(x, *floor) - 1e-12


def test_an_image_without_a_gap_adds_nothing() -> None:
    sensitivity, conservation = floor_of_means(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(np.column_stack([sensitivity, conservation]), [[0, 0.5], [0.5, 0], [0.5, 0]])
    assert np.isfinite(conservation).all()
