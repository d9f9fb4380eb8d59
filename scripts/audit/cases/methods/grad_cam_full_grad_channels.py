"""grad-cam, FullGrad: every channel is scaled to [0, 1] on its own, so a channel without influence weighs as much as
the strongest.

Class: other reading
Ours: psi scales a layer's bias gradients as a whole, as in the authors' code (`_postProcess`); the paper's formula sums
    psi over channels, which can be read as grad-cam does.
Theirs: grad-cam METADATA: Computes the gradients of the biases from all over the network, and then sums them
Photographs: full_grad@pytorch_grad_cam
"""

import numpy as np
import torch
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2)).eval()
images, maps = torch.rand(1, 3, 2, 2), []
for bias in ([1.0, 1.0], [1.0, 0.001]):  # the score is linear in them, so no gradient depends on them
    model[0].bias = nn.Parameter(torch.tensor(bias))
    maps.append(FullGrad(model, [])(images, [ClassifierOutputTarget(0)])[0])
    print(f"biases {bias}: {maps[-1].ravel()}")
reproduced = np.allclose(maps[0], maps[1], atol=0.01)
