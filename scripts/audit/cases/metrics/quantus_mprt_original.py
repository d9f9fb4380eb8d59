"""quantus, MPRT: the unchanged network counts as a stage of its own, with a correlation of 1, in what is documented as
an average across the layers: over one layer, of a map that is turned round by its randomisation, it is 0, not -1.
"""

import numpy as np
import quantus
from torch import nn

linear = nn.Linear(12, 2)
model = nn.Sequential(nn.Flatten(), linear).eval()
weight = linear.weight.detach().clone()
ramp = np.arange(4.0).reshape(1, 1, 2, 2)


def explain(model, inputs, targets, **_):
    return ramp if (model[1].weight == weight).all() else 3 - ramp


values = quantus.MPRT(return_average_correlation=True, disable_warnings=True)(
    model=model,
    x_batch=np.random.rand(1, 3, 2, 2).astype("float32"),
    y_batch=np.zeros(1, int),
    a_batch=ramp,
    explain_func=explain,
    channel_first=True,
    device="cpu",
)
print("average over the one layer:", np.round(values, 6))
reproduced = np.allclose(values, 0)
