"""quantus, Completeness: attributions that add up to the score's loss fail: by default (normalise) they are divided by
their maximum first, and sums of floats are compared with ==.
"""

import numpy as np
import quantus
import torch
from torch import nn

linear = nn.Linear(3, 1, bias=False)
model = nn.Sequential(nn.Flatten(), linear).eval()
weight = torch.tensor([[0.1, 0.7, 0.2]])
with torch.no_grad():
    linear.weight.copy_(weight)
images = np.ones((1, 3, 1, 1), dtype="float32")
maps = (weight.double().numpy() * images.reshape(1, 3)).reshape(1, 3, 1, 1)
values = []
for normalise in (True, False):
    values += quantus.Completeness(normalise=normalise, disable_warnings=True)(
        model=model,
        x_batch=images,
        y_batch=np.zeros(1, int),
        a_batch=maps,
        channel_first=True,
        softmax=False,
        device="cpu",
    )
print(f"score {model(torch.from_numpy(images)).item()}, sum of the attributions {maps.sum()}: {values}")
reproduced = not any(values)
