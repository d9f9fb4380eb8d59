"""Tests of LIFT-CAM and Relevance-CAM: rules by hand, conservation, captum's DeepLIFT, and refused
heads.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as functional
import torchvision
from torch import Tensor, nn
from torch.overrides import _len_torch_function_stack

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.lift_cam import attributions, lift_cam
from axiom_bench.methods.relevance_cam import relevances
from axiom_bench.testing import CASES
from tests.methods.plain import linear, normal, seeded, uniform

# Relative to the sum of all magnitudes: float64, ratios of differences that may be small.
ROUNDING = 1e-10


class Calls(nn.Module):
    """A head of functions and methods instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(48, 10)
        self.second = nn.Linear(10, 2)

    def forward(self, maps: Tensor) -> Tensor:
        maxima = functional.max_pool2d(maps * 2 - 1, 3, stride=1, padding=1)
        means = functional.avg_pool2d(maps, 3, stride=1, padding=1)
        joined = torch.cat([maxima, means], 1)[:, 1:5] / 3
        hidden = self.first(functional.relu(joined.reshape(len(maps), -1)))
        hidden = torch.tanh(hidden) - 0.5 * hidden.sigmoid()
        hidden.clamp_(-0.4, 0.6)
        return self.second(1 - functional.leaky_relu(-hidden, 0.2, inplace=True))


class Residual(nn.Module):
    """A head of two blocks, each with batch norm, an in-place ReLU and an in-place sum."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)
        self.classes = nn.Linear(3, 2)
        for norm in self.norms:
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, maps: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            branch = norm(convolution(maps))
            branch += maps
            maps = self.relu(branch)
        return self.classes(maps.mean((2, 3)))


def dense(activation: nn.Module) -> nn.Sequential:
    """Return a head of linear layers. captum needs each module to be called once."""
    first = [nn.Linear(36, 8), copy.deepcopy(activation)]
    second = [nn.Linear(8, 5), copy.deepcopy(activation)]
    return nn.Sequential(nn.Flatten(), *first, *second, nn.Linear(5, 2))


def head_with_max_pooling() -> nn.Sequential:
    features = [nn.MaxPool2d(2, stride=1), nn.Conv2d(3, 4, 1), nn.MaxPool2d((2, 3), 1)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(4, 2))


def head_with_adaptive_max_pooling() -> nn.Sequential:
    features = [nn.Conv2d(3, 4, 2), nn.ReLU(), nn.AdaptiveMaxPool2d((1, 2))]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8, 2))


ACTIVATIONS = (
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.LeakyReLU(0.1),
    nn.PReLU(1),
    nn.ELU(inplace=True),
    nn.SELU(),
    nn.CELU(),
    nn.GELU(),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Hardswish(inplace=True),
    nn.Hardsigmoid(),
    nn.Hardtanh(),
)
HEADS: dict[str, Callable[[], nn.Module]] = {
    **{str(activation): partial(dense, activation) for activation in ACTIVATIONS},
    "calls": Calls,
    "residual": Residual,
    "max pooling": head_with_max_pooling,
    "adaptive max pooling": head_with_adaptive_max_pooling,
}


@pytest.fixture
def maps() -> Tensor:
    """Maps of both signs. The second image's are positive, the third's are zero in one channel."""
    maps = 4 * normal(3, 3, 3, 4, seed=11)
    maps[1] = maps[1].abs()
    maps[2, 1] = 0
    return maps


def assert_complete(trace: ab.Trace, rounding: float = ROUNDING) -> None:
    """Check that the attributions of every image sum to S(F) - S(0)."""
    actual = attributions(trace)
    empty_logits = trace.head(torch.zeros_like(trace.activations))
    empty_scores = empty_logits.gather(1, trace.targets[:, None])[:, 0]
    error = (actual.sum((1, 2, 3)) - (trace.scores - empty_scores)).abs()
    magnitude = actual.abs().sum((1, 2, 3)) + trace.scores.abs() + empty_scores.abs()
    assert (error <= rounding * magnitude).all(), error


@pytest.mark.parametrize("build", HEADS.values(), ids=HEADS)
def test_attributions_are_complete(build, maps, readout):
    trace = readout(seeded(build), maps, target=1)
    assert_complete(trace)
    gradient_parts = trace.gradients * trace.activations
    difference = (attributions(trace) - gradient_parts).abs().max()
    assert difference > 1e-3 * gradient_parts.abs().max()  # the rule makes a difference


REAL_HEADS = {
    "resnet18": "layer3",
    "vgg11_bn": "features.20",
    "squeezenet1_1": "features.7",
    "mobilenet_v2": "features.17",
    "densenet121": "features.denseblock4.denselayer15",
    "googlenet": "inception4e",
    "shufflenet_v2_x0_5": "stage4.2",
}


QUICK = ("resnet18", "shufflenet_v2_x0_5")
REAL_HEAD_PARAMS = [
    pytest.param(name, layer, id=name, marks=[] if name in QUICK else pytest.mark.slow)
    for name, layer in REAL_HEADS.items()
]


@pytest.mark.parametrize(("name", "layer"), REAL_HEAD_PARAMS)
def test_attributions_are_complete_on_real_networks(name, layer):
    extra = {"init_weights": False} if name == "googlenet" else {}
    model = seeded(lambda: getattr(torchvision.models, name)(weights=None, **extra), 13)
    images = normal(2, 3, 64, 64)
    assert_complete(ab.trace(model, layer, images), 1e-8)  # products of many ratios
    if name == "resnet18":
        assert_complete(ab.trace(model.float(), "layer2", images.float()), 1e-4)


class Shift(nn.Module):
    """A head that computes max(F_1, F_2 + 2) of two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([0.0, 2.0]))

    def forward(self, maps: Tensor) -> Tensor:
        return functional.max_pool2d(maps + self.shift, (1, 2)).flatten(1)


def test_max_pooling_by_hand(readout):
    """Check two images by hand. With zero maps, the maximum is 2, at the second pixel.

    At (5, 1), the maximum rises by 3. The first pixel has won the maximum and gets the rise. At
    (1, -4), the maximum falls by 1. The second pixel has lost the maximum and gets the fall.
    """
    images = torch.zeros(2, 3, 1, 2)
    images[:, 0, 0] = torch.tensor([[5.0, 1.0], [1.0, -4.0]])
    trace = readout(Shift(), images)
    assert attributions(trace)[:, 0, 0].tolist() == [[3, 0], [0, -1]]
    assert trace.scores.tolist() == [5, 1]


def pooled_head() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2, 2), nn.Flatten(), nn.Linear(8, 2))


CAPTUM_HEADS = {
    **{
        str(activation): partial(dense, activation)
        for activation in (nn.ReLU(), nn.Sigmoid(), nn.Softplus())
    },
    "max pooling": pooled_head,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("build", CAPTUM_HEADS.values(), ids=CAPTUM_HEADS)
def test_attributions_equal_captum(build, maps, readout):
    attr = pytest.importorskip("captum.attr", reason="make peers")
    head = seeded(build)
    expected = attr.DeepLift(head).attribute(maps, torch.zeros_like(maps), target=1)
    actual = attributions(readout(head, maps, target=1))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


class Function(nn.Module):
    """A head of one function and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.classes = nn.Linear(36, 2)

    def forward(self, maps: Tensor) -> Tensor:
        return self.classes(self.function(maps).flatten(1))


REFUSED = {
    "softmax": lambda x: x.softmax(1),
    "layer_norm": lambda x: functional.layer_norm(x, x.shape[1:]),
    "mul": lambda x: x * x.mean((2, 3), keepdim=True),
    "matmul": lambda x: x.mT @ x @ x.mT,
    "truediv|div": lambda x: 1 / (x + 10),
    "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True),
    "exp": torch.exp,
}


@pytest.mark.parametrize(("word", "function"), REFUSED.items(), ids=REFUSED)
def test_operation_without_a_rule_is_refused(word, function, maps, readout):
    trace = readout(seeded(lambda: Function(function)), maps)
    with pytest.raises(BenchError, match=f"no rule for .*({word})") as error:
        methods.get("lift_cam")(trace)
    assert "leave lift_cam out" in str(error.value)
    assert _len_torch_function_stack() == 0


def test_the_baseline_is_kept_while_nobody_writes_to_the_weights(maps):
    def build() -> nn.Module:
        hidden = nn.Linear(36, 6)
        return nn.Sequential(nn.Identity(), nn.Flatten(), hidden, nn.ReLU(), nn.Linear(6, 2))

    model = seeded(build)
    cut_model = ab.cut(model, "0")
    trace = cut_model.trace(maps, torch.tensor([0, 1, 1]))
    expected = lift_cam(trace)
    before = trace.passes.head_forward
    assert torch.equal(lift_cam(trace), expected)
    assert trace.passes.head_forward == before + 3

    with torch.no_grad():
        model[2].bias += 0.5
    other = lift_cam(cut_model.trace(maps, trace.targets))
    fresh = lift_cam(ab.cut(model, "0").trace(maps, trace.targets))
    assert torch.equal(other, fresh)
    assert not torch.allclose(other, expected, rtol=1e-3)


class Deciding(nn.Module):
    """A network that makes other calls if the layer is zero, so that only hooks can cut it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.linear = nn.Linear(36, 5)
        self.classes = nn.Linear(5, 2)
        self.decides = True

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer(images)
        hidden = self.linear(maps.flatten(1))
        if maps.sum() > 1e9:  # torch.fx can't trace this branch
            return self.classes(hidden)
        if self.decides and not maps.any():
            return self.classes(torch.tanh(hidden))
        return self.classes(hidden.relu())


def test_untraceable_model(maps):
    model = seeded(Deciding)
    model.decides = False
    trace = ab.trace(model, "layer", maps, torch.tensor([0, 1, 1]))
    assert_complete(trace)
    rows = []
    for i in range(3):
        row = ab.trace(model, "layer", maps[i : i + 1], trace.targets[i : i + 1])
        rows.append(lift_cam(row))
    torch.testing.assert_close(lift_cam(trace), torch.cat(rows), rtol=0, atol=1e-14)


def test_data_dependent_branch_is_refused(maps):
    with pytest.raises(BenchError, match="makes other calls for activations of zero"):
        lift_cam(ab.trace(seeded(Deciding), "layer", maps))


def test_tiny_input_differences_use_the_derivative():
    """Check hidden units that hardly change. The ratio of two tiny differences is replaced by the
    derivative.
    """
    trace = replace(CASES["dense"], dtype=torch.float32).trace()
    small = replace(trace, activations=trace.activations * 1e-6)
    double = CASES["dense"].trace()
    expected = attributions(replace(double, activations=double.activations * 1e-6))
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(attributions(small).double(), expected, rtol=0, atol=atol)


@pytest.fixture
def positive() -> Tensor:
    """Maps without a negative value."""
    return uniform(2, 3, 4, 6, seed=7)


def test_z_plus_rule_with_signed_inputs(readout):
    """Check x w = (-2)(-3), 1 (-1), 2 (1) = 6, -1, 2: shares 6/8, 0, 2/8. A bias gets nothing."""
    head = linear([-3.0, -1.0, 1.0], bias=100.0)
    trace = readout(head, torch.tensor([-2.0, 1.0, 2.0]).view(1, 3, 1, 1))
    actual = relevances(trace, torch.ones(1, 1)).flatten().tolist()
    assert actual == pytest.approx([0.75, 0, 0.25])


def test_convolution_equals_a_sparse_linear_layer(positive, readout):
    convolution = seeded(lambda: nn.Conv2d(3, 2, 3, stride=2, padding=1))
    basis = torch.eye(72, dtype=torch.float64).view(72, 3, 4, 6)
    linear = nn.Linear(72, 12).double()
    with torch.no_grad():
        responses = functional.conv2d(basis, convolution.weight, stride=2, padding=1)
        linear.weight.copy_(responses.flatten(1).T)
        linear.bias.copy_(convolution.bias.repeat_interleave(6))
    last = seeded(lambda: nn.Linear(12, 2))
    sparse = readout(nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), last), positive)
    dense = readout(nn.Sequential(nn.Flatten(), linear, nn.ReLU(), last), positive)
    torch.testing.assert_close(sparse.logits, dense.logits, rtol=0, atol=1e-13)
    expected = methods.get("relevance_cam")(dense)
    torch.testing.assert_close(methods.get("relevance_cam")(sparse), expected, rtol=0, atol=1e-13)


class Mixed(nn.Module):
    """A head with every kind of rule: residual sum, batch norm, concatenation, pooling, clipped and
    curved activations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2)
        self.last = nn.Linear(2, 3)

    def forward(self, maps: Tensor) -> Tensor:
        x = functional.relu6(4 * self.norm(self.first(maps)), inplace=True)
        x = torch.cat([functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)], 1)
        left, right = x.chunk(2, 1)
        left = left + functional.silu(self.second(right))
        x = functional.hardswish(self.up(torch.cat([left, right], 1))).relu_()
        return self.last(x.mean((2, 3)).view(len(x), 2))


def test_relevance_is_conserved(positive, readout):
    """Check that the relevance of each class arrives at the layer through every rule. Each unit has
    a positive input.
    """
    head = seeded(Mixed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.abs_()
    trace = readout(head, positive)
    start = torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.5]], dtype=torch.float64)
    totals = relevances(trace, start).sum((1, 2, 3))
    torch.testing.assert_close(totals, start.sum(1), rtol=0, atol=1e-12)


def test_unit_without_positive_input_passes_no_relevance(readout):
    trace = readout(linear([-1.0] * 3, [-1.0] * 3), torch.ones(1, 3, 1, 1))
    assert not methods.get("relevance_cam")(trace).any()


def test_operation_without_a_rule_error_message(maps, readout):
    head = seeded(lambda: Function(lambda x: x * x.sigmoid()))
    trace = readout(head, maps)
    with pytest.raises(BenchError, match="no rule for 'sigmoid'"):
        methods.get("relevance_cam")(trace)
