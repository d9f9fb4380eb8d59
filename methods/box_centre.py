"""A Gaussian at the explained object's centre, a control: the place alone, where a detector was
asked.
"""

from __future__ import annotations

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.objects import centres, middles, squared_distances


def box_centre(trace: Trace, sigma: float = 0.1) -> Map:
    """exp(-(x^2 + y^2) / (2 sigma^2)), x and y from the object's centre in units of the sides ->
    (B, H', W').

    The centre is that of the explained box, or of the mass of the region. Raises BenchError for a
    network without objects, and for sigma <= 0.
    """
    if not sigma > 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the standard deviation in sides of the image, above 0."
        )
    columns, rows = middles(trace.images), middles(trace.images.mT)
    return Map(torch.exp(-squared_distances(*centres(trace), columns, rows) / (2 * sigma**2)))
