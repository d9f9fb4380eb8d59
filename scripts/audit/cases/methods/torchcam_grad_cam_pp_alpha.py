r"""torchcam, GradCAMpp: the division of alpha acts on a copy and is lost: the weights are sum g^2 relu(g).

Class: defect
Ours: w_k = sum(alpha relu(g)), alpha = g^2 / (2 g^2 + g^3 sum(F_k)) (Grad-CAM++, equation 19).
Theirs: torchcam torchcam/methods/gradient.py: \sum\limits_{a,b} A_k (a,b) \cdot
Theirs: torchcam torchcam/methods/gradient.py: div_(d[mask] + eps)
Photographs: grad_cam_pp@torchcam
"""

import torch
from torch import nn
from torchcam.methods import GradCAMpp


class Recording(GradCAMpp):
    def _get_weights(self, *arguments, **options):
        self.weights = super()._get_weights(*arguments, **options)
        return self.weights


torch.manual_seed(0)
convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).double().eval()
gradient = linear.weight[0].detach().view(1, 3, 2, 2)  # the head is linear
with Recording(model, model[1]) as cam:
    cam([0], model(torch.rand(1, 3, 2, 2, dtype=torch.float64)))
print("their weights      ", cam.weights[0][0].tolist())
print("sum g^2 relu(g)    ", (gradient**2 * gradient.relu()).sum((2, 3))[0].tolist())
reproduced = torch.allclose(cam.weights[0], (gradient**2 * gradient.relu()).sum((2, 3)), rtol=1e-12)
