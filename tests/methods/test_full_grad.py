"""Tests of FullGrad: hooks on a plain network, and the completeness of its decomposition."""

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.methods.full_grad import full_gradients
from tests.methods.plain import linear, normal, scaled, seeded, upsampled


class Block(nn.Module):
    """A network of all kinds of piecewise linear layers with a bias: a residual branch, batch norms
    and a transposed convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.plain_norm = nn.BatchNorm2d(6, affine=False)
        self.branch = nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect", groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.layer = nn.ReLU(inplace=True)
        self.head = nn.Sequential(nn.Linear(4 * 8 * 10, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(images)), inplace=True)
        x = x + self.plain_norm(self.branch(x)).relu_()
        x = self.layer(self.up(functional.max_pool2d(x, 2)))
        return self.head(x.flatten(1))


class OneByOne(Block):
    """A block that looks at its data. torch.fx can't trace it, so images run one at a time."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() < 1e9 else -images)


def network(kind: type[Block] = Block) -> Block:
    def build() -> Block:
        model = kind()
        for norm in (model.norm, model.plain_norm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        for parameter in (model.norm.weight, model.norm.bias):
            nn.init.normal_(parameter)
        return model

    return seeded(build, 5)


@pytest.fixture
def images() -> Tensor:
    return normal(3, 3, 8, 10, seed=6)


def terms_by_hand(model: nn.Module, image: Tensor, target: int) -> list[Tensor]:
    """Return x dS/dx and each layer's b dS/dz for one image. Forward hooks keep the layer outputs z
    and return copies.
    """
    outputs = []

    def keep(module, inputs, output):
        outputs.append((module, output))
        return output.clone()

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
    handles = [
        module.register_forward_hook(keep)
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    leaf = image[None].clone().requires_grad_()
    score = model(leaf)[0, target]
    for handle in handles:
        handle.remove()
    gradient, *rest = torch.autograd.grad(score, [leaf, *(output for _, output in outputs)])
    terms = [leaf.detach() * gradient]
    for (module, output), g in zip(outputs, rest, strict=True):
        zero = torch.zeros_like(output[:, :, :1, :1] if output.ndim == 4 else output)
        if isinstance(module, nn.BatchNorm2d):
            # A batch norm's bias is its output for a zero input.
            bias = module(torch.zeros(1, output.shape[1], 1, 1, dtype=output.dtype))
        else:
            bias = module.bias.detach().reshape(zero.shape)
        terms.append(bias.detach() * g)
    return terms


def map_by_hand(terms: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the sum over layers of maps: absolute values, scaled over all channels and resized."""
    total = torch.zeros(size, dtype=torch.float64)
    for term in terms:
        if term.ndim == 4:  # linear layers have no positions
            total += upsampled(scaled(term.abs())[0], size).sum(0)
    return total


def total_of(term: Tensor) -> Tensor:
    return term.flatten(1).sum(1)


@pytest.mark.parametrize("kind", [Block, OneByOne])
@pytest.mark.parametrize("layer", ["layer", "first"])
def test_map_equals_the_definition(kind, layer, images):
    """Check also that a row's map doesn't depend on the batch."""
    model = network(kind)
    targets = [2, 0, 1]
    expected = []
    for image, target in zip(images, targets, strict=True):
        terms = terms_by_hand(model, image, target)
        expected.append(map_by_hand(terms, (8, 10)))
    for rows in (slice(0, 3), slice(1, 2)):
        trace = ab.trace(model, layer, images[rows], torch.tensor(targets[rows]))
        actual = methods.get("full_grad")(trace).raw
        torch.testing.assert_close(actual, torch.stack(expected[rows]), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", [Block, OneByOne])
def test_completeness(kind, images):
    """Check S = sum x dS/dx + sum of all b dS/dz. The rest is piecewise linear through 0."""
    trace = ab.trace(network(kind), "layer", images)
    actual = full_gradients(trace, total_of)
    torch.testing.assert_close(actual, trace.scores, rtol=0, atol=1e-11)
    gradient_part = (trace.gradients * trace.activations).sum((1, 2, 3))
    # The biases matter, so the equality isn't trivial.
    assert ((trace.scores - gradient_part).abs() > 1e-3).all()


@pytest.mark.parametrize(
    "clip",
    [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-0.5, 0.7), functional.relu6],
    ids=["ReLU6", "ReLU6_in_place", "Hardtanh", "relu6"],
)
def test_completeness_with_clipped_activations(clip, images):
    """Check clipped activations. If ReLU6 clips, its output is constant, so 6 is a bias."""

    class Clipped(Block):
        def forward(self, images: Tensor) -> Tensor:
            x = clip(self.norm(self.first(20 * images)))
            return self.head(clip(self.up(functional.avg_pool2d(x, 2))).flatten(1))

    trace = ab.trace(network(Clipped), "first", images)
    torch.testing.assert_close(full_gradients(trace, total_of), trace.scores, rtol=0, atol=1e-11)


def test_zero_terms_give_a_zero_map(readout):
    """Check that a black image has a zero map, not NaN, if only a linear layer has a bias."""
    trace = readout(linear([1.0] * 12, bias=1.0), torch.zeros(2, 3, 2, 2))
    assert not methods.get("full_grad")(trace).raw.any()


class LinearOverPositions(nn.Module):
    """A network like a block of ConvNeXt: channels last, a linear layer over each position."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        mixed = self.mix(self.layer(images).permute(0, 2, 3, 1))
        return self.head(mixed.relu().mean((1, 2)))


def test_linear_layer_over_positions_error_message():
    trace = ab.trace(LinearOverPositions().eval(), "layer", torch.randn(2, 3, 8, 8))
    message = "linear layers over tokens or positions; leave full_grad out here"
    with pytest.raises(ab.BenchError, match=message):
        methods.get("full_grad")(trace)
