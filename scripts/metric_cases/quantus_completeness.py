"""quantus, Completeness: attributions that add up to the score's loss fail: they are divided by their maximum first,
and sums of floats are compared with ==.
"""

import numpy as np
import quantus
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False)).eval()
weight = torch.tensor([[0.1, 0.7, 0.2]])
with torch.no_grad():
    model[1].weight.copy_(weight)
images = np.ones((1, 3, 1, 1), dtype="float32")
maps = (weight.double().numpy() * images.reshape(1, 3)).reshape(1, 3, 1, 1)
found = []
for normalise in (True, False):
    found += quantus.Completeness(normalise=normalise, disable_warnings=True)(
        model=model,
        x_batch=images,
        y_batch=np.zeros(1, int),
        a_batch=maps,
        channel_first=True,
        softmax=False,
        device="cpu",
    )
print(f"score {model(torch.from_numpy(images)).item()}, sum of the attributions {maps.sum()}: {found}")
seen = not any(found)
