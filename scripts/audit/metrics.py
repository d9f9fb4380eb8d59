"""Metrics of other libraries and ours: the table of pairs, what is measured of each, and the two pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from axiom_bench import metrics
from axiom_bench.evaluation.plugins import value_names, with_params
from axiom_bench.metrics.infidelity import SIDES

from . import metric_calls as calls
from . import quantus_calls as of_quantus
from .libraries import PEERS, quiet
from .metric_calls import grad_cam, torchcam
from .pages import AGREES, Page, difference
from .quantus_calls import quantus
from .samples import Peer, Sample, not_called, tiny, trained

DISTRIBUTIONS = ("quantus", *PEERS, "scipy", "scikit-learn", "scikit-image", "numpy", "torch")
VALUES = (*("Ours", "Library", "Settings", "Tiny: ours", "library", "Trained: ours", "library", "Difference", "Why"),)


@dataclass(frozen=True)
class Pair:
    """A value of one of our metrics, and another library's.

    metric: the metric that has the value, where its name is another. params: of ours, where they aren't the default.
    settings: what isn't the default of both, in words. by_hand: the tiny sample's value, computed on paper. why: what
    the library does otherwise. case: the file that shows it. on_trained: whether it is measured on the trained network,
    too, where a call may take long.
    """

    value: str
    peer: Peer
    metric: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: str = "default"
    by_hand: float | None = None
    why: str = ""
    case: str = ""
    on_trained: bool = True

    @property
    def title(self) -> str:
        """The library and its metric."""
        return f"{self.peer.library} `{self.peer.name}`"

    def ours(self, sample: Sample) -> np.ndarray:
        """Our values (B,)."""
        values = with_params("metric", self.metric or self.value, self.params)(sample.explanation)
        values = values if isinstance(values, Tensor) else values[self.value]
        return values.detach().double().numpy()


HALF, CURVE = {"fractions": (0.5,), "noise": 0.0, "output": "probability"}, {"steps": 4, "fill": "zero"}
HEATMAP = {"protocol": "heatmap"}
READING_ORDER = "pixels of equal value in reading order, where ours, rounded to 1e-6, are in the raw map's"
AT_THRESHOLD = "removes all pixels at the threshold, however many"
AT_THRESHOLDS = "protocol heatmap, at 100 thresholds, torchvision's IoU"
SENSITIVITY = "explanation_sensitivity"
DIFFERENCE = {"steps": 4, "insertion_fill": "zero", "deletion_fill": "zero"}
# The tiny image's red pixels are (1, 2, 4, 0) ln 2, its map is (1, 1/2, 1/4, 0), in rows of two; its class's
# probability is 2^s / (1 + 2^s), s the sum of the red pixels over ln 2. Mask and box are the left column.
ENTROPY = log(7) - 10 / 7 * log(2)
DROP = 1 - 8 / 9 * 129 / 128  # the map keeps 1 + 1 + 1 + 0
DELETION = (128 / 129 / 2 + 64 / 65 + 16 / 17 + 1 / 2 + 1 / 2 / 2) / 4  # 7, 6, 4, 0, 0 are left
INSERTION = (1 / 2 / 2 + 2 / 3 + 8 / 9 + 128 / 129 + 128 / 129 / 2) / 4  # 0, 1, 3, 7, 7
MORF, LERF = 256 / 257, 64 / 65  # imputed: 16/7 and 12/7 above; 10/7 and 11/7 below
GAIN = (128 / 129 - 64 / 65 + 8 / 9 - 16 / 17 + 2 / 3 - 1 / 2) / 4  # 7, 3, 1 are left, and 6, 4, 0
BLENDED = 128 / 129 - 1 / (1 + 2 ** (-113 / 16))  # 7/4, 15/8, 55/16 and 0 are left
RANKS = 1 / 5  # ranks 4, 3, 2, 1 of the map's sums, 2, 3, 4, 1 of the drops

PAIRS = (
    Pair("average_drop", torchcam("ClassificationMetric", "avg_drop"), by_hand=DROP),
    Pair("average_drop", grad_cam("DropInConfidence"), by_hand=DROP, why="not divided by p",
         case="grad_cam_drop_absolute"),
    Pair("increase_in_confidence", torchcam("ClassificationMetric", "conf_increase"), by_hand=0),
    Pair("increase_in_confidence", grad_cam("IncreaseInConfidence"), by_hand=0),
    Pair("confidence_drop", calls.blended, settings="perturbation image (1 - h) + mean h; opposite sign",
         by_hand=BLENDED),
    Pair("coherency", calls.coherency, metric="adcc", settings="of the library's GradCAM",
         why="0.5 where a map is constant, where ours is undefined", case="grad_cam_coherency_constant"),
    Pair("complexity", calls.complexity, metric="adcc", by_hand=7 / 16),
    Pair("arcc", calls.arcc, params={"noise": 0.0}, settings="of the library's GradCAM of the logit; no noise",
         why="ROAD removes all pixels at the threshold, however many", case="grad_cam_road_zeros"),
    Pair("single_deletion", calls.deletion_by_scipy, params={"grid": 2}, settings="2 x 2 patches", by_hand=RANKS),
    Pair("srg", of_quantus.relevance_gain, params={"grid": 2}, by_hand=GAIN,
         settings="2 x 2 patches, zeros; area between its curves of both orders computed by us"),
    Pair("saco", of_quantus.faithfulness_of_groups, params={"groups": 12, "fill": "zero"},
         settings="12 groups, zeros; the published algorithm as its similarity",
         why="drops that differ by less than 1e-6 of the largest, and such pixels, are not equal"),
    Pair("deletion_auc", torchcam("DeletionInsertionMetric", "deletion_auc", steps=4), params=CURVE,
         settings="4 steps, zeros", by_hand=DELETION, why=READING_ORDER),
    Pair("deletion_auc", of_quantus.pixel_flipping, params=CURVE, by_hand=DELETION, case="quantus_ties",
         settings="4 steps, zeros; area computed by us, with the unchanged image as first point",
         why="pixels of equal value in the order of an unstable sort"),
    Pair("deletion_auc", of_quantus.region_perturbation, params=CURVE, by_hand=DELETION, on_trained=False,
         settings="1 x 1 regions, zeros; area computed by us, with the unchanged image as first point"),
    Pair("insertion_auc", torchcam("DeletionInsertionMetric", "insertion_auc", steps=4), params=CURVE,
         settings="4 steps, on zeros", by_hand=INSERTION, why=READING_ORDER),
    Pair("insertion_minus_deletion", calls.insertion_minus_deletion, params=DIFFERENCE, why=READING_ORDER,
         settings="4 steps, zeros; difference computed by us", by_hand=INSERTION - DELETION),
    Pair("road_morf", calls.road("RemoveMostRelevantFirst", 0.5), params=HALF, by_hand=MORF, why=AT_THRESHOLD,
         settings="half of the pixels, probability, no noise", case="grad_cam_road_zeros"),
    Pair("road_lerf", calls.road("RemoveLeastRelevantFirst", 0.5), params=HALF, by_hand=LERF, why=AT_THRESHOLD,
         settings="half of the pixels, probability, no noise", case="grad_cam_road_zeros"),
    Pair("road_combined", grad_cam("ROADCombined", percentiles=[50]), params=HALF, by_hand=(LERF - MORF) / 2,
         settings="half of the pixels, probability; the library's noise of 0.01",
         why="removes all pixels at the threshold, its noise has no seed", case="grad_cam_road_noise"),
    Pair("road_morf", quantus("ROAD", percentages=[50], noise=0.0), params={**HALF, "output": "accuracy"}, by_hand=1,
         settings="half of the pixels, no noise", why="refuses images of several channels", case="quantus_raises"),
    Pair("infidelity", calls.captum_infidelity(SIDES, 100, True), settings="our squares; normalize, ours scaled"),
    Pair("infidelity", calls.captum_infidelity((1.0,), 1, False), settings="the whole image; not scaled",
         params={"sides": (1.0,), "squares": 1, "scaled": False}, by_hand=(7 / 4 - 7 * log(2)) ** 2, on_trained=False),
    Pair("sensitivity_n", Peer("quantus", "SensitivityN"), case="quantus_sensitivity_n",
         why="nested subsets in the map's order, sums of the last step alone, correlation over images"),
    Pair("faithfulness_correlation", Peer("quantus", "FaithfulnessCorrelation"), case="quantus_correlation_place",
         why="draws by place in the batch, of values, not pixels"),
    Pair("box_iou", calls.labelled_box_iou, settings="torchvision's IoU", by_hand=1 / 2),
    Pair("box_acc_own_threshold", calls.labelled_box_acc((0.5,), False), metric="max_box_acc", params=HEATMAP,
         settings=AT_THRESHOLDS, by_hand=1),
    Pair("box_acc_v2_own_threshold", calls.labelled_box_acc((0.3, 0.5, 0.7), True), metric="max_box_acc_v2",
         params=HEATMAP, settings=AT_THRESHOLDS, by_hand=2 / 3),
    Pair("mask_iou", calls.jaccard, settings="above 0.15", by_hand=2 / 3),
    Pair("pixel_ap_own_image", calls.average_precision_of_levels, metric="pxap", params=HEATMAP, by_hand=5 / 6,
         settings="protocol heatmap, of maps cut to 101 levels"),
    Pair("pointing_game_strict", quantus("PointingGame", "boxes"), by_hand=1, settings="box as mask"),
    Pair("energy_pointing_game", quantus("AttributionLocalisation", "boxes"), by_hand=5 / 7, settings="box as mask"),
    Pair("mass_accuracy", quantus("RelevanceMassAccuracy", "masks"), by_hand=5 / 7),
    Pair("rank_accuracy", quantus("RelevanceRankAccuracy", "masks"), metric="mass_accuracy", by_hand=1 / 2),
    Pair("top_k_intersection", quantus("TopKIntersection", "masks", k=3), params={"k": 3}, settings="k 3",
         by_hand=2 / 3),
    Pair("max_sensitivity", calls.captum_sensitivity, metric=SENSITIVITY, settings="raw map, our draws"),
    Pair("max_sensitivity", of_quantus.sensitivity("MaxSensitivity"), metric=SENSITIVITY,
         settings="raw map, our draws"),
    Pair("avg_sensitivity", of_quantus.sensitivity("AvgSensitivity"), metric=SENSITIVITY,
         settings="raw map, our draws"),
    Pair("model_parameter_randomisation", Peer("quantus", "MPRT"), case="quantus_mprt_original",
         why="its own draws, and one more stage for the unchanged network, at 1"),
    Pair("model_parameter_randomisation_efficient", Peer("quantus", "EfficientMPRT"), by_hand=0, why="its own draws"),
    Pair("model_parameter_randomisation_smooth", Peer("quantus", "SmoothMPRT"),
         why="its own draws, of noise anew for each model", case="quantus_smooth_mprt_explain_func"),
    Pair("random_logit", Peer("quantus", "RandomLogit"), case="quantus_random_logit_place",
         why="SSIM of the flattened map, classes drawn by place in the batch"),
    Pair("gini", quantus("Sparseness"), by_hand=13 / 28),
    Pair("entropy", quantus("Complexity"), by_hand=ENTROPY),
    Pair("entropy", calls.shannon, by_hand=ENTROPY),
    Pair("effective_complexity", quantus("EffectiveComplexity"), params={"steps": 4}, settings="ours in 4 steps",
         by_hand=1 / 4, why="counts pixels above 1e-5, as it documents, and runs no model",
         case="quantus_effective_complexity_model"),
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Both values of each image of one sample, (B,); the library's is a sentence where it raises."""

    ours: np.ndarray
    theirs: np.ndarray | str

    @property
    def difference(self) -> float:
        """The largest of an image; infinite where the library gives no value."""
        if isinstance(self.theirs, str):
            return math.inf
        differences = np.abs(self.ours - self.theirs)
        return math.inf if np.isnan(differences).any() else float(differences.max())

    @property
    def means(self) -> tuple[str, ...]:
        """Both means over the images."""
        both = (self.ours, self.theirs)
        return tuple(values if isinstance(values, str) else f"{np.nanmean(values):.6g}" for values in both)


@dataclass(frozen=True)
class Finding:
    """A pair's values; None where the sample doesn't suit it, or the library isn't called."""

    pair: Pair
    tiny: Side | None
    trained: Side | None

    @property
    def agrees(self) -> bool:
        """Within AGREES on every sample measured."""
        sides = [side for side in (self.tiny, self.trained) if side is not None]
        return bool(sides) and all(side.difference <= AGREES for side in sides)

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table of values."""
        pair = self.pair
        return (
            *(f"`{pair.value}`", pair.title, "not called" if pair.peer.call is not_called else pair.settings),
            *(self.tiny.means if self.tiny else "--"),
            *(self.trained.means if self.trained else "--"),
            difference(self.trained.difference if self.trained else None),
            " ".join([pair.why, f"(`{pair.case}`)" if pair.case else ""]).strip(),
        )


def write(docs: Path) -> None:
    """Measure every pair, of which a line is printed, and run every case. Raises AssertionError as `measured` does."""
    small, large, findings = tiny(), trained(), list[Finding]()
    for pair in PAIRS:
        findings.append(measured(pair, small, large))
        print(f"{pair.value}, {pair.title}: {'agrees' if findings[-1].agrees else 'differs'}", flush=True)
    names = dict.fromkeys(value for name in metrics.names() for value in value_names(metrics.get(name)))
    compared = {pair.value for pair in PAIRS}
    page = Page("studies/metrics-audit.md")
    called = [finding for finding in findings if finding.pair.peer.call is not not_called]
    counts = (
        f"{sum(finding.agrees for finding in called)} of {len(called)} comparisons agree within {AGREES:g} on every "
        "image; the others differ by what the table says.",
        f"{len(findings) - len(called)} metrics of libraries aren't called, since they draw themselves or measure "
        "something else; their cases show it.",
        "Not compared (no pair in `scripts/audit/metrics.py`): "
        f"{', '.join(f'`{name}`' for name in names if name not in compared)}.",
    )
    page.replace_head(DISTRIBUTIONS, counts)
    page.replace_table(VALUES, (finding.row for finding in findings), text_columns=3)
    page.replace_cases("metrics", {})
    page.write(docs)
    page = Page("metrics.md")
    page.replace_table(("metric", "agrees with", "differs from"), summary(findings), text_columns=3)
    page.write(docs)


def measured(pair: Pair, small: Sample, large: Sample) -> Finding:
    """Measure a pair. Raises AssertionError where our value of the tiny sample isn't the one computed by hand."""
    check_by_hand(pair, small)
    if pair.peer.call is not_called:
        return Finding(pair, None, None)
    on_tiny = None if pair.by_hand is None else _side(pair, small)
    return Finding(pair, on_tiny, _side(pair, large) if pair.on_trained else None)


def check_by_hand(pair: Pair, small: Sample) -> None:
    """Compare our value of the tiny sample with the one computed by hand. Raises AssertionError."""
    if pair.by_hand is not None:
        np.testing.assert_allclose(pair.ours(small), pair.by_hand, rtol=0, atol=1e-6, err_msg=pair.value)


def _side(pair: Pair, sample: Sample) -> Side:
    """Both metrics on one sample."""
    ours = pair.ours(sample)
    try:
        with quiet():
            return Side(ours, np.asarray(pair.peer.call(sample), dtype=np.float64))
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return Side(ours, f"raises {type(error).__name__}")


def summary(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """A row for each of our values: which libraries agree, with what would differ on other images, and which differ."""
    agreeing: dict[str, list[str]] = {}
    differing: dict[str, list[str]] = {}
    for finding in findings:
        pair = finding.pair
        agree, differ = (texts.setdefault(pair.value, []) for texts in (agreeing, differing))
        if finding.agrees:
            agree.append(f"{pair.title} (on other images: {pair.why})" if pair.why else pair.title)
        else:
            differ.append(f"{pair.title}: {pair.why}")
    return [
        (f"`{value}`", ", ".join(dict.fromkeys(agree)) or "-", "; ".join(differing[value]) or "-")
        for value, agree in agreeing.items()
    ]
