"""quantus, Infidelity: an image whose sides the patch doesn't divide fails, since pixels are changed in the
unpadded image.
"""

import numpy as np
import quantus
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(75, 2)).eval()
try:
    quantus.Infidelity(perturb_patch_sizes=[2], disable_warnings=True)(
        model=model,
        x_batch=np.random.rand(1, 3, 5, 5).astype("float32"),
        y_batch=np.zeros(1, int),
        a_batch=np.random.rand(1, 3, 5, 5),
        device="cpu",
    )
    reproduced = False
except (IndexError, ValueError) as error:
    print(f"{type(error).__name__}: {error}")
    reproduced = True
