"""grad-cam, EigenCAM: the sign is whatever the SVD returns; channels stored in another order can invert the heatmap.

Class: other reading
Ours: The sign is the one with sum_k v_k > 0, which doesn't depend on the order of channels; the paper gives none.
Theirs: grad-cam pytorch_grad_cam/utils/svd_on_activations.py: decomposing A = U Σ Vᵀ is equivalent to (-U) Σ (-Vᵀ), so
    the sign of the resulting projection is arbitrary.
Photographs: eigen_sign
"""

import torch
from pytorch_grad_cam import EigenCAM
from torch import nn


class Sums(nn.Module):
    def forward(self, maps):
        return maps.sum((2, 3))


model = nn.Sequential(nn.Identity(), nn.Conv2d(6, 6, 1), Sums()).eval()
inverted = 0
for seed in range(50):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 6, 4, 4, generator=generator)
    order = torch.randperm(6, generator=generator)
    heatmap, reordered = (EigenCAM(model, [model[0]])(batch, None)[0] for batch in (images, images[:, order]))
    inverted += int(abs(heatmap - reordered).max() > 0.5)
print("inverted by another order of the same channels:", inverted, "of 50 images")
reproduced = inverted > 0
