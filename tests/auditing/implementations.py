"""A clean Grad-CAM, and the case on which the tests of effects and dependences call it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from axiom_bench.auditing.case import Case


def seeded_case() -> Case:
    """Return a small network with batch norm and a ReLU head, and three images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64, 6),
            nn.ReLU(),
            nn.Linear(6, 5),
        )
        images = torch.randn(3, 3, 12, 12)
    return Case("a ReLU head", model.double().eval(), "2", images.double(), torch.tensor([0, 1, 2]))


def activations_and_logits(
    model: nn.Module, layer: nn.Module, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the layer's output and the logits, by a hook that is removed."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    logits = model(images)
    handle.remove()
    return outputs[0], logits


def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return Grad-CAM's raw maps, without any effect on the model or the caller.

    The modes are restored, and gradients are enabled inside.
    """
    modes = [module.training for module in model.modules()]
    model.eval()
    with torch.inference_mode(False), torch.enable_grad():
        F, logits = activations_and_logits(model, layer, images.clone())
        score = logits[torch.arange(len(images)), targets].sum()
        (gradients,) = torch.autograd.grad(score, F)
        maps = (gradients.mean((2, 3), keepdim=True) * F).sum(1)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return maps.detach()
