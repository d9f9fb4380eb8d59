"""Cases of torchcam's metrics."""

from contextlib import nullcontext

import torch
from torch import nn
from torchcam.metrics import ClassificationMetric


class Extractor:
    def __init__(self, model):
        self.model = model

    def __call__(self, *_, **__):
        return [torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


def torchcam_average_drop_logits():
    """torchcam, ClassificationMetric: without logits_fn (its docstring's example passes a softmax) the drop is of
    logits, and has the sign of the score. A class that loses all of its score has a drop of 1 above 0, and a negative
    one below.
    """
    linear = nn.Linear(4, 1)
    model, values = nn.Sequential(nn.Flatten(), linear).eval(), []
    for bias in (0.0, -6.0):
        with torch.no_grad():
            linear.weight.copy_(torch.tensor([[2.0, 2.0, 0, 0]]))
            linear.bias.fill_(bias)
        metric = ClassificationMetric(Extractor(model))
        metric.update(torch.ones(1, 1, 2, 2), 0)
        values.append(metric.summary()["avg_drop"])
        print(f"from {4 + bias:g} to {bias:g}: drop {values[-1]:g}")
    return values[1] < 0
