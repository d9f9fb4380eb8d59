"""Maps made to win a metric: what they win, that a metric that reads the image isn't won, and why
there are no rows.
"""

import numpy as np
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.testing import gaming as made_maps
from axiom_bench.testing.gaming import gaming, searched


def concentration(explanation):
    """How much of the map its brightest pixel has, wherever that is."""
    return explanation.heatmap.amax((1, 2)) / explanation.heatmap.sum((1, 2))


def inside(explanation):
    """How much of the map lies on the object."""
    return (explanation.heatmap * explanation.masks).sum((1, 2)) / explanation.heatmap.sum((1, 2))


def of_channels(explanation):
    return explanation.channel_totals.sum(1)


@pytest.fixture
def rows_of(monkeypatch):
    """Of the metric of this name in this module, from few images: {kind: row}."""
    for name, number in {"IMAGES": 24, "EVALUATIONS": 40, "PER_IMAGE": 200}.items():
        monkeypatch.setattr(made_maps, name, number)

    def rows(name, better="higher"):
        metric = plugins.from_config(
            "metric", name, {"_target_": f"{__name__}.{name}", "better": better}
        )
        return {row.truth: row for row in gaming(metric, [name])}

    return rows


@pytest.mark.slow
def test_a_metric_that_rewards_concentration_alone_is_won_by_the_optimised_map(rows_of):
    made = rows_of("concentration")["optimised"]
    assert (made.network, made.value, made.passes, made.n) == ("scenes_vgg", 1, False, 12)
    lower = rows_of("concentration", "lower")["optimised"]  # a map as flat as can be has 1 / 96^2
    assert (lower.passes, float(lower.about.split()[0])) == (False, pytest.approx(1e-4, abs=1e-4))


@pytest.mark.slow
def test_a_metric_that_reads_the_image_is_won_by_no_blind_map_and_driven_above_the_methods(rows_of):
    made = rows_of("inside")
    assert {kind: row.passes for kind, row in made.items()} == {
        "optimised": True,
        "one sample": True,
        "per image": None,
    }
    assert made["optimised"].value < 0.5 < made["per image"].value
    assert max(len(row.about) for row in made.values()) < 60
    assert rows_of("inside") == made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "passes"), [("conservation_error", False), ("sensitivity_error", True)]
)
def test_axiom_metrics_are_asked_by_shares_of_the_score(monkeypatch, name, passes):
    """Shares that say nothing of the channels have no conservation error, and a large sensitivity
    error.
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
    with pytest.raises(
        BenchError, match=r"inside: no map is made to win it .* more than 0 s of processor time"
    ):
        rows_of("inside")


def test_the_search_keeps_the_best_map_of_each_row_and_none_without_a_value():
    def values(maps):
        """The share in one corner, another for each row; none for a map that covers the middle."""
        share = np.array([maps[0, :4, :4].sum(), maps[1, 4:, 4:].sum()]) / maps.sum((1, 2))
        return np.where(maps[:, 3:5, 3:5].sum((1, 2)) > 1, np.nan, share)

    maps = searched(values, (2, 8, 8), 100)
    assert (values(maps) > 0.9).all()
