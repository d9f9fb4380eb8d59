"""quantus, SmoothMPRT: requires an explain_func and doesn't call it; maps are those of quantus.explain, by default of
the gradient.
"""

import numpy as np
import quantus
from torch import nn

calls: list[int] = []


def explain(model, inputs, targets, **_):
    calls.append(len(inputs))
    return np.random.rand(*inputs.shape)


values = quantus.SmoothMPRT(nr_samples=2, return_last_correlation=True, disable_warnings=True)(
    model=nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval(),
    x_batch=np.random.rand(1, 3, 4, 4).astype("float32"),
    y_batch=np.zeros(1, int),
    a_batch=None,
    explain_func=explain,
    device="cpu",
)
print(f"calls of explain_func: {len(calls)}; a value all the same: {np.isfinite(values).all()}")
reproduced = not calls
