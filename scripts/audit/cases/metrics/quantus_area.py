"""quantus, PixelFlipping: the area under the curve fails with numpy 2.4, which has no trapz."""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
try:
    quantus.PixelFlipping(features_in_step=4, return_auc_per_sample=True, disable_warnings=True)(
        model=model,
        x_batch=np.random.rand(1, 3, 4, 4).astype("float32"),
        y_batch=np.zeros(1, int),
        a_batch=np.random.rand(1, 1, 4, 4),
        device="cpu",
    )
    reproduced = False
except AttributeError as error:
    print(f"AttributeError: {error}")
    reproduced = True
