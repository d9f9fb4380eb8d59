"""LIFT-CAM: Jung and Oh, Towards Better Explanations of Class Activation Mapping, ICCV 2021, arXiv:2102.05228."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.division import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.shared.deep_lift import attributions


def lift_cam(trace: Trace) -> Tensor:
    """w_k = sum of DeepLIFT's attributions of F_k, with all maps zero as the baseline -> (B, K, 1, 1).

    An estimate of map k's Shapley value where players are maps: sum_k w_k = S(F) - S(0). As published, a weight, itself
    a part of the score, multiplies F_k once more, so contributions aren't on the score's scale.
    Costs two head passes forward and one backward. Raises BenchError where the head has an operation without a
    DeepLIFT rule (see methods/shared/deep_lift.py).
    """
    return attributions(trace).sum(XY, keepdim=True)
