"""The maps that are made to win a metric.

Such maps win some metrics, but none that reads the image. For some metrics there are no rows.
"""

import numpy as np
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.testing import gaming as made_maps
from axiom_bench.testing.gaming import gaming, search_maps


def concentration(explanation):
    """Return the brightest pixel's share of the map, wherever this pixel is."""
    return explanation.heatmap.amax((1, 2)) / explanation.heatmap.sum((1, 2))


def inside(explanation):
    """Return the share of the map that lies on the object."""
    return (explanation.heatmap * explanation.masks).sum((1, 2)) / explanation.heatmap.sum((1, 2))


def of_channels(explanation):
    return explanation.channel_totals.sum(1)


@pytest.fixture
def rows_of(monkeypatch):
    """A function that returns the rows of a metric in this module by kind, from few images."""
    monkeypatch.setattr(made_maps, "IMAGES", 24)
    monkeypatch.setattr(made_maps, "EVALUATIONS", 40)
    monkeypatch.setattr(made_maps, "PER_IMAGE", 200)

    def rows(name, better="higher"):
        settings = {"_target_": f"{__name__}.{name}", "better": better}
        metric = plugins.from_config("metric", name, settings)
        return {row.truth: row for row in gaming(metric, [name])}

    return rows


@pytest.mark.slow
def test_a_metric_that_rewards_concentration_alone_is_won_by_the_optimised_map(rows_of):
    higher = rows_of("concentration")["optimised"]
    assert higher.network == "scenes_vgg"
    assert (higher.value, higher.passes, higher.n) == (1, False, 12)

    lower = rows_of("concentration", "lower")["optimised"]
    reached = float(lower.about.split()[0])
    # A map as flat as possible has 1 / 96^2.
    assert (lower.passes, reached) == (False, pytest.approx(1e-4, abs=1e-4))


@pytest.mark.slow
def test_a_metric_that_reads_the_image_is_won_by_no_blind_map_and_driven_above_the_methods(rows_of):
    rows = rows_of("inside")
    passes = {kind: row.passes for kind, row in rows.items()}
    assert passes == {"optimised": True, "one sample": True, "per image": None}
    assert rows["optimised"].value < 0.5 < rows["per image"].value
    assert max(len(row.about) for row in rows.values()) < 60
    assert rows_of("inside") == rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "passes"), [("conservation_error", False), ("sensitivity_error", True)]
)
def test_axiom_metrics_are_asked_by_shares_of_the_score(monkeypatch, name, passes):
    """Check shares that tell nothing about the channels.

    They have no conservation error, and a large sensitivity error.
    """
    monkeypatch.setattr(made_maps, "IMAGES", 24)
    (row,) = gaming(plugins.load("metric", name), [name])
    assert row.truth in ("equal shares", "activation shares", "random shares")
    assert (row.test, row.n, row.passes, row.value) == ("gaming", 12, passes, float(not passes))


@pytest.mark.slow
def test_a_metric_of_contributions_and_one_that_costs_too_much_have_a_sentence(
    rows_of, monkeypatch
):
    with pytest.raises(BenchError, match=r"of_channels.*no contributions"):
        rows_of("of_channels")
    monkeypatch.setattr(made_maps, "SECONDS", 0)
    message = r"inside: no map is made to win it .* more than 0 s of processor time"
    with pytest.raises(BenchError, match=message):
        rows_of("inside")


def test_the_search_keeps_the_best_map_of_each_row_and_none_without_a_value():
    def values(maps):
        """Return each map's share in its own corner, or NaN if the map covers the middle."""
        in_corner = np.array([maps[0, :4, :4].sum(), maps[1, 4:, 4:].sum()])
        covers_middle = maps[:, 3:5, 3:5].sum((1, 2)) > 1
        return np.where(covers_middle, np.nan, in_corner / maps.sum((1, 2)))

    maps = search_maps(values, (2, 8, 8), 100)
    assert (values(maps) > 0.9).all()
