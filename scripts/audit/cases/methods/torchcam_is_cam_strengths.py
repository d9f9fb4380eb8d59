r"""torchcam, ISCAM: factors i/N are accumulated, so images brighter than the input itself are scored, up to (N + 1)/2
times.

Class: documented choice
Ours: The mean over i = 1..N of f(i/N X H_k), our reading of the paper's integral. torchcam's docstring sums j / N over
    j = 0..i - 1, its code over j = 1..i.
Theirs: torchcam torchcam/methods/activation.py: M_i = \sum\limits_{j=0}^{i-1} \frac{j}{N}
Photographs: is_cam@torchcam
"""

import torch
from torch import nn
from torchcam.methods import ISCAM

brightest: list[float] = []


class Watching(nn.Module):
    def forward(self, images):
        brightest.append(images.max().item())
        return images


model = nn.Sequential(Watching(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
with ISCAM(model, model[2]) as cam, torch.no_grad():
    model(torch.ones(1, 3, 2, 2) * torch.tensor([[0.5, 1.0], [0.25, 0.75]]))
    cam([0])
print("the input's maximum:", brightest[0], "  the brightest image scored:", round(max(brightest), 3))
reproduced = max(brightest) > 1.5 * brightest[0]
