"""quantus, ROAD: the accuracy is that of the first batch; images in the others don't count."""

import numpy as np
import quantus
import torch
from torch import nn

linear = nn.Linear(16, 2)
model = nn.Sequential(nn.Flatten(), linear).eval()
with torch.no_grad():
    linear.weight.zero_()
    linear.bias.copy_(torch.tensor([1.0, 0.0]))  # class 0 for every image
accuracies = []
for batch_size in (1, 2):
    values = quantus.ROAD(percentages=[50], disable_warnings=True)(
        model=model,
        x_batch=np.random.rand(2, 1, 4, 4).astype("float32"),
        y_batch=np.array([0, 1]),
        a_batch=np.random.rand(2, 1, 4, 4),
        batch_size=batch_size,
        device="cpu",
    )
    print(f"one image of two is right; in batches of {batch_size}: {values}")
    accuracies.append(values[50])
reproduced = accuracies == [1, 0.5]
