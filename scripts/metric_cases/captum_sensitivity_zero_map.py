"""captum, sensitivity_max: a map of zeros has norm 1; one that stays zero is perfect, 0, where 0 / 0 says nothing, and
one that doesn't is measured in other units.
"""

import torch
from captum.metrics import sensitivity_max


def zero_first(images):
    return (torch.zeros_like(images[0]),) if isinstance(images, tuple) else images


def zeros(images):
    return (torch.zeros_like(images[0]),) if isinstance(images, tuple) else torch.zeros_like(images)


images = torch.ones(1, 3, 2, 2)
still = sensitivity_max(zeros, images).item()
moved = sensitivity_max(zero_first, images, perturb_func=lambda images: images).item()
print(f"zeros that stay: {still:g}; zeros that become ones: {moved:.4f}, the norm of twelve ones")
seen = still == 0 and abs(moved - 12**0.5) < 1e-5
