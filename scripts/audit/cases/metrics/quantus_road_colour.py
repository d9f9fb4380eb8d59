"""quantus, ROAD: a map of one channel for an image of three fails: pixels are counted in every channel."""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
try:
    quantus.ROAD(percentages=[50], disable_warnings=True)(
        model=model,
        x_batch=np.random.rand(1, 3, 4, 4).astype("float32"),
        y_batch=np.zeros(1, int),
        a_batch=np.random.rand(1, 1, 4, 4),
        device="cpu",
    )
    reproduced = False
except IndexError as error:
    print(f"IndexError: {error}")
    reproduced = True
