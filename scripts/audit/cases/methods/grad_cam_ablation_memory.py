"""grad-cam, AblationCAM: the default ablation layer is shared by all instances, and keeps the last activations alive.

Class: defect
Ours: Nothing outlives the call.
"""

import gc
import inspect

import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)).eval()
cam = AblationCAM(model, [model[1]])
cam(torch.rand(1, 3, 32, 32), [ClassifierOutputTarget(0)])
del cam, model
gc.collect()
kept = inspect.signature(AblationCAM).parameters["ablation_layer"].default.activations
print("still held after both are gone:", tuple(kept.shape), kept.nbytes, "bytes")
reproduced = kept.nbytes > 0
