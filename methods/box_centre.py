"""A Gaussian at the explained object's centre, a control that uses only the object's place."""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.objects import centres, position_centres, squared_distances


def box_centre(trace: Trace, sigma: float = 0.1) -> Map:
    """exp(-(x^2 + y^2) / (2 sigma^2)), x and y from the object's centre -> (B, H', W').

    The centre is that of the explained box, or the centre of the region's mass.

    Args:
        trace: The traced batch of a network with boxes or masks.
        sigma: The standard deviation in sides of the image, above 0. x and y have this unit too.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the network has no objects, or if sigma <= 0.
    """
    if not sigma > 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the image, above 0."
        )
    x, y = centres(trace)
    squares = squared_distances(
        x, y, columns=position_centres(trace.images), rows=position_centres(trace.images.mT)
    )
    return Map(torch.exp(-squares / (2 * sigma**2)))
