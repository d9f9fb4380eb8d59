"""The floor of the axiom plane, groups of values, mean curves."""

import numpy as np
import pytest

from axiom_bench.report.charts.boxes import counts_in, groups_of
from axiom_bench.report.charts.scatter import floor_of_means
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder


@pytest.mark.parametrize(
    ("s0", "c0", "floor"),
    [
        # Image 1: c0 = 4, s0 = 1 (slope 4); image 2: c0 = 1, s0 = 1 (slope 1). The steeper step comes first.
        ([1.0, 1.0], [1.0, 4.0], ([0, 0.5, 1.0], [2.5, 0.5, 0.0])),
        ([0.0, 1.0], [0.0, 1.0], ([0, 0.5, 0.5], [0.5, 0, 0])),  # an image without a gap adds nothing
    ],
)
def test_two_images_by_hand(s0, c0, floor):
    np.testing.assert_allclose(floor_of_means(np.array(s0), np.array(c0)), floor, atol=1e-15)


def test_it_falls_is_convex_and_no_mixture_lies_below():
    """An image may put any part of its gap into either error; the means of all such choices lie on or above."""
    generator = np.random.default_rng(0)
    s0, c0 = generator.uniform(0.1, 1, 50), generator.lognormal(0, 2, 50)
    sensitivity, conservation = floor_of_means(s0, c0)
    slopes = np.diff(conservation) / np.diff(sensitivity)
    assert (slopes < 0).all()
    assert (np.diff(slopes) > -1e-9 * np.abs(slopes[1:])).all()
    np.testing.assert_allclose([sensitivity[-1], conservation[0]], [s0.mean(), c0.mean()], rtol=1e-12)
    s0, c0 = s0[:8], c0[:8]
    parts = generator.beta(0.3, 0.3, (500, 8))
    floor = np.interp((parts * s0).mean(axis=1), *floor_of_means(s0, c0))
    assert (((1 - parts) * c0).mean(axis=1) >= floor - 1e-12).all()


def test_groups_are_those_of_the_rows(make_run, make_records):
    """By setting and method, in the run's order and each group's rows in the records', without those of no value."""
    run = RunFolder.read(make_run(make_records(30)))
    for name, methods in (("box_iou", run.methods), ("conservation_error", run.methods[1:3]), ("zeta", [METHOD_FREE])):
        groups = groups_of(run, name, methods)
        rows = run.records.rows([name])
        rows = rows[(rows["status"] == "ok") & rows["method"].isin(methods)]
        expected = dict(iter(rows.groupby(["model", "layer", "data", "method"], observed=True)))
        found = {(*setting, method): group for setting, own in groups.items() for method, group in own.items()}
        assert list(found) == list(expected)
        for key, group in found.items():
            assert group.values.tolist() == expected[key]["value"].tolist()
            assert run.records.keys["image_id"].iloc[group.keys].tolist() == expected[key]["image_id"].tolist()
            assert group.images == expected[key]["image_id"].nunique()
        sizes = [len(own) for own in expected.values()]
        assert f"{min(sizes)}" in counts_in(found.values())
        assert f"{max(sizes)} rows" in counts_in(found.values())
    assert groups_of(run, "not_measured", run.methods) == {}
