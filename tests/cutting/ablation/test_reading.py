"""The parts of a head that ablation recognises.

They are one token of many, global average pooling with a linear layer, and logits of any scale.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import axiom_bench as ab
from tests.cutting.ablation.heads import brute_force, head_graph
from tests.cutting.conftest import Network


def block(take: Callable[[Tensor], Tensor], over: tuple[int, ...]) -> Network:
    """A transformer's block behind maps of 4 channels. over: the dimensions of the last norm. take:
    what is left of tokens (B, 9, 4).
    """

    def forward(net, x):
        x = net.maps(x).flatten(2).transpose(1, 2)
        normed = net.norm(x)
        x = x + net.mixing(normed, normed, normed, need_weights=False)[0]
        return net.fc(take(net.last(x + net.mlp(x))))

    mlp = [nn.LayerNorm(4), nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 4)]
    return Network(
        forward,
        norm=nn.LayerNorm(4),
        mixing=nn.MultiheadAttention(4, 2, batch_first=True),
        mlp=nn.Sequential(*mlp),
        maps=nn.Conv2d(3, 4, 1),
        last=nn.LayerNorm(over),
        fc=nn.Linear(4, 3),
    )


# name: (the features of the tokens, the dimensions of the last norm, True if they are read early)
HEADS = {
    "class_token": (lambda x: x[:, 0], (4,), True),
    "a_later_token": (lambda x: x[:, 3], (4,), True),
    # which one that is depends on their number
    "the_last_token": (lambda x: x[:, -1], (4,), False),
    "two_tokens": (lambda x: x[:, 0] + x[:, 1], (4,), False),
    "the_mean": (lambda x: x.mean(1), (4,), False),
    "a_norm_over_tokens": (lambda x: x[:, 0], (9, 4), False),
}


@pytest.mark.parametrize("name", HEADS)
def test_logits_gradients_and_drops_equal_the_full_head(name: str):
    torch.manual_seed(0)
    take, over, early = HEADS[name]
    model = block(take, over).double().eval()
    images = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    trace = ab.trace(model, "maps", images, torch.tensor([2, 0]))
    values = head_graph(trace).evaluate(trace.activations, trace.network.sides)
    shapes = [tuple(value.shape) for value in values.values() if isinstance(value, Tensor)]
    assert ((2, 1, 8) in shapes) == early

    maps = trace.activations.clone().requires_grad_()
    logits = trace.cut_model.trunk_and_head.parts.head(maps, trace.network.sides)  # of all tokens
    (gradients,) = torch.autograd.grad(logits.gather(1, trace.targets[:, None]).sum(), maps)
    # Other kernels for other shapes: float64 rounds at 1e-16 of values near 1.
    torch.testing.assert_close(trace.logits, logits.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(trace.gradients, gradients, rtol=0, atol=1e-14)
    torch.testing.assert_close(trace.ablation_drops, brute_force(trace), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("build", "layer", "fc"), [
    (models.resnet18, "layer4", "fc"),
    (models.shufflenet_v2_x0_5, "conv5", "fc"),
    (models.squeezenet1_1, "features.12", None),
    pytest.param(models.densenet121, "features.norm5", None, marks=pytest.mark.slow),
    pytest.param(models.resnet18, "layer3", None, marks=pytest.mark.slow),
])  # fmt: skip
def test_linear_heads_of_torchvision(build, layer, fc):
    torch.manual_seed(0)
    model = build(weights=None)
    trace = ab.trace(model, layer, torch.randn(2, 3, 64, 64))
    if fc is None:
        with pytest.raises(ab.BenchError, match="not global average pooling and one linear layer"):
            trace.linear_head()
    else:
        weight = model.get_submodule(fc).weight
        assert torch.equal(trace.linear_head(), weight)
        assert torch.equal(trace.scaled(output=2.0, inputs=4.0).linear_head(), 0.5 * weight)


def trace_behind_a_convolution(*head: nn.Module) -> ab.Trace:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *head)
    return ab.trace(network, "0", torch.randn(2, 3, 6, 6), output="logits")


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
FC = nn.Linear(4, 5)


@pytest.mark.parametrize("head", [(*POOL, nn.Dropout(), FC), (nn.AvgPool2d(6), nn.Flatten(), FC)])
def test_linear_head_is_recognised(head):
    assert trace_behind_a_convolution(*head).linear_head().shape == (5, 4)


@pytest.mark.parametrize(
    "head",
    [
        (nn.AvgPool2d(5), nn.Flatten(), FC),
        (nn.AdaptiveMaxPool2d(1), nn.Flatten(), FC),
        (nn.ReLU(), *POOL, FC),
        (*POOL, FC, nn.Softmax(1)),
        (*POOL, nn.Linear(4, 4), FC),
    ],
)
def test_another_head_is_not_taken_for_a_linear_one(head):
    trace = trace_behind_a_convolution(*head)
    with pytest.raises(ab.BenchError, match="choose the last layer before the pooling"):
        trace.linear_head()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_head_graph_is_read_for_logits_of_any_scale(scale):
    """Among a thousand classes some logit is nearly 0: rounding is large compared with this logit,
    not compared with the others.
    """
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2048, 1), nn.ReLU(), *POOL, nn.Linear(2048, 1000)).eval()
    with torch.no_grad():
        net[4].weight *= scale * 30
        net[4].bias *= scale * 30
        trace = ab.trace(net, "1", torch.randn(4, 3, 7, 7), torch.arange(4))
        assert head_graph(trace) is not None
        weights = net[4].weight[trace.targets].double()
        expected = trace.activations.double().mean((2, 3)) * weights
    tolerance = 1e-6 * float(expected.abs().max())
    torch.testing.assert_close(trace.ablation_drops.double(), expected, rtol=1e-5, atol=tolerance)
