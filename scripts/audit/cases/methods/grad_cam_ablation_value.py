"""grad-cam, AblationCAM: where the layer's minimum isn't 0, an ablated channel is the minimum minus 1e7, not 0.

Class: documented choice
Ours: w_k = (S - S_k) / S, S_k the score with F_k = 0, whatever the layer's minimum (Ablation-CAM). The same behind a
    ReLU.
Theirs: grad-cam pytorch_grad_cam/ablation_layer.py: If the values can be negative, we use very negative values to
    perform the ablation, deviating from the paper.
Photographs: ablation_cam@pytorch_grad_cam
"""

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
