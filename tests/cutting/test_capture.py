"""Networks that torch.fx alone can't follow: the step that splits them, and drops as by hooks on
the network itself.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import axiom_bench as ab
from axiom_bench.cutting.split_model import MOST_SIZES
from axiom_bench.cutting.trunk_and_head import Step
from tests.cutting.conftest import Network

IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class SamePad(nn.Conv2d):
    """Padding as TensorFlow's, made of the input's size."""

    def forward(self, x: Tensor) -> Tensor:
        total = max((-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1], 0)
        return functional.conv2d(
            functional.pad(x, [total // 2, total - total // 2] * 2), self.weight, self.bias, 2
        )


class Limited(nn.Module):
    """Divides by what is large: another function for each image of a batch."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x).tanh()
        return x / 3 if x.max() > self.level else x * 2


class RowLoop(nn.Module):
    """Counts the images of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.linear(x[i]).tanh() for i in range(len(x))])


class Residual(nn.Module):
    """A block with the target layer in it, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(6, 6, 1)
        self.c = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        short = x
        x = self.relu(self.before(x))
        if x.numel() > 10:
            x = self.c(x)
        x += short
        return self.relu(x)


def network(forward: Callable[[Any, Tensor], Any], **modules: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 3, padding=1)
    parts = {"stem": SamePad(3, 6, 3), "c": conv, "fc": nn.Linear(6, 4)}
    return Network(forward, **parts, **modules).double().eval()


def pooled(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.part(net.c(net.stem(x)).relu().mean((2, 3))))


def by_shape(net: Any, x: Tensor) -> Tensor:
    assert x.ndim == 4
    assert x.dtype.is_floating_point
    x = net.stem(x)
    if x.shape[-1] < 4 or int(x.size(2)) < 4:
        x = functional.interpolate(x, scale_factor=2)
    x = net.c(x)
    batch, channels, height, width = x.shape
    return net.fc(net.part(x.reshape(batch, channels, height * width).relu().mean(2)))


def with_checkpoint(net: Any, x: Tensor) -> Tensor:
    x = checkpoint(net.stem, x, use_reentrant=False)
    return net.fc(net.part(net.c(x).relu().mean((2, 3))))


def branching_behind(net: Any, x: Tensor) -> Tensor:
    x = net.c(net.stem(x)).relu()
    x = net.part(x.mean((2, 3)))
    return net.fc(x / 3 if x.max() > 0.08 else x)


def branching_before(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    x = x / 2 if x.max() > 0.1 else x
    return net.fc(net.part(net.c(x).relu().mean((2, 3))))


def catching(net: Any, x: Tensor) -> Tensor:
    """Hides every error of its own modules, as one that must always answer, and loops over
    images.
    """
    try:
        x = net.c(net.stem(x))
    except:  # noqa: E722
        x = x[:, :1].expand(-1, 6, -1, -1)
    logits = []
    for i in range(len(x)):
        pooled = x[i].relu().sum((1, 2))
        logits.append(net.fc(net.part(pooled)))
    return torch.stack(logits)


def in_a_block(net: Any, x: Tensor) -> Tensor:
    x = net.part(net.block(net.stem(x)).mean((2, 3)))
    return torch.stack([net.fc(x[i]) for i in range(len(x))])


TANH = nn.Tanh()
CASES = {
    "shapes": (network(by_shape, part=TANH), Step.SHAPES, "c"),
    "checkpoint": (network(with_checkpoint, part=TANH), None, "c"),
    "a part that decides by its data": (network(pooled, part=Limited(0.3575)), Step.MODULES, "c"),
    "a part that counts images": (network(pooled, part=RowLoop()), Step.MODULES, "c"),
    "a head that decides by its data": (network(branching_behind, part=TANH), Step.MODEL, "c"),
    "a bare except": (network(catching, part=TANH), Step.HEAD, "c"),
    "a residual block": (network(in_a_block, part=TANH, block=Residual()), Step.HEAD, "block.c"),
    "a residual block and a part that decides": (
        network(in_a_block, part=Limited(0.3), block=Residual()),
        Step.HEAD,
        "block.c",
    ),
    "a trunk that decides by its data": (network(branching_before, part=TANH), Step.MODEL, "c"),
    "data parallel": (nn.DataParallel(network(by_shape, part=TANH)), Step.SHAPES, "c"),
}
COMPILED = "compiled"


def case_of(name: str) -> tuple[nn.Module, Step | None, str]:
    """Return a case of CASES, or a compiled network.

    torch.compile imports its compiler for more than a second, so collecting the tests must not
    call it.
    """
    if name == COMPILED:
        return torch.compile(network(pooled, part=Limited(0.3575))), Step.MODULES, "c"
    return CASES[name]


def drops_by_hand(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> Tensor:
    """One image and channel at a time, by a hook on the network itself."""
    model = getattr(model, "_orig_mod", getattr(model, "module", model))
    target = model.get_submodule(layer)
    drops = torch.zeros(len(images), 6, dtype=images.dtype)
    for image, channel in np.ndindex(len(images), 6):

        def score(change: Callable[[Tensor], Tensor], image: int = image) -> Tensor:
            handle = target.register_forward_hook(
                lambda module, inputs, output: change(output.clone())
            )
            with torch.no_grad():
                scores = model(images[image : image + 1])[0]
            handle.remove()
            return scores[targets[image]]

        without = torch.tensor(channel)
        drops[image, channel] = score(lambda f: f) - score(
            lambda f, k=without: f.index_fill(1, k, 0)
        )
    return drops


@pytest.mark.parametrize("name", [*CASES, COMPILED])
def test_drops_and_gradients_are_the_networks(name: str) -> None:
    model, step, layer = case_of(name)
    targets = torch.tensor([0, 1, 2])
    trace = ab.trace(model, layer, IMAGES, targets)
    capture = trace.cut_model.trunk_and_head.capture
    assert step in (None, capture.step), capture
    assert capture.reason
    expected = drops_by_hand(model, layer, IMAGES, targets)
    assert expected.any()
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-13)
    plain = getattr(model, "_orig_mod", model)  # no compiler is needed here
    logits = torch.cat([plain(image[None]) for image in IMAGES])  # a batch may decide otherwise
    scores = logits.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(trace.scores, scores, rtol=0, atol=1e-13)
    gradients = []
    for image, target in zip(IMAGES, targets, strict=True):
        gradients.append(ab.trace(model, layer, image[None], target[None]).gradients)
    torch.testing.assert_close(trace.gradients, torch.cat(gradients), rtol=0, atol=1e-13)


def test_decisions_differ_in_one_batch() -> None:
    """Otherwise the case of a part that decides would pass without a row of its own for each
    image.
    """
    model = CASES["a part that decides by its data"][0]
    decisions: list[bool] = []

    def decide(module: nn.Module, inputs: Any, output: Tensor) -> None:
        decisions.append(bool(output.tanh().max() > model.part.level))

    handle = model.part.linear.register_forward_hook(decide)
    drops_by_hand(model, "c", IMAGES, torch.zeros(3, dtype=torch.long))
    handle.remove()
    assert {*decisions} == {True, False}


def test_a_head_that_runs_alone_skips_the_trunk() -> None:
    model = CASES["a residual block"][0]
    cut_model = ab.cut(model, "block.c")
    trace = cut_model.trace(IMAGES)
    copies = {name: part for name, part in cut_model.model.named_modules() if name}
    calls: list[str] = []
    for name, part in copies.items():
        vars(part)["forward"] = lambda *inputs, own=part.forward, name=name: (
            calls.append(name),
            own(*inputs),
        )[1]
    assert trace.ablation_drops.any()
    for part in copies.values():
        del vars(part)["forward"]
    assert {*calls} == {"block", "block.relu", "part", "fc"}


@pytest.mark.parametrize("name", ["shapes", "a part that decides by its data", "a bare except"])
def test_the_network_is_left_as_it_was(name: str) -> None:
    model, _, layer = CASES[name]
    model.register_buffer("counter", torch.zeros(1))
    model.fc.register_forward_hook(lambda module, inputs, output: model.counter.add_(1) and None)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = {name: [*part._forward_hooks] for name, part in model.named_modules()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert ab.trace(model, layer, IMAGES).ablation_drops.any()
    assert all(part.training for part in model.modules())
    assert {name: [*part._forward_hooks] for name, part in model.named_modules()} == hooks
    assert not any(
        "forward" in vars(part) for part in model.modules() if not isinstance(part, Network)
    )
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    model.eval()
    model.fc._forward_hooks.clear()
    del model.counter


def test_sizes_have_graphs_of_their_own() -> None:
    """Up to a number of sizes; the drops of all are right."""
    cut_model = ab.cut(CASES["shapes"][0], "c")
    steps = []
    for size in range(4, 4 + 2 * MOST_SIZES, 2):
        images = torch.rand(
            2, 3, size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64
        )
        targets = torch.tensor([1, 2])
        trace = cut_model.trace(images, targets)
        expected = drops_by_hand(CASES["shapes"][0], "c", images, targets)
        torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(
            cut_model.forward(images), CASES["shapes"][0](images), rtol=0, atol=1e-13
        )
        steps.append(trace.cut_model.trunk_and_head.capture.step)
    assert steps == [Step.SHAPES] * MOST_SIZES
    trace = cut_model.trace(IMAGES[:2, :, :3, :3], torch.tensor([1, 2]))
    assert trace.cut_model.trunk_and_head.capture.step is Step.HEAD
    assert cut_model.trace(IMAGES[:2]).passes is trace.passes
    other = cut_model.forward(IMAGES[:2, :, :9, :9])
    torch.testing.assert_close(other, CASES["shapes"][0](IMAGES[:2, :, :9, :9]), rtol=0, atol=1e-13)


def test_half_precision_is_followed_by_shapes() -> None:
    model = network(by_shape, part=nn.Tanh()).to(torch.bfloat16)
    with pytest.warns(UserWarning, match="computes in torch.bfloat16"):
        trace = ab.trace(model, "c", IMAGES)
    assert trace.cut_model.trunk_and_head.capture.step is Step.SHAPES
    assert trace.ablation_drops.any()


@pytest.mark.parametrize(
    ("name", "passes"), [("a trunk that decides by its data", 7), ("a residual block", 1.5)]
)
def test_the_estimate_of_drops_is_the_steps(name: str, passes: float) -> None:
    """Whole passes cost one for each of six channels and one for the score; a head costs its
    share.
    """
    model, _, layer = CASES[name]
    trace = ab.trace(model, layer, IMAGES)
    before = replace(trace.passes)
    assert trace.drops_cost == pytest.approx(passes, rel=0.5)
    assert trace.passes == before


def test_drops_behind_pooling_cost_less_than_a_pass() -> None:
    pooling = network(lambda net, x: net.fc(net.c(net.stem(x)).relu().mean((2, 3))))
    trace = ab.trace(pooling, "c", IMAGES)
    assert 0 < trace.drops_cost < 1
    assert str(trace.capture).startswith("torch.fx follows the model at this input size (its code")


def test_the_parts_that_are_called_whole_have_reasons() -> None:
    model, _, layer = CASES["a part that counts images"]
    reason = str(ab.trace(model, layer, IMAGES).capture)
    assert reason == "torch.fx follows the model except `part` (the number of images is read)"


@pytest.mark.parametrize(
    "name", ["a residual block", "a part that counts images", "a trunk that decides by its data"]
)
def test_few_rows_at_once_change_no_drop(name: str) -> None:
    model, _, layer = CASES[name]
    drops = ab.trace(model, layer, IMAGES).ablation_drops
    little = ab.cut(model, layer, ablation_memory=2**14).trace(IMAGES)
    rows: list[int] = []
    little.cut_model.model.part.register_forward_pre_hook(
        lambda module, inputs: rows.append(len(inputs[0]))
    )
    torch.testing.assert_close(little.ablation_drops, drops, rtol=0, atol=1e-13)
    assert max(rows) <= 3


def by_slice(net: Any, x: Tensor) -> Tensor:
    x = net.c(torch.cat([x, x], 1))
    positions = torch.linspace(0, 1, 20).double()[: x.shape[3]]
    return net.fc(net.part((x + positions).relu().mean((2, 3))))


def by_range(net: Any, x: Tensor) -> Tensor:
    x = net.c(torch.cat([x, x], 1))
    columns = [x[..., column] for column in range(x.shape[3])]
    return net.fc(net.part(torch.stack(columns, 3).relu().mean((2, 3))))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (by_shape, "its code decides by values or shapes"),
        (by_slice, "its code slices by a shape"),
        (by_range, "its code makes a number of a shape"),
    ],
)
def test_the_reason_for_a_graph_of_one_size_is_in_users_words(
    forward: Callable[[Any, Tensor], Any], reason: str
) -> None:
    trace = ab.trace(network(forward, part=TANH), "c", IMAGES[:1], torch.tensor([0]))
    assert trace.capture.step is Step.SHAPES
    assert trace.capture.reason == reason
