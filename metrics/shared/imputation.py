"""Linear imputation of missing pixels for ROAD: Rong et al., A Consistent and Efficient Evaluation Strategy for
Attribution Methods, ICML 2022, arXiv:2202.00449, section 4. The noise is added by the metric.

Every missing pixel is the weighted mean of its neighbours in the image, 1/6 along the axes and 1/12 along the
diagonals: one sparse linear system per image, solved by conjugate gradients. Their preconditioner is a multigrid
V-cycle that aggregates blocks of 2 x 2 pixels (coarse equations are sums of fine ones).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.metrics.shared import imputation_batched
from axiom_bench.metrics.shared.imputation_constants import TOLERANCE
from axiom_bench.metrics.shared.row_threads import in_threads


def impute(images: Tensor, hole: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Fill holes with the weighted mean of the neighbours: (R, 3, H', W'), bool (R, H', W') -> (R, 3, H', W').

    hole: True for pixels to fill; an image without any other pixel becomes NaN. tolerance: the energy norm of the
    error, relative to the range of a channel's observed pixels (at least their largest magnitude), at which iterations
    stop; the default is within 1e-3 of a direct solve for pixels of unit variance. An image's result depends on no
    other image. On a CPU each image is solved alone, in float64, and torch's threads share the images; on a GPU all are
    solved at once.
    """
    if images.device.type != "cpu":
        return imputation_batched.imputed(images, hole, tolerance)
    # Here, because numba takes a third of a second to import.
    from axiom_bench.metrics.shared import imputation_compiled

    solve = partial(imputation_compiled.imputed, tolerance=tolerance)
    filled = in_threads(solve, images.double().contiguous().cpu().numpy(), hole.contiguous().cpu().numpy())
    return torch.stack([torch.from_numpy(image) for image in filled]).to(images)
