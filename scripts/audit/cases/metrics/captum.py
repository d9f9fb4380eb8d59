"""Cases of captum's metrics."""

import torch
from captum.metrics import infidelity, sensitivity_max
from torch import nn


def captum_infidelity_sign():
    """captum, infidelity with normalize: the factor that it documents may be negative, as may ours: a map upside down
    is as faithful as the right one.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2, 3, 4]]))
    images, removed = torch.ones(1, 1, 2, 2), torch.eye(4).view(4, 1, 2, 2)
    right, values = model[1].weight.detach().view(1, 1, 2, 2), []
    for maps in (right, -right):
        perturbed = (removed, images * (1 - removed))
        settings = {"n_perturb_samples": 4, "target": 0, "normalize": True}
        values.append(infidelity(model, lambda images, perturbed=perturbed: perturbed, images, maps, **settings).item())
    print("the right map, and the same upside down:", values)
    return values[0] == values[1]


def captum_sensitivity_zero_map():
    """captum, sensitivity_max: a map of zeros gets norm 1: one that stays zero has the best value, 0, where 0 / 0 is
    undefined, and one that changes is measured in other units.
    """

    def zero_first(images):
        return (torch.zeros_like(images[0]),) if isinstance(images, tuple) else images

    def zeros(images):
        return (torch.zeros_like(images[0]),) if isinstance(images, tuple) else torch.zeros_like(images)

    images = torch.ones(1, 3, 2, 2)
    still = sensitivity_max(zeros, images).item()
    moved = sensitivity_max(zero_first, images, perturb_func=lambda images: images).item()
    print(f"zeros that stay: {still:g}; zeros that become ones: {moved:.4f}, the norm of twelve ones")
    return still == 0 and abs(moved - 12**0.5) < 1e-5
