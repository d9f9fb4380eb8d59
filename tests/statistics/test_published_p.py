"""Tests of p of all published pairs against the formula of docs/statistics.md, which is computed
with 60 digits.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.special import betainc, stdtrit

from axiom_bench.cli.rank import published_folders
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import LEVEL, MOST_UNITS
from axiom_bench.statistics.paired_tests import holm, p_of_interval
from axiom_bench.statistics.run_folder import RunFolder

SUITES = ("photographs-2", "scenes-1", "scenes-costly-1", "shapes-1", "dense-1", "words-1")
PARTS = {
    f"{suite}/{part}": folder
    for suite in SUITES
    for part, folder in published_folders(suite).items()
}


def quantile_of(difference, low, high, student):
    """Return (sqrt(1 + 8 e (d - e)) - 1) / (4 e), which loses at most 30 of the 60 digits."""
    below = max(difference - low, Decimal(0))
    above = max(high - difference, Decimal(0))
    side, other = (below, above) if difference > 0 else (above, below)
    if not side:
        return Decimal("Infinity")
    narrow = max(min(side, other), side.scaleb(-30))  # the limit at 0
    d = student * abs(difference) / narrow
    e = (side / narrow - 1) * student / (2 * student**2 + 1)
    return ((1 + 8 * e * max(d - e, Decimal(0))).sqrt() - 1) / (4 * e) if e else d


def p_in_digits(difference, low, high, images, differing, level):
    """Compute `p_of_interval` with 60 digits, at the level of published values."""
    assert level == LEVEL
    degrees = min(images, MOST_UNITS) - 1
    with localcontext(prec=60):
        student = Decimal(stdtrit(degrees, 0.975))
        columns = [map(Decimal, column.tolist()) for column in (difference, low, high)]
        quantiles = []
        for middle, start, end in zip(*columns, strict=True):
            has_interval = middle and start.is_finite()
            quantile = quantile_of(middle, start, end, student) if has_interval else 0
            quantiles.append(float(quantile))
        q = np.array(quantiles)
    p = betainc(degrees / 2, 0.5, degrees / (degrees + q**2))  # of both tails
    return np.where(np.isnan(low), np.nan, np.maximum(p, np.minimum(2.0 ** (1 - differing), 1)))


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_no_published_significance_is_rounding(part, monkeypatch):
    """Compare p and Holm's p with those from 60 digits, of each metric on one of the networks.

    The tolerance is 1e-6 because the tables show two digits. p is below 0.05 exactly if the
    interval leaves 0 out, unless few images differ or rounding moved an end away from 0.
    """
    computed = []

    def both(*arguments):
        computed.append((p_of_interval(*arguments), p_in_digits(*arguments)))
        return computed[-1][0].copy()  # `tests` writes into it

    monkeypatch.setattr(paired_tests, "p_of_interval", both)
    run = RunFolder.read(PARTS[part])
    # A network no better than chance would rank no method.
    assert not any(accuracy.is_chance for accuracy in run.accuracies.values())
    count = len(run.settings)
    for number, setting in enumerate(run.settings):
        for metric in list(run.metrics)[number::count]:
            computed.clear()
            comparison = run.comparisons.of(setting, metric)
            if not computed:
                continue
            pairs = comparison.pairs
            p, expected = (np.concatenate(side) for side in zip(*computed, strict=True))
            np.testing.assert_allclose(p, expected, rtol=1e-6)
            # p of values that are equal except for rounding is set to 1.
            expected = np.where(pairs["p"] == 1, 1, expected)
            assert ((np.array(holm(expected)) < LEVEL) == (pairs["adjusted"] < LEVEL)).all()
            leaves_0_out = (pairs["low"] > 0) | (pairs["high"] < 0)
            shows = leaves_0_out & (2.0 ** (1 - pairs["better"] - pairs["worse"]) < LEVEL)
            nearest_end = pairs[["low", "high"]].abs().min(axis=1)
            is_clear = nearest_end > 1e-12 * (pairs["high"] - pairs["low"])  # no end is at 0
            assert ((pairs["p"] < LEVEL) == shows)[is_clear].all()
