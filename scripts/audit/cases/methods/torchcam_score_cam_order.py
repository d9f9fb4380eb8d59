r"""torchcam, ScoreCAM, SSCAM and ISCAM: masks are scaled to [0, 1] before they are resized, in their docstrings'
formula after it: a resized mask doesn't reach 0 and 1.

Class: defect
Ours: w_k = softmax_k(f(X H_k) - f(X_0)), H_k = s(U(F_k)), s min-max scaling, U resizing (Score-CAM, Algorithm 1); a
    constant channel is left out, there a mask of zeros.
Theirs: torchcam torchcam/methods/activation.py: M_k = \frac{U(A_k) - \min\limits_m U(A_m)}
Photographs: score_cam@torchcam, ss_cam@torchcam, is_cam@torchcam
"""

import torch
from torch import nn
from torchcam.methods import ScoreCAM

inputs: list[torch.Tensor] = []


class Watching(nn.Module):
    def forward(self, images):
        inputs.append(images.clone())
        return images


torch.manual_seed(0)
model = nn.Sequential(Watching(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)).eval()
images = torch.ones(1, 3, 16, 16)
images[0, :, 8, 8] = 17.0  # the layer's maps are 1, and 2 at one of 4 x 4 positions
with ScoreCAM(model, model[1]) as cam, torch.no_grad():
    model(images)
    cam([0])
mask = (inputs[2] / images)[0, 0]
print("the mask's range:", round(mask.min().item(), 3), "to", round(mask.max().item(), 3))
reproduced = mask.max() < 0.9
