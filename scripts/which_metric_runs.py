"""The runs behind docs/which-metric.md, each a command of its own that goes on where it stopped."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DEGREES = (25, 50, 75, 100)
MAPS = ("noise", "blur", "shift", "upside_down", "other_image")  # kinds that spoil maps, not channel totals
SPOILED = ",".join(["truth", *(f"{kind}_{degree}" for kind in MAPS for degree in DEGREES)])


@dataclass(frozen=True)
class Run:
    """An experiment's run and its overrides. is_truth: whether it has spoiled explainers."""

    experiment: str
    overrides: tuple[str, ...] = ()
    run: str = "default"
    is_truth: bool = True

    @property
    def folder(self) -> Path:
        """Where its command writes."""
        return Path("results") / self.experiment / self.run

    @property
    def arguments(self) -> list[str]:
        """Of axiom-bench."""
        return [f"experiment={self.experiment}", f"run={self.run}", *self.overrides]

    def make(self) -> None:
        """Compute what is missing of it. Raises CalledProcessError where it fails."""
        subprocess.run([sys.executable, "-m", "axiom_bench.cli.main", *self.arguments], check=True)


def _of_maps(methods: str, metrics: str, *others: str) -> tuple[str, ...]:
    """Overrides of metrics of maps, which need many passes: with fewer methods, and one network."""
    return (f"method=[{methods}]", f"spoiled=[{SPOILED}]", f"metric=[{metrics}]", "model=scenes_vgg", *others)


FEW = "grad_cam_pp,random,sobel,xgrad_cam"
OF_TOTALS = (
    "average_drop,average_gain,axiom_floor_distance,class_correlation,confidence_drop,conservation_error,"
    "energy_pointing_game,entropy,gini,ground_reliance,increase_in_confidence,mask_iou,mass_accuracy,object_deletion,"
    "pointing_game,random_logit,sensitivity_error,sensitivity_error_scaled,single_deletion,target_shift"
)
OF_MAPS = "adcc,box_iou,gt_known_loc,negative_share,pointing_game_strict,pxap,saco,single_deletion,top_k_intersection"
REPEATED = (
    "explanation_sensitivity_captum,faithfulness_correlation,infidelity,model_parameter_randomisation_three_stages"
)
CURVES = ("deletion_auc", "insertion_auc")
FEW_STEPS = tuple(f"metric.{name}.params.steps=28" for name in CURVES)
PLANTED = "planted_additive,planted_bias,planted_suppressing,planted_saturating,planted_and,planted_or"
OF_PHOTOGRAPHS = (
    "average_drop,axiom_floor_distance,box_iou,class_correlation,confidence_drop,conservation_error,"
    "energy_pointing_game,entropy,gini,increase_in_confidence,pointing_game,random_logit,sensitivity_error,"
    "sensitivity_error_scaled,single_deletion"
)
METHODS = (
    "ablation_cam,centered,grad_cam,grad_cam_pp,hires_cam,layer_cam,negated,other_image,random,shuffled_channels,"
    "sobel,uniform,xgrad_cam"
)
PHOTOGRAPHS = ("model=squeezenet1_1", "data.size=100", f"method=[{METHODS}]", f"metric=[{OF_PHOTOGRAPHS}]")
RUNS = (
    Run("truth", (f"metric=[{OF_TOTALS}]",)),
    Run("truth", _of_maps(FEW, OF_MAPS), "maps"),
    Run("truth", _of_maps(FEW, REPEATED), "repeated"),
    Run("truth", _of_maps("xgrad_cam", ",".join(CURVES), *FEW_STEPS, "data.size=120"), "curves"),
    Run("truth", _of_maps("xgrad_cam", "srg", "data.size=120"), "srg"),
    Run("truth_planted", (f"model={PLANTED}", "pictures.rows=0")),
    Run("truth_planted", ("metric=[single_deletion,energy_pointing_game]", "pictures.rows=0"), "deletion"),
    Run("mosaic", is_truth=False),
    Run("real", (*PHOTOGRAPHS, "data.batch_size=10"), is_truth=False),
)
