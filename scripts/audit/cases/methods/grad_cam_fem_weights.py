"""grad-cam, FEM: a channel's activations are weighted by the share of its strong positions, in place of the mask of
these positions by the channel's mean.

Class: other reading
Ours: sum_k mean(F_k) [F_k > mean + 2 deviations]: binary maps, weighted by their channel's mean.
Theirs: grad-cam METADATA: A gradient free method that binarizes activations by an activation > mean + k * std rule.
Photographs: fem@pytorch_grad_cam
"""

import torch
from pytorch_grad_cam import FEM
from torch import nn


class Sums(nn.Module):
    def forward(self, maps):
        return maps.sum((2, 3))


class Recording(FEM):
    def get_cam_image(self, *arguments):
        self.raw = super().get_cam_image(*arguments)
        return self.raw


model = nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1), Sums()).eval()
row = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 9]).view(1, 1, 2, 4)  # mean 2, deviation 2.6: the 9 alone is strong
cam = Recording(model, [model[0]])
cam(row, None)
print("grad-cam                    ", cam.raw.ravel().tolist())
print("share of strong positions, F", (row / 8).flatten().tolist())
print("mean of F where strong      ", (2 * (row == 9)).flatten().tolist())
reproduced = cam.raw.ravel().tolist() == (row / 8).flatten().tolist()
