"""Networks as people bring them, with hooks, locks, in-place operations and compiled parts, have
the drops of a loop over their channels.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import axiom_bench as ab
from axiom_bench.models import layers
from tests.cutting.conftest import Network
from tests.cutting.small_network import IMAGES, assert_right_drops, small_network

GLOBAL: list[object] = []


def assert_drops_of_the_small_network(network: nn.Module) -> None:
    drops = ab.trace(network, "c", IMAGES).ablation_drops
    assert torch.equal(drops, ab.trace(small_network(), "c", IMAGES).ablation_drops)


class Extractor:
    """A feature extractor as libraries write it: its hook is a method, and it has a lock, which
    can't be copied.
    """

    def __init__(self, module: nn.Module, lock: Any) -> None:
        self.outputs: list[object] = []
        self.lock = lock
        module.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.outputs.append(output)


@pytest.mark.parametrize("lock", [None, threading.Lock()])
def test_hooks_that_watch_never_run(lock):
    network = small_network()
    seen = []
    extractors = [Extractor(module, lock) for module in network.children()]
    network.c.register_forward_hook(
        lambda module, inputs, output: seen.append(output.register_hook(print))
    )
    network.c.register_forward_hook(lambda module, inputs, output: GLOBAL.append(output))
    network.c.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs))
    network.fc.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs))
    assert_drops_of_the_small_network(network)
    trace = ab.trace(network, "c", IMAGES)
    assert trace.forward(IMAGES.clone().requires_grad_()).requires_grad
    assert not seen
    assert not GLOBAL
    assert not any(extractor.outputs for extractor in extractors)


class Scaled:
    """An equalised learning rate: the weight is computed before each call."""

    def __call__(self, module: nn.Module, inputs: object) -> None:
        module.weight = module.stored * 3


def scale(module: nn.Module) -> None:
    weight = module._parameters.pop("weight")
    module.stored = nn.Parameter(weight.detach())
    module.weight = weight.detach()
    module.register_forward_pre_hook(Scaled())


def double_weight_norm(module: nn.Module) -> None:
    weight_norm(module).weight_g.data.mul_(2)


def double_parametrised_norm(module: nn.Module) -> None:
    parametrised = parametrizations.weight_norm(module)
    parametrised.parametrizations.weight.original0.data.mul_(2)


def prune_weights(module: nn.Module) -> None:
    prune.random_unstructured(module, "weight", amount=0.4)


def square_output(module: nn.Module) -> None:
    module.register_forward_hook(lambda module, inputs, output: output.square())


def exponentiate_input(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda module, inputs: (inputs[0].exp(),))


ARITHMETIC: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": double_weight_norm,
    "spectral_norm": spectral_norm,
    "parametrised": double_parametrised_norm,
    "pruned": prune_weights,
    "scaled": scale,
    "another output": square_output,
    "another input": exponentiate_input,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("change", ARITHMETIC.values(), ids=ARITHMETIC)
def test_hooks_that_are_arithmetic_run(change):
    network = small_network()
    change(network.fc)
    assert not torch.equal(network.eval()(IMAGES), small_network()(IMAGES))
    assert_right_drops(network)


def test_what_cannot_be_copied_is_shared_and_what_the_forward_keeps_is_not_the_users():
    def forward(net: Any, x: Tensor) -> Tensor:
        with net.lock:
            net.calls.add_(1)
            net.kept.append(net.c(x))
        return net.fc(net.kept[-1].relu().mean((2, 3)))

    network = small_network(forward)
    network.register_buffer("calls", torch.zeros(()))
    network.lock = threading.Lock()
    network.numbers = (number for number in [1])
    network.kept = []
    network(IMAGES)
    assert_drops_of_the_small_network(network)
    assert network.calls == 1
    assert len(network.kept) == 1


def test_a_recurrent_head_of_two_layers_has_no_dropout_and_a_gradient():
    """cuDNN only differentiates recurrent layers in training mode, where they have dropout between
    layers.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        columns = net.c(x).mean(2).transpose(1, 2)
        outputs, _ = net.recurrent(columns)
        return net.fc(outputs[:, -1])

    recurrent = nn.LSTM(6, 6, 2, batch_first=True, dropout=0.5)
    assert_right_drops(small_network(forward, recurrent=recurrent))
    assert not recurrent.training
    assert recurrent.dropout == 0.5


def in_place(net: Any, x: Tensor) -> Tensor:
    f = net.c(x)
    f += 1
    f = f.mul_(2).relu().clone()
    f[:, :, :2] = 0  # which torch.fx can't follow
    return net.fc(f.mean((2, 3)))


def test_a_layer_whose_output_is_changed_in_place_has_its_own_output():
    network = small_network(in_place)
    assert_right_drops(network)
    assert torch.equal(ab.trace(network, "c", IMAGES).activations, network.c(IMAGES).detach())


def test_a_graph_module_is_a_network():
    assert_drops_of_the_small_network(torch.fx.symbolic_trace(small_network()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_in_torchscript_run_as_they_are():
    network = small_network(fc=torch.jit.script(nn.Linear(6, 4)))
    assert_right_drops(network)
    network = network.float()
    images = IMAGES.float()
    assert ab.explain(network, None, images, ["grad_cam", "refine_cam"]).layer == "c"
    metrics = ["model_parameter_randomisation"]
    values = ab.evaluate(network, "c", [(images, None)], ["grad_cam"], metrics)
    assert set(values["status"]) == {"ok"}


def test_one_image_behind_a_squeeze_has_the_drops_of_two():
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.fc(net.c(x).relu().mean((2, 3), keepdim=True).squeeze())

    drops = ab.trace(small_network(forward), "c", IMAGES[:1], [1]).ablation_drops
    expected = ab.trace(small_network(), "c", IMAGES, [1, 1]).ablation_drops[:1]
    torch.testing.assert_close(drops, expected, rtol=0, atol=1e-13)


def test_an_image_of_nan_is_named_and_the_others_have_their_maps():
    images = IMAGES.index_fill(0, torch.tensor([1]), torch.nan)
    with pytest.warns(UserWarning, match=r"scores of the images \[1\] aren't finite"):
        heatmaps = ab.explain(small_network(), "c", images, ["grad_cam"])["grad_cam"]
    expected = ab.explain(small_network(), "c", IMAGES[:1], ["grad_cam"])["grad_cam"]
    assert torch.equal(heatmaps[:1], expected)


@pytest.mark.parametrize("layer", ["c", "_orig_mod.c"])
def test_a_compiled_network_is_the_one_that_was_compiled(layer):
    compiled = torch.compile(small_network(), backend="eager")
    gradients = ab.trace(compiled, layer, IMAGES).gradients
    assert torch.equal(gradients, ab.trace(small_network(), "c", IMAGES).gradients)


class Straight(torch.autograd.Function):
    """The sign, with the identity's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_a_gradient_of_ones_own_is_the_networks():
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.fc(Straight.apply(net.c(x)).mean((2, 3)))

    trace = ab.trace(small_network(forward), "c", IMAGES, torch.tensor([1, 3]))
    weights = small_network().fc.weight[[1, 3]]
    expected = weights[:, :, None, None].expand(2, 6, 16, 16) / 256
    torch.testing.assert_close(trace.gradients, expected)


@pytest.mark.parametrize("width", [32, 64])
def test_a_map_of_as_many_rows_as_channels_is_a_map(width):
    """The operations that compute and read it decide, whatever the images' sides."""
    first = [nn.Conv2d(1, 8, 3, (2, 1), 1), nn.ReLU()]
    second = [nn.Conv2d(8, 8, 3, (2, 4), 1), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    spectrogram = nn.Sequential(*first, *second, *classifier)
    calls = layers.record_calls(spectrogram, (32, width), channels=1)
    assert layers.default_layer(calls) == "3"
    assert layers.choose_layer(spectrogram, "3", calls) == "3"
    trace = ab.trace(spectrogram, "3", torch.rand(1, 1, 32, width))
    assert trace.activations.shape == (1, 8, 8, width // 4)


def test_tokens_of_as_many_rows_as_channels_are_tokens():
    def normalise_channels(net: Any, x: Tensor) -> Tensor:
        return net.norm(x.permute(0, 2, 3, 1))

    def classify_tokens(net: Any, x: Tensor) -> Tensor:
        return net.fc(net.grids(x).mean((1, 2)))

    norm = Network(normalise_channels, norm=nn.LayerNorm(8))
    grids = nn.Sequential(nn.Conv2d(3, 8, 4, 4), norm)
    network = Network(classify_tokens, grids=grids, fc=nn.Linear(8, 3))
    images = torch.rand(1, 3, 32, 32)
    with pytest.raises(ab.BenchError, match=r"gives tokens \(1, 8, 8, 8\), not maps"):
        ab.trace(network, "grids.1", images)
    trace = ab.trace(network, "grids.1", images, reshape="tokens")
    assert trace.activations.shape == (1, 8, 8, 8)


class Joining(nn.Module):
    """A network with a part of the name of a method of our own networks of words."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)
        self.joined = nn.Linear(4, 2)

    def forward(self, images):
        return self.joined(self.features(images).relu().mean((2, 3)))


def test_a_part_called_joined_is_the_users_own():
    network = Joining().eval()
    images = torch.rand(2, 3, 8, 8)
    trace = ab.trace(network, "features", images)
    assert torch.equal(trace.logits, network(images).detach())
    assert trace.ablation_drops.shape == (2, 4)
