"""grad-cam, KPCA_CAM: the sign is scikit-learn's, by which the entry of largest absolute value is positive; a weak
outlier among strong positions decides it.

Class: other reading
Ours: The sign by which the map correlates positively with sum_k F_k; the paper gives none.
Theirs: scikit-learn sklearn/utils/extmath.py: Sign correction to ensure deterministic output from SVD.
Photographs: kpca_cam@pytorch_grad_cam
"""

import torch
from pytorch_grad_cam import KPCA_CAM
from torch import nn


class Sums(nn.Module):
    def forward(self, maps):
        return maps.sum((2, 3))


class Recording(KPCA_CAM):
    def get_cam_image(self, *arguments):
        self.raw = super().get_cam_image(*arguments)
        return self.raw


model = nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1), Sums()).eval()
row = torch.tensor([3.0, 3, 3, 3, 3, 3, 3, 0]).view(1, 1, 2, 4)
cam = Recording(model, [model[0]], kernel="linear")
cam(row, None)
print("the layer:", row.flatten().tolist())
print("grad-cam: ", cam.raw.ravel().round(3).tolist())
reproduced = cam.raw.ravel()[-1] > 0 and (cam.raw.ravel()[:-1] < 0).all()
