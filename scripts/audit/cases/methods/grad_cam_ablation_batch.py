"""grad-cam, AblationCAM: where the layer's minimum isn't 0, the value of an ablated channel depends on its place in the
batch of ablations, and so the weights on batch_size.

Class: defect
Ours: w_k = (S - S_k) / S, S_k the score with F_k = 0 (Ablation-CAM): no batch in it.
Photographs: ablation_cam@pytorch_grad_cam
"""

import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn


class Recording(AblationCAM):
    def get_cam_weights(self, *arguments):
        self.weights = super().get_cam_weights(*arguments)
        return self.weights


torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 2)).eval()
images = torch.rand(1, 3, 2, 2)
weights = []
for batch_size in (1, 3):
    cam = Recording(model, [model[1]], batch_size=batch_size)
    cam(images, [ClassifierOutputTarget(0)])
    weights.append(cam.weights)
    print(f"batch_size={batch_size}: weights {cam.weights[0]}")
reproduced = not (weights[0] == weights[1]).all()
