"""torchcam, SmoothGradCAMpp: noise is drawn for the batch as a whole, so an image's map depends on its place in it.

Class: other reading
Ours: Noise is drawn for each image, from its pixels and a seed.
Theirs: torchcam torchcam/methods/gradient.py: std: standard deviation of the noise
"""

import torch
from torch import nn
from torchcam.methods import SmoothGradCAMpp

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
images, maps = torch.rand(2, 3, 2, 2), []
for rows in (images, images.flip(0)):
    torch.manual_seed(0)
    with SmoothGradCAMpp(model, model[1]) as cam:
        model(rows)
        maps.append(cam([0, 0])[0])
print("first image, as the first of two: ", [round(value, 3) for value in maps[0][0].flatten().tolist()])
print("first image, as the second of two:", [round(value, 3) for value in maps[1][1].flatten().tolist()])
reproduced = not torch.allclose(maps[0][0], maps[1][1], atol=0.01)
