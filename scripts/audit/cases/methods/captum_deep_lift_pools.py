"""captum, DeepLift: contributions don't add up behind max pooling where one value is the largest of two windows, nor,
where a ReLU precedes the pooling, for a reference that isn't constant; they do for windows of different largest values,
and behind a ReLU for a constant reference.

Class: defect
Ours: Contributions add up to f(x) - f(x_0) (DeepLIFT's summation to delta), whatever the windows.
Theirs: captum captum/attr/_core/deep_lift.py: Note that the logic described for deltas is guaranteed when the default
    logic for attribution computations is used, meaning that the `custom_attribution_func=None`
Photographs: deep_lift_pools
"""

import torch
from captum.attr import DeepLift
from torch import nn

linear = nn.Linear(2, 1, bias=False)
with torch.no_grad():
    linear.weight.copy_(torch.tensor([[1.0, 2.0]]))
behind = [nn.MaxPool2d((1, 2), 1), nn.Flatten(), linear]
missing = []
for first, values, reference in (
    (nn.Identity(), [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
    (nn.Identity(), [1.0, 3.0, 2.0], [0.0, 0.0, 0.0]),
    (nn.ReLU(), [1.0, 3.0, 2.0], [0.0, 0.0, 0.0]),
    (nn.ReLU(), [3.0, 1.0, 2.0], [0.0, 1.0, 0.0]),
):
    model = nn.Sequential(first, *behind).eval()
    row, start = torch.tensor(values).view(1, 1, 1, 3), torch.tensor(reference).view(1, 1, 1, 3)
    contributions = DeepLift(model).attribute(row, start, target=0)
    difference = (model(row) - model(start)).item()
    missing.append(difference - contributions.sum().item())
    print(f"{type(first).__name__:8} {values} from {reference}: {contributions.flatten().tolist()} of {difference:g}")
reproduced = [value == 0 for value in missing] == [True, False, True, False]
