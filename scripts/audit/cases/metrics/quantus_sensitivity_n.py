"""quantus, SensitivityN: the docstring has subsets drawn uniformly; the score's loss is of all of the map's highest
pixels so far, the attributions' sum is of the last step's alone, and the correlation is over images: of a linear model
and its exact attributions it isn't 1.
"""

import numpy as np
import quantus
import torch
from torch import nn

linear = nn.Linear(4, 1, bias=False)
model = nn.Sequential(nn.Flatten(), linear).eval()
weight = np.array([1.0, 2, 3, 4], dtype="float32")
with torch.no_grad():
    linear.weight.copy_(torch.from_numpy(weight)[None])
images = np.array([[1, 1, 1, 1], [4, 1, 1, 1], [1, 1, 5, 1]], dtype="float32").reshape(3, 1, 2, 2)
maps = images * weight.reshape(1, 1, 2, 2)
values = quantus.SensitivityN(
    n_max_percentage=1.0, perturb_baseline=0.0, normalise=False, return_aggregate=False, disable_warnings=True
)(model=model, x_batch=images, y_batch=np.zeros(3, int), a_batch=maps, softmax=False, device="cpu")
print("1 to 4 pixels removed:", np.round(values, 3))
reproduced = not np.allclose(values, 1)
