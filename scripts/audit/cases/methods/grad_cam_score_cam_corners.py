"""grad-cam, ScoreCAM: masks are resized with align_corners=True, the heatmap without: they lie in different places.

Class: other reading
Ours: w_k = softmax_k(f(X H_k) - f(X_0)), H_k = s(U(F_k)), s min-max scaling, U resizing (Score-CAM, Algorithm 1);
    align_corners=False, as in the authors' code; a constant channel is left out, there a mask of zeros.
Photographs: score_cam@pytorch_grad_cam
"""

import torch
from pytorch_grad_cam import ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn.functional import interpolate

inputs: list[torch.Tensor] = []


class Watching(nn.Module):
    def forward(self, images):
        inputs.append(images)
        return images


torch.manual_seed(0)
model = nn.Sequential(Watching(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 2)).eval()
ramp = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
images = ramp.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 8) + 1  # the layer's map is ramp + 1
ScoreCAM(model, [model[1]])(images, [ClassifierOutputTarget(0)])
mask = (inputs[1] / images)[0, 0]
print("mask, first row:    ", [round(value, 3) for value in mask[0].tolist()])
for align_corners in (True, False):
    resized = interpolate(ramp[None, None], (8, 8), mode="bilinear", align_corners=align_corners)[0, 0]
    print(f"align_corners={align_corners!s:5}:", [round(value, 3) for value in resized[0].tolist()])
    if align_corners:
        reproduced = torch.allclose(mask, resized, atol=1e-5)
