"""Which metric of another library is which of ours, as data: what scripts/audit_metrics.py compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from metric_peers import (
    Sample,
    Values,
    at_their_threshold,
    average_precision_of_levels,
    blended,
    coherency,
    complexity,
    deleted_in_unstable_order,
    every_region,
    flipped,
    grad_cam,
    inserted_minus_deleted,
    jaccard,
    labelled_box_acc,
    labelled_box_iou,
    quantus,
    road,
    shannon,
    torchcam,
)
from metric_peers_again import (
    captum_sensitivity,
    predicted_mprt,
    predicted_random_logit,
    quantus_mprt,
    quantus_random_logit,
    quantus_sensitivity,
)
from metric_peers_subsets import captum_infidelity, predicted_correlation, quantus_correlation, quarters_removed

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.evaluate import measure


@dataclass(frozen=True)
class Pair:
    """A value of one of our metrics, and the call that gives another library's.

    settings: what isn't the default of both, in words; params: ours. by_hand: the tiny sample's value as an
    expression, worked out on paper. why: what they do otherwise; predicted: their values from ours, if that is all.
    case: the file that shows it. on_trained: not only on the tiny sample, where a call takes long.
    """

    value: str
    library: str
    name: str
    theirs: Callable[[Sample], Any]
    metric: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: str = ""
    by_hand: str = ""
    why: str = ""
    predicted: Callable[[Sample, Values], Values] | None = None
    case: str = ""
    on_trained: bool = True

    def ours(self, sample: Sample) -> Values:
        """Our values, NaN where a need of the metric isn't met."""
        name = self.metric or self.value
        metric = plugins.load("metric", name)
        bound = plugins.from_config(
            "metric",
            name,
            {**metric.spec.as_dict(), "_target_": metric.target, "params": {**metric.params, **self.params}},
        )
        return measure(bound, sample.explanation, False)[self.value][0].numpy()

    @property
    def exists(self) -> bool:
        """This project has the metric."""
        return (self.metric or self.value) in plugins.names("metric")


def everywhere_above(sample: Sample, _: Values) -> Values:
    """How many pixels are above 1e-5."""
    return (sample.maps > 1e-5).sum((1, 2))


def times_probability(sample: Sample, ours: Values) -> Values:
    """A fraction of p as a difference."""
    return ours * sample.probability


def half_where_undefined(sample: Sample, ours: Values) -> Values:
    """A correlation of 0, (1 + 0) / 2."""
    return np.where(np.isnan(ours), 0.5, ours)


HALF, CURVE = {"fractions": (0.5,), "noise": 0.0, "output": "probability"}, {"steps": 4, "fill": "zero"}
DIFFERENCE = {"steps": 4, "insertion_fill": "zero", "deletion_fill": "zero"}
# The tiny image's red pixels are (1, 2, 4, 0) ln 2, its map is (1, 1/2, 1/4, 0), in rows of two; its class's
# probability is 2^s / (1 + 2^s), s the sum of the red pixels over ln 2; the mask is the left column, and so is the box.
ENTROPY = "log(7) - 10/7 * log(2)"
DROP = "1 - 8/9 * 129/128"  # the map keeps 1 + 1 + 1 + 0
DELETION = "(128/129 / 2 + 64/65 + 16/17 + 1/2 + 1/2 / 2) / 4"  # 7, 6, 4, 0, 0 are left
INSERTION = "(1/2 / 2 + 2/3 + 8/9 + 128/129 + 128/129 / 2) / 4"  # 0, 1, 3, 7, 7
MORF, LERF = "256/257", "64/65"  # imputed: 16/7 and 12/7 above; 10/7 and 11/7 below
BLENDED = "128/129 - 1 / (1 + 2**(-113/16))"  # 7/4, 15/8, 55/16 and 0 are left

PAIRS = (
    Pair(
        "average_drop", "torchcam", "ClassificationMetric",
        torchcam("ClassificationMetric", "avg_drop"), by_hand=DROP,
    ),
    Pair(
        "average_drop", "grad-cam", "DropInConfidence", grad_cam("DropInConfidence"), by_hand=DROP,
        why="not divided by p", predicted=times_probability, case="grad_cam_drop_absolute",
    ),
    Pair(
        "increase_in_confidence", "torchcam", "ClassificationMetric",
        torchcam("ClassificationMetric", "conf_increase"), by_hand="0",
    ),
    Pair("increase_in_confidence", "grad-cam", "IncreaseInConfidence", grad_cam("IncreaseInConfidence"), by_hand="0"),
    Pair(
        "confidence_drop", "grad-cam", "PerturbationConfidenceMetric", blended,
        settings="given image (1 - h) + mean h; sign turned", by_hand=BLENDED,
    ),
    Pair(
        "coherency", "grad-cam", "Coherency", coherency, metric="adcc", settings="of its GradCAM",
        why="0.5 where a map is constant, where ours has no value", predicted=half_where_undefined,
        case="grad_cam_coherency_constant",
    ),
    Pair("complexity", "grad-cam", "Complexity", complexity, metric="adcc", by_hand="7/16"),
    Pair(
        "deletion_auc", "torchcam", "DeletionInsertionMetric",
        torchcam("DeletionInsertionMetric", "deletion_auc", steps=4), params=CURVE, settings="4 steps, zeros",
        by_hand=DELETION,
    ),
    Pair(
        "deletion_auc", "quantus", "PixelFlipping", flipped(4), params=CURVE,
        settings="4 steps, zeros; area by us, with the image in front", by_hand=DELETION,
        why="pixels of equal value in the order of an unstable sort", predicted=deleted_in_unstable_order(4),
        case="quantus_ties",
    ),
    Pair(
        "deletion_auc", "quantus", "RegionPerturbation", every_region, params=CURVE,
        settings="1 x 1 regions, zeros; area by us, with the image in front", by_hand=DELETION, on_trained=False,
    ),
    Pair(
        "insertion_auc", "torchcam", "DeletionInsertionMetric",
        torchcam("DeletionInsertionMetric", "insertion_auc", steps=4), params=CURVE, settings="4 steps, on zeros",
        by_hand=INSERTION,
    ),
    Pair(
        "insertion_minus_deletion", "torchcam", "DeletionInsertionMetric", inserted_minus_deleted, params=DIFFERENCE,
        settings="4 steps, zeros; subtracted by us", by_hand=f"{INSERTION} - {DELETION}",
    ),
    Pair(
        "road_morf", "grad-cam", "RemoveMostRelevantFirst", road("RemoveMostRelevantFirst", 0.5), params=HALF,
        settings="half of the pixels, probability, no noise", by_hand=MORF,
        why="all pixels at the threshold go, however many", predicted=at_their_threshold("highest", 0.5),
        case="grad_cam_road_zeros",
    ),
    Pair(
        "road_lerf", "grad-cam", "RemoveLeastRelevantFirst", road("RemoveLeastRelevantFirst", 0.5), params=HALF,
        settings="half of the pixels, probability, no noise", by_hand=LERF,
        why="all pixels at the threshold go, however many", predicted=at_their_threshold("lowest", 0.5),
        case="grad_cam_road_zeros",
    ),
    Pair(
        "road_combined", "grad-cam", "ROADCombined", grad_cam("ROADCombined", percentiles=[50]), params=HALF,
        settings="half of the pixels, probability; its noise of 0.01", by_hand=f"({LERF} - {MORF}) / 2",
        why="all pixels at the threshold go, noise has no seed", case="grad_cam_road_noise",
    ),
    Pair(
        "road_morf", "quantus", "ROAD", quantus("ROAD", percentages=[50], noise=0.0),
        params={**HALF, "output": "accuracy"}, settings="half of the pixels, no noise", by_hand="1",
        why="refuses images of several channels", case="quantus_road_colour",
    ),
    Pair(
        "infidelity", "captum", "infidelity", captum_infidelity((0.25, 0.5), 8, True),
        params={"sides": (0.25, 0.5), "squares": 8}, settings="our squares; normalize, ours scaled",
    ),
    Pair(
        "infidelity", "captum", "infidelity", captum_infidelity((1.0,), 1, False),
        params={"sides": (1.0,), "squares": 1, "scaled": False}, settings="the whole image; not scaled",
        by_hand="(7/4 - 7 * log(2))**2", on_trained=False,
    ),
    Pair(
        "sensitivity_n", "quantus", "SensitivityN", quarters_removed, params={"subsets": 10},
        settings="logit, zeros; 4 steps, ours 10 subsets of each size",
        why="nested subsets in the map's order, sums of the last step alone, correlation over images",
        case="quantus_sensitivity_n",
    ),
    Pair(
        "faithfulness_correlation", "quantus", "FaithfulnessCorrelation", quantus_correlation,
        params={"subsets": 20}, settings="logit, zeros, 20 subsets; its own of 224 values, its map without negatives",
        why="draws by place in the batch, of values, not pixels", predicted=predicted_correlation,
        case="quantus_correlation_place",
    ),
    Pair("box_iou", "scipy", "ndimage.label", labelled_box_iou, settings="torchvision's IoU", by_hand="1/2"),
    Pair(
        "max_box_acc", "scipy", "ndimage.label", labelled_box_acc((0.5,), False),
        settings="at 100 thresholds, torchvision's IoU", by_hand="1",
    ),
    Pair(
        "max_box_acc_v2", "scipy", "ndimage.label", labelled_box_acc((0.3, 0.5, 0.7), True),
        settings="at 100 thresholds, torchvision's IoU", by_hand="2/3",
    ),
    Pair("mask_iou", "scikit-learn", "jaccard_score", jaccard, settings="above 0.15", by_hand="2/3"),
    Pair(
        "pxap", "scikit-learn", "average_precision_score", average_precision_of_levels,
        settings="of maps cut to 101 levels", by_hand="5/6",
    ),
    Pair(
        "pointing_game", "quantus", "PointingGame", quantus("PointingGame", region="boxes"), by_hand="1",
        settings="box as mask",
    ),
    Pair(
        "energy_pointing_game", "quantus", "AttributionLocalisation", quantus("AttributionLocalisation", "boxes"),
        settings="box as mask", by_hand="5/7",
    ),
    Pair("mass_accuracy", "quantus", "RelevanceMassAccuracy", quantus("RelevanceMassAccuracy", "masks"), by_hand="5/7"),
    Pair(
        "rank_accuracy", "quantus", "RelevanceRankAccuracy", quantus("RelevanceRankAccuracy", "masks"),
        metric="mass_accuracy", by_hand="1/2",
    ),
    Pair(
        "top_k_intersection", "quantus", "TopKIntersection", quantus("TopKIntersection", "masks", k=3),
        params={"k": 3}, settings="k 3", by_hand="2/3",
    ),
    Pair("max_sensitivity", "captum", "sensitivity_max", captum_sensitivity, metric="explanation_sensitivity",
         settings="raw map, our draws"),
    Pair("max_sensitivity", "quantus", "MaxSensitivity", quantus_sensitivity("MaxSensitivity"),
         metric="explanation_sensitivity", settings="raw map, our draws"),
    Pair("avg_sensitivity", "quantus", "AvgSensitivity", quantus_sensitivity("AvgSensitivity"),
         metric="explanation_sensitivity", settings="raw map, our draws"),
    Pair(
        "model_parameter_randomisation", "quantus", "MPRT", quantus_mprt,
        settings="signed raw map, mean over its layers",
        why="its own draws, a stage for each layer, and one more for the unchanged network, at 1",
        predicted=predicted_mprt, case="quantus_mprt_original",
    ),
    Pair(
        "random_logit", "quantus", "RandomLogit", quantus_random_logit,
        why="SSIM of the flattened map, classes drawn by place in the batch",
        predicted=predicted_random_logit, case="quantus_random_logit_place",
    ),
    Pair("gini", "quantus", "Sparseness", quantus("Sparseness"), by_hand="13/28"),
    Pair("entropy", "quantus", "Complexity", quantus("Complexity"), by_hand=ENTROPY),
    Pair("entropy", "scipy", "stats.entropy", shannon, by_hand=ENTROPY),
    Pair(
        "effective_complexity", "quantus", "EffectiveComplexity", quantus("EffectiveComplexity"),
        params={"steps": 4}, settings="ours in 4 steps", by_hand="1/4",
        why="counts pixels above 1e-5, asks no model", predicted=everywhere_above,
        case="quantus_effective_complexity_model",
    ),
)  # fmt: skip
