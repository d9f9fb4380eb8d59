"""grad-cam, AblationCAM: where the layer's minimum isn't 0, an ablated channel is the minimum minus 1e7, not 0."""

import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

inputs: list[torch.Tensor] = []


class Watching(nn.Module):
    def forward(self, maps):
        inputs.append(maps.clone())
        return maps


torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid(), Watching(), nn.Flatten(), nn.Linear(12, 2)).eval()
AblationCAM(model, [model[1]], batch_size=1)(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(0)])
ablated = [maps.min().item() for maps in inputs[2:]]  # the first two are the image's own
print("the layer's minimum:", round(inputs[0].min().item(), 3), "  of the maps with one channel ablated:", ablated)
reproduced = all(value < -9e6 for value in ablated)
