"""torchcam: the sum over channels skips NaN: a network whose activations are NaN gets a finite heatmap.

Class: other reading
Ours: NaN activations give a NaN map, with a status.
Theirs: torchcam torchcam/methods/core.py: cam = torch.nansum(weight * activation, dim=1)
"""

import torch
from torch import nn
from torchcam.methods import GradCAM

torch.manual_seed(1)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
images = torch.rand(1, 3, 2, 2)
images[0, 0, 0, 0] = float("nan")
with GradCAM(model, model[1]) as cam:
    scores = model(images)
    heatmap = cam([1], scores)[0][0]
print("scores", scores[0].tolist(), "  heatmap", heatmap.tolist())
reproduced = scores.isnan().any() and heatmap.isfinite().all()
