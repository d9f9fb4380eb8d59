"""captum, sensitivity_max: a map of zeros gets norm 1: one that stays zero has the best value, 0, where 0 / 0 is
undefined, and one that changes is measured in other units.
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
reproduced = still == 0 and abs(moved - 12**0.5) < 1e-5
