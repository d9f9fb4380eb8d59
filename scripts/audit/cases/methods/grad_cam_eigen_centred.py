"""grad-cam, EigenCAM: activations are centred first; the paper projects them as they are, which gives another map.

Class: documented choice
Ours: F V_1, V_1 the first right singular vector of F itself (Eigen-CAM: L = O V_1, O = U S V^T). Eigen-Grad-CAM and
    Seg-Eigen-CAM are held against the same projection, of g F and |g| F; the one has no paper, and of the other's only
    the equations that the library quotes were at hand.
Theirs: grad-cam pytorch_grad_cam/utils/svd_on_activations.py: Centering before the SVD seems to be important here,
    Otherwise the image returned is negative
Photographs: eigen_cam@pytorch_grad_cam, eigen_grad_cam@pytorch_grad_cam, seg_eigen_cam@pytorch_grad_cam
"""

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM
from torch import nn


class Sums(nn.Module):
    def forward(self, maps):
        return maps.sum((2, 3))


def projected(matrix):
    return matrix @ np.linalg.svd(matrix, full_matrices=False)[2][0]


class Recording(EigenCAM):
    def get_cam_image(self, *arguments):
        self.raw = super().get_cam_image(*arguments)
        return self.raw


images = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
model = nn.Sequential(nn.Identity(), nn.Conv2d(3, 3, 1), Sums()).eval()
cam = Recording(model, [model[0]])
cam(images, None)
matrix = images[0].flatten(1).T.numpy()
centred, as_they_are = projected(matrix - matrix.mean(0)), projected(matrix)
print("grad-cam   ", abs(cam.raw.ravel()))
print("centred    ", abs(centred))
print("as they are", abs(as_they_are))
reproduced = np.allclose(abs(cam.raw.ravel()), abs(centred), atol=1e-5) and not np.allclose(
    abs(centred), abs(as_they_are), atol=0.01
)
