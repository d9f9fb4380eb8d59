"""captum, infidelity with normalize: the factor that it documents may be negative, as may ours: a map upside down is as
faithful as the right one.
"""

import torch
from captum.metrics import infidelity
from torch import nn

linear = nn.Linear(4, 1, bias=False)
model = nn.Sequential(nn.Flatten(), linear).eval()
with torch.no_grad():
    linear.weight.copy_(torch.tensor([[1.0, 2, 3, 4]]))
images, values = torch.ones(1, 1, 2, 2), []
for sign in (1, -1):
    removed = torch.eye(4).view(4, 1, 2, 2)
    maps = sign * linear.weight.detach().view(1, 1, 2, 2)
    values.append(
        infidelity(
            model,
            lambda images, removed=removed: (removed, images * (1 - removed)),
            images,
            maps,
            n_perturb_samples=4,
            target=0,
            normalize=True,
        ).item()
    )
print("the right map, and the same upside down:", values)
reproduced = values[0] == values[1]
