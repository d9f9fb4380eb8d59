"""grad-cam, ROAD: all pixels at the percentile's value are removed; a map that is 0 in most pixels, as behind a ReLU,
loses the whole image, and the imputed values depend on no pixel.
"""

import torch
from pytorch_grad_cam.metrics.perturbation_confidence import RemoveMostRelevantFirst
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

removed: list[int] = []


class Counting(NoisyLinearImputer):
    def __call__(self, image, kept):
        removed.append(int((kept == 0).sum()))
        return super().__call__(image, kept)


heatmap = torch.zeros(4, 4)
heatmap[0] = torch.tensor([1.0, 0.75, 0.5, 0.25])
imputed = RemoveMostRelevantFirst(50, Counting(noise=0))(torch.ones(3, 4, 4), heatmap)
print(f"half of 16 pixels to be removed; removed: {removed[0]}")
print(f"a white image becomes {imputed.min():.3g} to {imputed.max():.3g}")
reproduced = removed[0] == 16
