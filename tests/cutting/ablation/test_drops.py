"""Exact ablation against brute force: every shortcut, every kind of head, every chunk size."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import axiom_bench as ab
from axiom_bench.cutting.ablation.batched import products
from axiom_bench.cutting.ablation.drops import brute_force_drops
from tests.cutting.ablation.heads import (
    HEADS,
    behind_maps,
    brute_force,
    fully_connected,
    gate_on_skip,
    head_graph,
    naive_drops,
    with_random_statistics,
)
from tests.cutting.conftest import Network, deciding

MEBIBYTE = 2**20


def assert_exact(drops: Tensor, expected: Tensor, scores: Tensor) -> None:
    """Within 1e-12 of max|drop|; and about 100 roundings of |S|, since brute force subtracts two
    scores.
    """
    rounding = torch.finfo(expected.dtype).eps * scores.abs().max()
    tolerance = 1e-12 * expected.abs().max() + 100 * rounding
    torch.testing.assert_close(drops, expected, rtol=0, atol=float(tolerance))
    # smaller drops would make this comparison say nothing
    assert expected.abs().max() > 1e3 * tolerance


def make_trace(
    model: nn.Module, layer: str, size: int = 64, batch: int = 2, **options: int
) -> ab.Trace:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)
    return ab.cut(model, layer, output="logits", **options).trace(images, torch.arange(batch) * 3)


# (network, layer, side of the images, images): one image of a head 4096 wide takes seconds in
# float64.
QUICK = [
    ("squeezenet1_1", "features.12", 64, 1),
    ("resnet18", "layer4", 64, 2),
    ("mobilenet_v3_small", "features.11.block.1", 64, 1),
    ("shufflenet_v2_x0_5", "stage4.2", 64, 2),
    ("densenet121", "features.norm5", 32, 2),
    ("densenet121", "features.denseblock4.denselayer15.conv2", 32, 2),
]
SLOW = [
    ("alexnet", "features.12", 64, 1),
    ("vgg11_bn", "features.26", 32, 1),
    ("squeezenet1_1", "features.11.squeeze", 64, 2),
    ("resnet18", "layer3.1.conv1", 32, 2),
    ("resnet50", "layer3.2.conv2", 32, 1),
    ("mobilenet_v2", "features.18", 64, 2),
    ("googlenet", "inception5a", 64, 2),
    ("convnext_tiny", "features.7", 64, 2),
    ("efficientnet_b0", "features.8", 64, 2),
]


@pytest.mark.parametrize(
    ("name", "layer", "size", "batch"),
    [*QUICK, *(pytest.param(*family, marks=pytest.mark.slow) for family in SLOW)],
)
def test_drops_equal_brute_force(name, layer, size, batch):
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(weights=None, **options)
    trace = make_trace(with_random_statistics(model), layer, size, batch)
    assert head_graph(trace) is not None
    assert_exact(trace.ablation_drops, brute_force(trace), trace.logits)


def windows(net: Network, x: Tensor) -> Tensor:
    """A head that reshapes the batch."""
    b = x.shape[0]
    quarters = x.view(b, 6, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5)
    parts = quarters.reshape(b * 4, -1)
    return torch.relu(net.fc(parts)).view(b, 4, 7).mean(1)


def network_with_head(name: str) -> nn.Module:
    torch.manual_seed(3)
    return with_random_statistics(behind_maps(HEADS[name]()))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_drops_of_each_head_equal_the_double_loop(name, signed):
    torch.manual_seed(3)
    model = with_random_statistics(behind_maps(HEADS[name](), signed=signed))
    trace = make_trace(model, "maps", 6)
    assert head_graph(trace) is not None
    assert_exact(trace.ablation_drops, naive_drops(trace), trace.logits)


def reshaping_the_batch() -> nn.Module:
    return behind_maps(Network(windows, fc=nn.Linear(6 * 9, 7)))


# (network, layer, True if its head is read as a graph, False if whole passes are run)
NETWORKS: list[tuple[Callable[[], nn.Module], str, bool]] = [
    (gate_on_skip, "maps", True),  # broadcasts to the shape of an unchanged value
    (deciding, "conv", False),
    (reshaping_the_batch, "maps", False),
]


@pytest.mark.parametrize(("build", "layer", "is_graph"), NETWORKS)
def test_drops_of_a_network_equal_the_double_loop(build, layer, is_graph):
    torch.manual_seed(3 if is_graph else 1)
    trace = make_trace(with_random_statistics(build()), layer, 6)
    assert (head_graph(trace) is not None) == is_graph
    assert_exact(trace.ablation_drops, naive_drops(trace), trace.logits)


@pytest.mark.parametrize("memory", [1, 3_000, 2**30], ids=["one_by_one", "some", "all"])
@pytest.mark.parametrize("head", ["fully_connected_relu", "convolutions", "class_maps", "split"])
def test_memory_limit_does_not_change_drops(head, memory):
    model = network_with_head(head)
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    cut = ab.cut(model, "maps", ablation_memory=memory, output="logits")
    expected = naive_drops(ab.trace(model, "maps", images, output="logits"))
    assert_exact(cut.trace(images).ablation_drops, expected, torch.ones(1))


def test_a_unit_that_is_not_a_number_has_moved():
    rows = torch.zeros(2, 3, 8)
    rows[1, 2, 4] = torch.nan
    result = products(rows, torch.ones(2, 3, dtype=torch.bool), torch.ones(5, 8))
    assert result[1, 2].isnan().all()
    assert result.nan_to_num(7).count_nonzero() == 5


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most bytes that the call had allocated at once, according to torch's profiler."""
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        call()
    events = profile.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return int(torch.tensor(changes).cumsum(0).max())


def wide_head() -> nn.Module:
    first = [nn.Linear(96 * 64, 512), nn.ReLU()]
    second = [nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *first, *second, nn.Linear(512, 7))


def deep_head() -> nn.Module:
    first = [nn.Conv2d(96, 64, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 7)]
    return nn.Sequential(*first, *second, *classifier)


@pytest.mark.parametrize("head", [wide_head, deep_head])
def test_peak_memory_stays_below_the_limit(head, monkeypatch):
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    model = behind_maps(head(), channels=96)
    images = torch.randn(4, 3, 8, 8)
    peaks = []
    for limit in (MEBIBYTE, 64 * MEBIBYTE):
        trace = ab.cut(model, "maps", ablation_memory=limit).trace(images)
        head_graph(trace)
        peaks.append(peak_bytes(lambda trace=trace: trace.ablation_drops))
        assert peaks[-1] <= limit
    # if more memory weren't used, staying below the lower limit would show nothing
    assert peaks[1] > MEBIBYTE


def test_brute_force_equals_the_double_loop_in_chunks():
    trace = make_trace(network_with_head("convolutions"), "maps", 6)
    for chunk in (1, 3, 12):
        assert_exact(brute_force(trace, chunk * 32 * 6 * 36 * 8), naive_drops(trace), trace.logits)


def test_forward_hook_on_the_head_is_respected():
    """A forward hook changes what a layer computes, so the layer's weight may not speak for it."""
    model = network_with_head("fully_connected_relu")
    model.head[1].register_forward_hook(lambda module, inputs, output: output.square())
    trace = make_trace(model, "maps", 6)
    assert_exact(trace.ablation_drops, naive_drops(trace), trace.logits)


def test_dead_channels_have_zero_drop():
    model = network_with_head("fully_connected_relu")
    with torch.no_grad():
        model.maps[0].weight[[1, 4]] = 0
        model.maps[0].bias[[1, 4]] = -1
    dead = (make_trace(model, "maps", 6).ablation_drops == 0).tolist()
    assert dead == [[False, True, False, False, True, False]] * 2


def test_if_all_channels_are_dead_no_pass_is_run():
    """This also holds for a network that runs in whole passes."""
    model = deciding().double()
    model.get_submodule("conv").requires_grad_(False).weight.zero_()
    model.conv.bias.zero_()
    trace = make_trace(model, "conv", 6)
    before = trace.cut_model.passes.head_forward
    assert not trace.ablation_drops.any()
    assert trace.cut_model.passes.head_forward == before + 2  # the scores of both images


@pytest.mark.parametrize(
    ("build", "layer", "size"),
    [
        pytest.param(models.squeezenet1_1, "features.11", 64, marks=pytest.mark.slow),
        pytest.param(models.resnet18, "layer3.1.conv2", 32, marks=pytest.mark.slow),
        (models.mobilenet_v3_small, "features.12", 32),
        (lambda: behind_maps(fully_connected(nn.ReLU())), "maps", 6),
    ],
)
def test_float32_is_closer_to_float64_than_brute_force(build, layer, size):
    torch.manual_seed(0)
    model = with_random_statistics(build())
    exact = make_trace(model, layer, size)
    single = ab.cut(model.float(), layer).trace(exact.images.float(), exact.targets)
    rough = brute_force(single, 256 * MEBIBYTE)
    drops = single.ablation_drops
    in_float64 = ab.cut(model.double(), layer)
    in_float64.trace(exact.images)
    # The same activations, so that only the head's arithmetic is compared.
    sides = [side.double() if isinstance(side, Tensor) else side for side in single.network.sides]
    expected = brute_force_drops(
        in_float64.head,
        single.cut_model.trunk_and_head.side_kinds,
        single.activations.double(),
        tuple(sides),
        exact.targets[:, None],
        256 * MEBIBYTE,
    )[:, 0]
    error = (drops - expected).abs()
    rough_error = (rough - expected).abs()
    assert error.max() <= 1e-4 * expected.abs().max()
    assert error.median() <= rough_error.median()


@pytest.mark.parametrize(
    "head", ["fully_connected_relu", "class_maps", "convolutions", "pool_linear"]
)
def test_bf16_head_returns_float32_drops(head):
    model = network_with_head(head).float()
    images = torch.randn(3, 3, 6, 6)
    exact = ab.cut(model, "maps").trace(images).ablation_drops
    cut = ab.cut(model, "maps", head_precision="bf16")
    first = cut.trace(images).ablation_drops
    second = cut.trace(images).ablation_drops
    assert first.dtype == torch.float32
    # with the head's values kept in the trace, or evaluated again
    assert torch.equal(first, second)
    # bf16 keeps 8 bits, and a drop is a sum of some dozen rounded terms.
    torch.testing.assert_close(first, exact, rtol=0, atol=float(0.05 * exact.abs().max()))
