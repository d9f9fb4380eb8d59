"""What is measured of each pair of metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..libraries import quiet
from ..markdown import AGREES
from .pairs import PAIRS, MetricPair
from .samples import Sample, tiny, trained


@dataclass(frozen=True)
class Side:
    """Both values of each image of one sample, (B,); the library's is a sentence where it raises."""

    own: np.ndarray
    peer: np.ndarray | str
    predicted: np.ndarray | None = None

    @property
    def difference(self) -> float:
        """The largest of an image; infinite where the library gives no value."""
        return _largest_difference(self.own, self.peer)

    @property
    def unexplained(self) -> float | None:
        """The largest difference of the library's values to those predicted from ours; None without a prediction."""
        return None if self.predicted is None else _largest_difference(self.predicted, self.peer)


@dataclass(frozen=True)
class MetricFinding:
    """A pair's values; None where the sample doesn't suit it."""

    pair: MetricPair
    tiny: Side | None
    trained: Side | None

    @property
    def agrees(self) -> bool:
        """Within AGREES on every sample measured."""
        return all(side.difference <= AGREES for side in (self.tiny, self.trained) if side is not None)

    @property
    def is_predicted(self) -> bool:
        """Whether the library differs by what the pair's `why` says, and by nothing else."""
        unexplained = self.trained.unexplained if self.trained else None
        return unexplained is not None and unexplained <= AGREES


def measured_metrics() -> list[MetricFinding]:
    """Measure every pair; one line is printed for each. Raises AssertionError as `measured` does."""
    small, large, findings = tiny(), trained(), []
    for pair in PAIRS:
        findings.append(measured(pair, small, large))
        print(f"{pair.value}, {pair.title}: {'agrees' if findings[-1].agrees else 'differs'}", flush=True)
    return findings


def measured(pair: MetricPair, small: Sample, large: Sample) -> MetricFinding:
    """Measure a pair. Raises AssertionError where our value of the tiny sample isn't the one computed by hand."""
    check_by_hand(pair, small)
    return MetricFinding(
        pair,
        None if pair.by_hand is None else _side(pair, small),
        _side(pair, large) if pair.on_trained else None,
    )


def check_by_hand(pair: MetricPair, small: Sample) -> None:
    """Compare our value of the tiny sample with the one computed by hand. Raises AssertionError."""
    if pair.by_hand is not None:
        np.testing.assert_allclose(pair.own(small), pair.by_hand, rtol=0, atol=1e-6, err_msg=pair.value)


def _side(pair: MetricPair, sample: Sample) -> Side:
    """Both metrics on one sample."""
    own = pair.own(sample)
    predicted = None if pair.predicted is None else pair.predicted(sample, own)
    try:
        with quiet():
            peer = np.asarray(pair.peer(sample), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return Side(own, f"raises {type(error).__name__}", predicted)
    return Side(own, peer, predicted)


def _largest_difference(values: np.ndarray, others: np.ndarray | str) -> float:
    if isinstance(others, str):
        return math.inf
    differences = np.abs(values - others)
    return math.inf if np.isnan(differences).any() else float(differences.max())
