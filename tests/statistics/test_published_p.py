"""p of all published pairs against the formula of docs/statistics.md as one would write it, in 60
digits.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.special import betainc, stdtrit

from axiom_bench.cli.rank import published
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import MOST_UNITS
from axiom_bench.statistics.paired_tests import LEVEL, holm, p_of_interval
from axiom_bench.statistics.run_folder import RunFolder

SUITES = ("photographs-2", "scenes-1", "scenes-costly-1", "shapes-1", "dense-1")
PARTS = {f"{suite}/{part}": folder for suite in SUITES for part, folder in published(suite).items()}


def quantile_of(difference, low, high, student):
    """(sqrt(1 + 8 e (d - e)) - 1) / (4 e), which loses 30 of the 60 digits at most."""
    below, above = max(difference - low, Decimal(0)), max(high - difference, Decimal(0))
    side, other = (below, above) if difference > 0 else (above, below)
    if not side:
        return Decimal("Infinity")
    narrow = max(min(side, other), side.scaleb(-30))  # of 0 the limit
    d, e = student * abs(difference) / narrow, (side / narrow - 1) * student / (2 * student**2 + 1)
    return ((1 + 8 * e * max(d - e, Decimal(0))).sqrt() - 1) / (4 * e) if e else d


def p_in_digits(difference, low, high, images, differing):
    """As `p_of_interval`."""
    degrees = min(images, MOST_UNITS) - 1
    with localcontext(prec=60):
        student = Decimal(stdtrit(degrees, 0.975))
        rows = zip(
            *(map(Decimal, column.tolist()) for column in (difference, low, high)), strict=True
        )
        q = np.array(
            [
                float(quantile_of(*row, student)) if row[0] and row[1].is_finite() else 0
                for row in rows
            ]
        )
    p = betainc(degrees / 2, 0.5, degrees / (degrees + q**2))  # of both tails
    return np.where(np.isnan(low), np.nan, np.maximum(p, np.minimum(2.0 ** (1 - differing), 1)))


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_no_published_significance_is_rounding(part, monkeypatch):
    """Neither p nor Holm's. 1e-6: the tables show two digits. p is below 0.05 where the interval
    leaves 0 out, unless few images differ or an end is at 0 but for rounding.
    """
    made = []

    def both(*arguments):
        made.append((p_of_interval(*arguments), p_in_digits(*arguments)))
        return made[-1][0].copy()  # `tests` writes into it

    monkeypatch.setattr(paired_tests, "p_of_interval", both)
    run = RunFolder.read(PARTS[part])
    # which would rank no method
    assert not any(accuracy.is_chance for accuracy in run.accuracies.values())
    for setting in run.settings:
        for metric in run.metrics:
            made.clear()
            comparison = run.comparisons.of(setting, metric)
            if not made:
                continue
            pairs = comparison.pairs
            p, expected = (np.concatenate(side) for side in zip(*made, strict=True))
            np.testing.assert_allclose(p, expected, rtol=1e-6)
            # values that are equal but for rounding
            expected = np.where(pairs["p"] == 1, 1, expected)
            assert ((np.array(holm(expected)) < LEVEL) == (pairs["adjusted"] < LEVEL)).all()
            leaves_0_out = (pairs["low"] > 0) | (pairs["high"] < 0)
            shows = leaves_0_out & (2.0 ** (1 - pairs["better"] - pairs["worse"]) < LEVEL)
            # no end at 0
            is_clear = pairs[["low", "high"]].abs().min(axis=1) > 1e-12 * (
                pairs["high"] - pairs["low"]
            )
            assert ((pairs["p"] < LEVEL) == shows)[is_clear].all()
