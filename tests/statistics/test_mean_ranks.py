"""Nemenyi's critical difference against published values, and the figure of mean ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from axiom_bench.report.charts import ranking
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.statistics.ranking import critical_difference, mean_ranks
from axiom_bench.statistics.run_folder import RunFolder


def many(make_run: Any, make_records: Any, edit_manifest: Any, count: int, layers: int = 1) -> RunFolder:
    """Three methods on so many networks: a below b below c in the error of each image, but for noise."""
    names = {f"net{place}": tuple(f"layer{layer}" for layer in range(layers)) for place in range(count)}
    methods = dict(zip(("grad_cam", "xgrad_cam", "hires_cam"), "abc", strict=True))
    records = make_records(12, layers=names, methods=methods)
    records = records[(records["metric"] == "conservation_error") & (records["method"] != "-")]
    records["method"] = records["method"].map(methods)
    shift = records["method"].map({"a": 0.0, "b": 0.0, "c": 5.0}).astype(float)
    records["value"] = np.random.default_rng(0).uniform(0, 1, len(records)) + shift
    folder = make_run(records, methods={name: {} for name in "abc"}, layers=names, runtime=False, pictures=False)
    edit_manifest(folder, config={"report": {"headline": ["conservation_error"]}})
    return RunFolder.read(folder)


def test_the_critical_difference_is_nemenyi_s() -> None:
    """Demsar 2006, table 5: q at 5 % is 1.960, 2.343, 2.728 and 3.164 of 2, 3, 5 and 10 methods."""
    for methods, quantile in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 14))
        assert critical_difference(methods, 14) == pytest.approx(expected, abs=2e-3)
    assert critical_difference(11, 6) == pytest.approx(6.16, abs=0.01)


def test_a_few_networks_have_a_sentence(make_run: Any, make_records: Any, edit_manifest: Any) -> None:
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 2))
    assert isinstance(left, LeftOut)
    assert left.reason.startswith(
        "3 methods on 2 networks or data sets: two mean ranks would have to differ by 2.3 places"
    )
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 1))
    assert isinstance(left, LeftOut)
    assert left.reason.startswith("It takes a headline metric")
    (left,) = ranking.draw_mean_ranks(many(make_run, make_records, edit_manifest, 2, layers=2))
    assert isinstance(left, LeftOut)
    assert "layers of one network" in left.reason


def test_many_networks_are_drawn(make_run: Any, make_records: Any, edit_manifest: Any) -> None:
    run = many(make_run, make_records, edit_manifest, 12)
    ranks = mean_ranks(run, "conservation_error")
    assert ranks is not None
    assert ranks.count == 12
    assert ranks.ranks["c"] == 3
    assert ranks.ranks["a"] + ranks.ranks["b"] == 3
    assert ranks.alike() == [(0, 1)]
    assert ranks.p < 0.001
    (drawing,) = ranking.draw_mean_ranks(run)
    assert isinstance(drawing, Drawing)
    assert "over 12 networks or data sets" in drawing.caption
    texts = [text.get_text() for text in drawing.draw().axes[0].texts]
    assert "c 3.0" in texts
