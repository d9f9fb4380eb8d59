"""quantus: the default baseline "black" is the image's smallest value, so removing every pixel of a white image changes
nothing.
"""

import numpy as np
import quantus
import torch
from torch import nn

linear = nn.Linear(4, 1, bias=False)
model = nn.Sequential(nn.Flatten(), linear).eval()
nn.init.ones_(linear.weight)
curves = quantus.PixelFlipping(disable_warnings=True)(
    model=model,
    x_batch=np.ones((1, 1, 2, 2), dtype="float32"),
    y_batch=np.zeros(1, int),
    a_batch=np.array([[[[4.0, 3], [2, 1]]]]),
    softmax=False,
    device="cpu",
)
print("score of the image:", model(torch.ones(1, 1, 2, 2)).item(), "after 1 to 4 pixels:", curves[0])
reproduced = np.allclose(curves[0], 4)
