"""captum, GuidedGradCam: Grad-CAM's map is enlarged without interpolation; `interpolate_mode="bilinear"` gives the
paper's.

Class: documented choice
Ours: Guided gradient times Grad-CAM's map, enlarged bilinearly, as in the paper.
Theirs: captum captum/attr/_core/guided_grad_cam.py: Note that the original GradCAM paper uses "bilinear" interpolation,
    but we default to "nearest" for applicability to any of 3D, 4D or 5D tensors.
Photographs: guided_grad_cam@captum
"""

import torch
from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam
from torch import nn
from torch.nn.functional import interpolate

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)).double().eval()
images = torch.rand(1, 3, 4, 4, dtype=torch.float64)
grad_cam = LayerGradCam(model, model[2]).attribute(images, target=0, relu_attributions=True)
paper = GuidedBackprop(model).attribute(images, target=0) * interpolate(grad_cam, (4, 4), mode="bilinear")
difference = {}
for options in ({}, {"interpolate_mode": "bilinear"}):
    guided = GuidedGradCam(model, model[2]).attribute(images, target=0, **options)
    difference[len(options)] = ((guided - paper).abs().max() / paper.abs().max()).item()
    print(
        options or "default", f"difference to the paper's product, of its largest value: {difference[len(options)]:.1e}"
    )
reproduced = difference[0] > 0.01 and difference[1] < 1e-12
