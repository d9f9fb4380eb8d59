r"""torchcam, SmoothGradCAMpp: alpha's denominator has sum(g^3 F), where its docstring's formula has g^3 sum(F).

Class: defect
Ours: alpha = D2 / (2 D2 + D3 sum(F_k)), D2 and D3 the means of g^2 and g^3 (Smooth Grad-CAM++, with Grad-CAM++'s
    numerator, as torchcam).
Theirs: torchcam torchcam/methods/gradient.py: \frac{2}{n} \sum\limits_{m=1}^n D^{(c, 2)}_k(i, j) + \sum\limits_{a,b}
    A_k (a,b) \cdot \frac{1}{n} \sum\limits_{m=1}^n D^{(c, 3)}_k(i, j)}
Photographs: smooth_grad_cam_pp@torchcam
"""

import torch
from torch import nn
from torchcam.methods import SmoothGradCAMpp


class Recording(SmoothGradCAMpp):
    def _get_weights(self, *arguments, **options):
        self.weights = super()._get_weights(*arguments, **options)
        return self.weights


torch.manual_seed(0)
convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).double().eval()
images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
F, g = model[:2](images).detach(), linear.weight[0].detach().view(1, 3, 2, 2)  # the head is linear
with Recording(model, model[1], std=1e-30) as cam:
    model(images)
    cam([0])
weights = {}
for name, third in (("g^3 sum(F)", g**3 * F.sum((2, 3), keepdim=True)), ("sum(g^3 F)", (g**3 * F).sum((2, 3), True))):
    weights[name] = (g**2 / (2 * g**2 + third + 1e-8) * g.relu()).sum((2, 3))
    print(name, "   ", weights[name][0].tolist())
print("their weights ", cam.weights[0][0].tolist())
reproduced = torch.allclose(cam.weights[0], weights["sum(g^3 F)"], rtol=1e-12) and not torch.allclose(
    cam.weights[0], weights["g^3 sum(F)"], rtol=0.01
)
