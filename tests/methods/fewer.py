"""Methods with parameters that decide how often they run the network, not what they do: few; and checks that one
network is enough for.
"""

from __future__ import annotations

from functools import cache

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.testing import METHOD_CHECKS, method_checks

FEWER = {
    "integrated_gradients": {"steps": 3},
    "is_cam": {"steps": 2},
    "opti_cam": {"iterations": 4},
    "smooth_grad": {"samples": 2},
    "smooth_grad_cam_pp": {"samples": 2},
    "smoothed_xgrad_cam": {"samples": 2},
    "ss_cam": {"samples": 2},
}

OF_THE_HEAD = (
    method_checks.channel_equivariant,
    method_checks.dead_channel_is_silent,
    method_checks.takes_zero_activations,
    method_checks.takes_negative_scores,
    method_checks.score_scale_claim_holds,
)
OF_ANY_NETWORK = tuple(check for check in METHOD_CHECKS if check not in OF_THE_HEAD)


@cache
def with_fewer(name: str) -> Plugin:
    """The method of conf/method, with FEWER where it has such parameters."""
    return plugins.with_params("method", name, FEWER.get(name, {}))
