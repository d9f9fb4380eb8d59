"""Networks composed as people write them: the values equal a float64 double loop over the network
itself, or the error is one sentence.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from tests.cutting.conftest import Network
from tests.cutting.made_heads import HEADS, IMPURE_HEADS
from tests.made import lengths, run, value_or_sentence

N = 3  # classes


# name: (what the network returns for its logits, the logits in that)
OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "logits": (lambda z: z, lambda r: r),
    "a dict": (lambda z: {"logits": z, "hidden": z * 2}, lambda r: r["logits"]),
    "an object": (lambda z: SimpleNamespace(logits=z), lambda r: r.logits),
    "one number": (lambda z: z[:, 0], lambda r: r[:, None]),
    "a tuple": (lambda z: (z, z * 2), lambda r: r[0]),
}
BODIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bare": lambda conv: conv,
    "relu": lambda conv: nn.Sequential(conv, nn.ReLU(inplace=True)),
    "residual": lambda conv: nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.Tanh()),
}
KINDS = {
    "head": st.sampled_from(sorted(HEADS)), "output": st.sampled_from(sorted(OUTPUTS)),
    "body": st.sampled_from(sorted(BODIES)), "maps": st.integers(1, 5),
    "size": st.tuples(st.integers(4, 9), st.integers(4, 9)), "images": st.integers(1, 3),
    "channels": st.sampled_from((1, 3)), "stride": st.sampled_from((1, 2)), "side": st.booleans(),
    "wrapped": st.booleans(), "double": st.booleans(), "seed": st.integers(0, 9),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A network, its layer and images."""

    network: nn.Module
    layer: str
    images: Tensor
    logits: Callable[[Any], Tensor]  # the logits in what the network returns


def make(**kind: Any) -> Made:
    torch.manual_seed(kind["seed"])
    dtype = torch.float64 if kind["double"] else torch.float32
    images = torch.randn(kind["images"], kind["channels"], *kind["size"])
    body = BODIES[kind["body"]](nn.Conv2d(kind["channels"], kind["maps"], 3, kind["stride"], 1))
    modules, features = HEADS[kind["head"]]
    returned, logits = OUTPUTS[kind["output"]]

    def forward(net: Any, x: Tensor) -> Any:
        z = net.classes(features(net, net.body(x)))
        return returned(z * (1 + x.mean((1, 2, 3))[:, None]) if kind["side"] else z)

    network: nn.Module = Network(
        forward, body=body, **modules(*body(images).shape[1:3]), classes=nn.LazyLinear(N)
    )
    with torch.no_grad():
        network.eval()(images)
    network = network.to(dtype)
    return Made(
        nn.Sequential(network) if kind["wrapped"] else network,
        "0.body" if kind["wrapped"] else "body",
        images.to(dtype),
        logits,
    )


def loop_over_channels(made: Made, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean gradients and the drops, (B, K), from one float64 pass of the network itself
    per channel of each image.
    """
    network = copy.deepcopy(made.network).double()
    layer = network.get_submodule(made.layer)

    def score(image: Tensor, target: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        handle = layer.register_forward_hook(lambda module, inputs, f: change(f.clone()))
        scores = made.logits(network(image.clone()))
        handle.remove()
        return scores[0, target]

    def gradient(image: Tensor, target: Tensor) -> Tensor:
        activations: list[Tensor] = []

        def keep(f: Tensor) -> Tensor:
            activations.append(f.detach().requires_grad_())
            return activations[0] * 1

        score(image, target, keep).backward()
        return activations[0].grad

    weights = []
    drops = []
    for image, target in zip(made.images.double().split(1), targets, strict=True):
        gradients = gradient(image, target)
        weights.append(gradients.mean((2, 3)))
        with torch.no_grad():
            full = score(image, target, lambda f: f)
            for channel in torch.arange(gradients.shape[1]):
                ablated = score(image, target, lambda f, k=channel: f.index_fill(1, k, 0))
                drops.append(full - ablated)
    return torch.cat(weights), torch.stack(drops).view(len(targets), -1)


def check(kind: dict[str, Any]) -> None:
    made = make(**kind)

    def compute_values() -> tuple[Tensor, Tensor, ab.Trace]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace = ab.trace(made.network, made.layer, made.images)
            return ab.methods.get("grad_cam")(trace)[..., 0, 0], trace.ablation_drops, trace

    result = value_or_sentence(compute_values)
    if isinstance(result, str):
        assert kind["output"] == "a tuple" or kind["head"] in IMPURE_HEADS
        return
    weights, drops, trace = result
    expected_values = loop_over_channels(made, trace.targets)
    tolerance = 1e-10 if kind["double"] else 1e-3
    for values, expected in zip((weights, drops), expected_values, strict=True):
        scale = float(expected.abs().max() + (1 + trace.scores.abs().max()) / 30)
        torch.testing.assert_close(values.double(), expected, rtol=0, atol=scale * tolerance)


@lengths(30, times=16)
def test_values_equal_a_double_loop_or_one_sentence_says_why(examples):
    run(check, KINDS, examples)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_once(head):
    kind = {
        "head": head,
        "output": "logits",
        "body": "relu",
        "maps": 4,
        "size": (6, 8),
        "images": 2,
        "channels": 3,
        "stride": 1,
        "side": False,
        "wrapped": False,
        "double": True,
        "seed": 0,
    }
    check(kind)
