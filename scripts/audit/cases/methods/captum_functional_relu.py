"""captum, GuidedGradCam and GuidedBackprop: a ReLU that is a function, not a module, isn't guided. The documentation
says so; a run gives no warning of it.

Class: documented choice
Ours: Guided backpropagation acts on every ReLU, module or function.
Theirs: captum captum/attr/_core/guided_backprop_deconvnet.py: If nn.functional.ReLU is used, gradients are not
    overridden appropriately.
"""

import warnings

import torch
from captum.attr import GuidedBackprop, Saliency
from torch import nn


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 3, 1), nn.Linear(12, 4), nn.Linear(4, 2)

    def forward(self, images):
        return self.last(torch.relu(self.second(torch.relu(self.first(images)).flatten(1))))


torch.manual_seed(0)
model = Functional().eval()
images = torch.rand(1, 3, 2, 2).requires_grad_()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    guided = GuidedBackprop(model).attribute(images, target=0)
plain = Saliency(model).attribute(images, target=0, abs=False)
about_functions = [str(warning.message) for warning in caught if "functional" in str(warning.message)]
documented = "If nn.functional.ReLU is used, gradients are not overridden" in GuidedBackprop.__doc__
print("guided - plain gradient, at most:", (guided - plain).abs().max().item())
print("in the documentation:", documented, "  warnings of it:", about_functions)
reproduced = torch.equal(guided, plain) and documented and not about_functions
