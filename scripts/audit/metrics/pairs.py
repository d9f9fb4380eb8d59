"""Which metric of another library is compared with which of this project: data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from typing import Any

from torch import Tensor

from axiom_bench import metrics
from axiom_bench.metrics.infidelity import SIDES

from ..libraries import with_params
from . import groups, maps, perturbation, reexplanation
from .calls import Call, Prediction, Values, grad_cam, quantus, torchcam
from .samples import Sample


@dataclass(frozen=True)
class MetricPair:
    """A value of one of our metrics, and the call that gives another library's.

    metric: the metric that has the value, where its name is another. params: of ours, where they aren't the default.
    settings: what isn't the default of both, in words. by_hand: the tiny sample's value, computed on paper. why: what
    the library does otherwise. predicted: the library's values from ours, where `why` is the only difference. case: the
    file that shows it. on_trained: whether it is measured on the trained network, too, where a call may take long.
    """

    value: str
    library: str
    name: str
    peer: Call
    metric: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: str = "default"
    by_hand: float | None = None
    why: str = ""
    predicted: Prediction | None = None
    case: str = ""
    on_trained: bool = True

    @property
    def title(self) -> str:
        """The library and its metric."""
        return f"{self.library} `{self.name}`"

    def own(self, sample: Sample) -> Values:
        """Our values (B,)."""
        values = with_params(metrics.get(self.metric or self.value), self.params)(sample.explanation)
        values = values if isinstance(values, Tensor) else values[self.value]
        return values.detach().double().numpy()


HALF, CURVE = {"fractions": (0.5,), "noise": 0.0, "output": "probability"}, {"steps": 4, "fill": "zero"}
HEATMAP = {"protocol": "heatmap"}
READING_ORDER = "pixels of equal value in reading order, where ours, rounded to 1e-6, are in the raw map's"
TWELFTHS = (1 / 12, 1 / 6, 1 / 4, 1 / 3)
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

PAIRS = (
    MetricPair(
        "average_drop", "torchcam", "ClassificationMetric",
        torchcam("ClassificationMetric", "avg_drop"), by_hand=DROP,
    ),
    MetricPair(
        "average_drop", "grad-cam", "DropInConfidence", grad_cam("DropInConfidence"), by_hand=DROP,
        why="not divided by p", predicted=perturbation.times_probability, case="grad_cam_drop_absolute",
    ),
    MetricPair(
        "increase_in_confidence", "torchcam", "ClassificationMetric",
        torchcam("ClassificationMetric", "conf_increase"), by_hand=0,
    ),
    MetricPair(
        "increase_in_confidence", "grad-cam", "IncreaseInConfidence", grad_cam("IncreaseInConfidence"), by_hand=0,
    ),
    MetricPair(
        "confidence_drop", "grad-cam", "PerturbationConfidenceMetric", perturbation.blended,
        settings="perturbation image (1 - h) + mean h; opposite sign", by_hand=BLENDED,
    ),
    MetricPair(
        "coherency", "grad-cam", "Coherency", perturbation.coherency, metric="adcc",
        settings="of the library's GradCAM",
        why="0.5 where a map is constant, where ours is undefined", predicted=perturbation.half_where_undefined,
        case="grad_cam_coherency_constant",
    ),
    MetricPair("complexity", "grad-cam", "Complexity", maps.complexity, metric="adcc", by_hand=7/16),
    MetricPair(
        "arcc", "grad-cam", "ARCC", perturbation.arcc, params={"noise": 0.0},
        settings="of the library's GradCAM of the logit; no noise",
        why="ROAD removes all pixels at the threshold, however many", predicted=perturbation.arcc_at_percentiles,
        case="grad_cam_road_zeros",
    ),
    MetricPair(
        "single_deletion", "scipy", "spearmanr", groups.deletion_by_scipy, params={"grid": 2}, settings="2 x 2 patches",
        by_hand=1/5,  # ranks 4, 3, 2, 1 of the map's sums, 2, 3, 4, 1 of the drops
    ),
    MetricPair(
        "srg", "quantus", "RegionPerturbation", groups.relevance_gain, params={"grid": 2},
        settings="2 x 2 patches, zeros; area between its curves of both orders computed by us", by_hand=GAIN,
    ),
    MetricPair(
        "saco", "quantus", "FaithfulnessEstimate", groups.faithfulness_of_groups, params={"groups": 12, "fill": "zero"},
        settings="12 groups, zeros; the published algorithm as its similarity",
        why="drops that differ by less than 1e-6 of the largest, and such pixels, are not equal",
        predicted=groups.groups_without_rounding,
    ),
    MetricPair(
        "deletion_auc", "torchcam", "DeletionInsertionMetric",
        torchcam("DeletionInsertionMetric", "deletion_auc", steps=4), params=CURVE, settings="4 steps, zeros",
        by_hand=DELETION, why=READING_ORDER, predicted=perturbation.deletion_in_reading_order,
    ),
    MetricPair(
        "deletion_auc", "quantus", "PixelFlipping", perturbation.pixel_flipping(4), params=CURVE,
        settings="4 steps, zeros; area computed by us, with the unchanged image as first point", by_hand=DELETION,
        why="pixels of equal value in the order of an unstable sort",
        predicted=perturbation.deletion_in_unstable_order(4), case="quantus_ties",
    ),
    MetricPair(
        "deletion_auc", "quantus", "RegionPerturbation", perturbation.region_perturbation, params=CURVE,
        settings="1 x 1 regions, zeros; area computed by us, with the unchanged image as first point",
        by_hand=DELETION, on_trained=False,
    ),
    MetricPair(
        "insertion_auc", "torchcam", "DeletionInsertionMetric",
        torchcam("DeletionInsertionMetric", "insertion_auc", steps=4), params=CURVE, settings="4 steps, on zeros",
        by_hand=INSERTION, why=READING_ORDER, predicted=perturbation.insertion_in_reading_order,
    ),
    MetricPair(
        "insertion_minus_deletion", "torchcam", "DeletionInsertionMetric", perturbation.insertion_minus_deletion,
        params=DIFFERENCE, settings="4 steps, zeros; difference computed by us", by_hand=INSERTION - DELETION,
        why=READING_ORDER, predicted=perturbation.difference_in_reading_order,
    ),
    MetricPair(
        "road_morf", "grad-cam", "RemoveMostRelevantFirst", perturbation.road("RemoveMostRelevantFirst", 0.5),
        params=HALF, settings="half of the pixels, probability, no noise", by_hand=MORF,
        why="removes all pixels at the threshold, however many",
        predicted=perturbation.road_at_percentile("highest", 0.5), case="grad_cam_road_zeros",
    ),
    MetricPair(
        "road_lerf", "grad-cam", "RemoveLeastRelevantFirst", perturbation.road("RemoveLeastRelevantFirst", 0.5),
        params=HALF, settings="half of the pixels, probability, no noise", by_hand=LERF,
        why="removes all pixels at the threshold, however many",
        predicted=perturbation.road_at_percentile("lowest", 0.5), case="grad_cam_road_zeros",
    ),
    MetricPair(
        "road_combined", "grad-cam", "ROADCombined", grad_cam("ROADCombined", percentiles=[50]), params=HALF,
        settings="half of the pixels, probability; the library's noise of 0.01", by_hand=(LERF - MORF) / 2,
        why="removes all pixels at the threshold, its noise has no seed", case="grad_cam_road_noise",
    ),
    MetricPair(
        "road_morf", "quantus", "ROAD", quantus("ROAD", percentages=[50], noise=0.0),
        params={**HALF, "output": "accuracy"}, settings="half of the pixels, no noise", by_hand=1,
        why="refuses images of several channels", case="quantus_road_colour",
    ),
    MetricPair(
        "infidelity", "captum", "infidelity", groups.captum_infidelity(SIDES, 100, True),
        settings="our squares; normalize, ours scaled",
    ),
    MetricPair(
        "infidelity", "captum", "infidelity", groups.captum_infidelity((1.0,), 1, False),
        params={"sides": (1.0,), "squares": 1, "scaled": False}, settings="the whole image; not scaled",
        by_hand=(7/4 - 7 * log(2))**2, on_trained=False,
    ),
    MetricPair(
        "sensitivity_n", "quantus", "SensitivityN", groups.quantus_sensitivity_n, params={"fractions": TWELFTHS},
        settings="logit, zeros; one to four twelfths of the image, ours 100 subsets of each size",
        why="nested subsets in the map's order, sums of the last step alone, correlation over images",
        case="quantus_sensitivity_n",
    ),
    MetricPair(
        "faithfulness_correlation", "quantus", "FaithfulnessCorrelation", groups.quantus_correlation,
        settings="logit, zeros, 100 subsets of 0.45 % of the image; the library's map has no negative values",
        why="draws by place in the batch, of values, not pixels", predicted=groups.predicted_correlation,
        case="quantus_correlation_place",
    ),
    MetricPair("box_iou", "scipy", "ndimage.label", maps.labelled_box_iou, settings="torchvision's IoU", by_hand=1/2),
    MetricPair(
        "box_acc_own_threshold", "scipy", "ndimage.label", maps.labelled_box_acc((0.5,), False),
        metric="max_box_acc", params=HEATMAP, settings="protocol heatmap, at 100 thresholds, torchvision's IoU",
        by_hand=1,
    ),
    MetricPair(
        "box_acc_v2_own_threshold", "scipy", "ndimage.label", maps.labelled_box_acc((0.3, 0.5, 0.7), True),
        metric="max_box_acc_v2", params=HEATMAP, settings="protocol heatmap, at 100 thresholds, torchvision's IoU",
        by_hand=2/3,
    ),
    MetricPair("mask_iou", "scikit-learn", "jaccard_score", maps.jaccard, settings="above 0.15", by_hand=2/3),
    MetricPair(
        "pixel_ap_own_image", "scikit-learn", "average_precision_score", maps.average_precision_of_levels,
        metric="pxap", params=HEATMAP, settings="protocol heatmap, of maps cut to 101 levels", by_hand=5/6,
    ),
    MetricPair(
        "pointing_game_strict", "quantus", "PointingGame", quantus("PointingGame", region="boxes"), by_hand=1,
        settings="box as mask",
    ),
    MetricPair(
        "energy_pointing_game", "quantus", "AttributionLocalisation", quantus("AttributionLocalisation", "boxes"),
        settings="box as mask", by_hand=5/7,
    ),
    MetricPair(
        "mass_accuracy", "quantus", "RelevanceMassAccuracy", quantus("RelevanceMassAccuracy", "masks"), by_hand=5/7,
    ),
    MetricPair(
        "rank_accuracy", "quantus", "RelevanceRankAccuracy", quantus("RelevanceRankAccuracy", "masks"),
        metric="mass_accuracy", by_hand=1/2,
    ),
    MetricPair(
        "top_k_intersection", "quantus", "TopKIntersection", quantus("TopKIntersection", "masks", k=3),
        params={"k": 3}, settings="k 3", by_hand=2/3,
    ),
    MetricPair(
        "max_sensitivity", "captum", "sensitivity_max", reexplanation.captum_sensitivity,
        metric="explanation_sensitivity", settings="raw map, our draws",
    ),
    MetricPair(
        "max_sensitivity", "quantus", "MaxSensitivity", reexplanation.quantus_sensitivity("MaxSensitivity"),
        metric="explanation_sensitivity", settings="raw map, our draws",
    ),
    MetricPair(
        "avg_sensitivity", "quantus", "AvgSensitivity", reexplanation.quantus_sensitivity("AvgSensitivity"),
        metric="explanation_sensitivity", settings="raw map, our draws",
    ),
    MetricPair(
        "model_parameter_randomisation", "quantus", "MPRT", reexplanation.quantus_mprt,
        settings="signed raw map, mean over its layers",
        why="its own draws, and one more stage for the unchanged network, at 1",
        predicted=reexplanation.predicted_mprt, case="quantus_mprt_original",
    ),
    MetricPair(
        "model_parameter_randomisation_efficient", "quantus", "EfficientMPRT", reexplanation.quantus_efficient_mprt,
        by_hand=0,
        settings="signed raw map, resized", why="its own draws", predicted=reexplanation.predicted_efficient_mprt,
    ),
    MetricPair(
        "model_parameter_randomisation_smooth", "quantus", "SmoothMPRT", reexplanation.quantus_smooth_mprt,
        params={"samples": reexplanation.SMOOTHED},
        settings=f"signed Grad-CAM of captum, resized; {reexplanation.SMOOTHED} samples",
        why="its own draws, of noise anew for each model", predicted=reexplanation.predicted_smooth_mprt,
        case="quantus_smooth_mprt_explain_func",
    ),
    MetricPair(
        "random_logit", "quantus", "RandomLogit", reexplanation.quantus_random_logit,
        why="SSIM of the flattened map, classes drawn by place in the batch",
        predicted=reexplanation.predicted_random_logit, case="quantus_random_logit_place",
    ),
    MetricPair("gini", "quantus", "Sparseness", quantus("Sparseness"), by_hand=13/28),
    MetricPair("entropy", "quantus", "Complexity", quantus("Complexity"), by_hand=ENTROPY),
    MetricPair("entropy", "scipy", "stats.entropy", maps.shannon, by_hand=ENTROPY),
    MetricPair(
        "effective_complexity", "quantus", "EffectiveComplexity", quantus("EffectiveComplexity"),
        params={"steps": 4}, settings="ours in 4 steps", by_hand=1/4,
        why="counts pixels above 1e-5, as it documents, and runs no model", predicted=maps.pixels_above,
        case="quantus_effective_complexity_model",
    ),
)  # fmt: skip
