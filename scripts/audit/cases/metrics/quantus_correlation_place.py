"""quantus, FaithfulnessCorrelation: subsets are drawn from one generator for the whole batch: an image and its map have
another value in the second place.
"""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
images, maps = np.random.rand(1, 3, 4, 4).astype("float32"), np.random.rand(1, 1, 4, 4)
values = quantus.FaithfulnessCorrelation(subset_size=4, nr_runs=20, return_aggregate=False, disable_warnings=True)(
    model=model,
    x_batch=images.repeat(2, axis=0),
    y_batch=np.zeros(2, int),
    a_batch=maps.repeat(2, axis=0),
    device="cpu",
)
print("twice the same:", np.round(values, 3))
reproduced = abs(values[0] - values[1]) > 0.001
