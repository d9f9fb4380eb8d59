"""Sanity checks.

Similarities are checked against scipy and by hand. The other tests check randomised copies, maps
that fail by design, and noise.
"""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.numerics import generators
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.model_parameter_randomisation_efficient import histogram_entropy
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.randomised import (
    fully_randomised,
    layers_top_down,
    randomised,
    reinitialised,
)
from axiom_bench.metrics.shared.similarity import pearson, spearman, ssim
from tests.metrics.build import close, explained, functions, status, statuses, tensor

(
    mpr,
    efficient,
    smooth,
    random_logit,
    explanation_sensitivity,
    local_lipschitz,
    relative_stability,
) = functions(
    "model_parameter_randomisation",
    "model_parameter_randomisation_efficient",
    "model_parameter_randomisation_smooth",
    "random_logit",
    "explanation_sensitivity",
    "local_lipschitz",
    "relative_stability",
)


def maps(seed: int, shape: tuple[int, ...] = (3, 9, 7)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shape, generator=generator, dtype=torch.float64)
    difference = torch.randn(shape, generator=generator, dtype=torch.float64)
    return first, first + difference


def test_correlations_are_scipys():
    first, second = maps(0)
    second[1] = second[1].round()  # ties
    for row in range(3):
        a = first[row].flatten().numpy()
        b = second[row].flatten().numpy()
        scaled = np.round(a / np.abs(a).max(), 6)
        expected_pearson = stats.pearsonr(a, b).statistic
        expected_spearman = stats.spearmanr(scaled, b).statistic
        assert float(pearson(first, second)[row]) == pytest.approx(expected_pearson, abs=1e-14)
        assert float(spearman(first, second)[row]) == pytest.approx(expected_spearman, abs=1e-14)


def test_ssim_is_a_loop_over_windows():
    magnitudes = [raw.abs() for raw in maps(1, (2, 15, 13))]
    first, second = (raw / raw.amax((1, 2), keepdim=True) for raw in magnitudes)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    square = np.outer(line, line)
    window = square / square.sum()
    C1 = 0.01**2
    C2 = 0.03**2
    for row in range(2):
        values = []
        for y, x in itertools.product(range(5), range(3)):
            a = first[row, y : y + 11, x : x + 11].numpy()
            b = second[row, y : y + 11, x : x + 11].numpy()
            mean_a = (window * a).sum()
            mean_b = (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            numerator = (2 * mean_a * mean_b + C1) * (2 * cov + C2)
            denominator = (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
            values.append(numerator / denominator)
        assert float(ssim(first, second)[row]) == pytest.approx(np.mean(values), abs=1e-13)


def test_ssim_of_constant_maps_by_hand():
    """Check (2 a b + C1) / (a^2 + b^2 + C1), the SSIM of maps a and b without spread.

    Two empty maps are the same map.
    """
    low = torch.full((1, 12, 12), 0.25)
    high = torch.full((1, 12, 12), 0.75)
    close(ssim(low, high), (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4))
    assert float(ssim(0 * low, 0 * low)) == 1
    assert float(ssim(0 * low, high)) < 1e-3
    for side in (1, 2, 3, 10):  # smaller than the window
        close(ssim(low[:, :side], low[:, :side]), 1)


def test_what_rounding_leaves_of_a_constant_map_correlates_with_nothing():
    first, _ = maps(2)
    for dtype, step in ((torch.float32, 3e-7), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
        noise = 1 + step * (first > 0).double()
        for level in (1.7, -3e4, 1e-3):
            flat = (level * noise).to(dtype)
            assert (flat.amax((1, 2)) > flat.amin((1, 2))).all()
            assert pearson(level * noise, first).isfinite().all()  # in float64 it is no rounding
            for kind in (pearson, spearman):
                assert kind(flat, first).isnan().all()
                assert kind(first.to(dtype), flat).isnan().all()
                assert kind((level * (1 + 0.1 * first)).to(dtype), first).isfinite().all()


class Crossed(nn.Module):
    """A network whose layers are registered in another order than they are run in.

    The network has a parameter of its own, and a layer that isn't used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4 * 16, 3)
        self.offset = nn.Parameter(torch.randn(1, 3, 1, 1))
        self.second = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(3, 4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        activations = torch.relu(self.second(self.first(images + self.offset)))
        logits: Tensor = self.last(activations.flatten(1))
        return logits


@pytest.fixture
def crossed() -> Crossed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = Crossed()
        model.second.running_mean = torch.randn(4)
        nn.init.normal_(model.second.weight)
    return model.double().train()


IMAGE = torch.randn(1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_layers_are_ordered_by_execution_not_by_registration(crossed):
    assert layers_top_down(crossed, IMAGE)[:3] == ["last", "second", "first"]
    assert set(layers_top_down(crossed, IMAGE)) == {"last", "second", "first", "", "unused"}


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {
        name.rpartition(".")[0]
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }


def test_cascading_goes_on_where_independent_starts_anew(crossed):
    before = parameters(crossed)
    layers = layers_top_down(crossed, IMAGE)
    cascading = randomised(crossed, IMAGE, "cascading", 5, seed=0)
    independent = randomised(crossed, IMAGE, "independent", 5, seed=0)
    for stage in range(5):
        assert changed(before, cascading[stage]) == set(layers[: stage + 1])
        assert changed(before, independent[stage]) == {layers[stage]}
        for model in (cascading[stage], independent[stage]):
            assert not model.training
            expected = cascading[-1].get_submodule(layers[stage])._parameters
            actual = model.get_submodule(layers[stage])._parameters
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert changed(before, crossed) == set()
    assert crossed.training
    for parameter in crossed.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
    assert not any(module._forward_pre_hooks for module in crossed.modules())


def test_groups_of_nearly_equal_count_and_at_most_one_for_each_layer(crossed):
    before = parameters(crossed)
    two = randomised(crossed, IMAGE, "cascading", 2, seed=0)
    assert [len(changed(before, model)) for model in two] == [3, 5]
    assert len(randomised(crossed, IMAGE, "independent", 50, seed=0)) == 5


def test_copies_share_what_was_not_drawn_and_each_other_draws(crossed):
    def shares(parameter, other):
        return parameter.data_ptr() == other.data_ptr()

    first, second = randomised(crossed, IMAGE, "cascading", 2, seed=0)
    assert shares(first.offset, crossed.offset)
    assert not shares(second.offset, crossed.offset)
    assert shares(first.last.weight, second.last.weight)
    assert not shares(second.last.weight, crossed.last.weight)


def test_a_draw_depends_on_seed_and_name_alone(crossed):
    names = ["last", "second", "first", ""]
    state = torch.get_rng_state()
    all_layers = reinitialised(crossed, names, seed=0)
    assert torch.equal(torch.get_rng_state(), state)

    one_layer = reinitialised(copy.deepcopy(crossed).float(), ["first"], seed=0)
    other_seed = reinitialised(crossed, ["first"], seed=1)
    weight = all_layers.first.weight
    assert weight.dtype == torch.float64
    torch.testing.assert_close(weight, one_layer.first.weight.double(), rtol=0, atol=0)
    assert not torch.equal(other_seed.first.weight, weight)

    # torch's own initialisation: uniform, kaiming with a = sqrt(5)
    largest_possible = 1 / np.sqrt(27)
    assert float(weight.abs().max()) <= largest_possible
    assert torch.equal(all_layers.second.running_mean, torch.zeros(4, dtype=torch.float64))
    spread = float(all_layers.offset.std(correction=0))
    spread_before = float(crossed.offset.detach().std(correction=0))
    assert spread < 10 * spread_before


class Gained(nn.Conv2d):
    """A convolution with a parameter that the inherited reset doesn't know."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.gain = nn.Parameter(torch.rand(args[1], 1, 1) + 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * super().forward(images)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.utils.weight_norm(nn.Conv2d(3, 4, 3)),
        lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        lambda: Gained(3, 4, 3),
    ],
)
def test_a_reset_that_leaves_a_parameter_in_place_is_not_all(layer, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(layer(), nn.Flatten()).to(dtype).eval()
    names = [
        name for name, module in model.named_modules() if list(module.parameters(recurse=False))
    ]
    before = dict(model.named_parameters())
    drawn = reinitialised(model, names, seed=0)
    for name, parameter in drawn.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.dtype == dtype
        if name.endswith(("weight_g", "gain")):  # without a reset: drawn by its mean and spread
            assert (parameter - before[name].mean()).abs().amax() < 5 * before[name].std()
    image = IMAGE.to(dtype)
    (copied,) = randomised(model, image, "cascading", 1, seed=0)
    assert not torch.allclose(copied(image), model(image))
    torch.testing.assert_close(copied(image), reinitialised(model, names, seed=0)(image))


def test_what_a_reset_makes_constant_stays_so():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.Linear(6, 2))
    model[2].bias.data.fill_(0.25)
    drawn = reinitialised(model, ["0", "1", "2"], seed=0)
    for norm in (drawn[0], drawn[1]):
        assert torch.equal(norm.weight, torch.ones(3))
        assert torch.equal(norm.bias, torch.zeros(3))
    assert not torch.equal(drawn[2].bias, model[2].bias)


def edges(trace: ab.Trace) -> ab.Map:
    """Compute a map only from the image, so that no model changes it."""
    brightness = trace.images.mean(1).cpu().numpy()
    return ab.Map(torch.from_numpy(ndimage.laplace(brightness, axes=(1, 2))))


def test_a_map_of_the_image_alone_fails_every_sanity_check(trace):
    explanation = explained(trace, edges)
    for order in ("cascading", "independent"):
        for kind in ("spearman", "pearson", "ssim"):
            close(randomisation(explanation, order, similarity=kind), 1)
    close(random_logit(explanation), 1)
    close(smooth(explanation, samples=3), 1)
    assert efficient(explanation).tolist() == [0] * 4


def randomisation(explanation: Explanation, *args: str, **params) -> Tensor:
    return mpr(explanation, *args, **params)["model_parameter_randomisation"]


def maps_of(model: nn.Module, trace: ab.Trace, images: Tensor) -> Tensor:
    other = ab.trace(model, trace.layer, images, trace.targets)
    return (other.gradients * other.activations).sum(1)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_randomisation_is_the_mean_over_models_that_one_makes_by_hand(trace, explanation, order):
    answer = mpr(explanation, order, stages=2, similarity="pearson", seed=3)
    models = randomised(trace.cut_model.model, trace.images[:1], order, 2, seed=3)
    expected = [
        pearson(explanation.raw_map, maps_of(model, trace, trace.images)) for model in models
    ]
    close(answer["model_parameter_randomisation"], sum(expected) / 2, atol=1e-10)
    close(answer["randomisation"], torch.stack(expected, dim=1), atol=1e-10)
    assert (answer["model_parameter_randomisation"] < 0.9).all()


def test_models_are_made_once_for_a_cut(trace, explanation, monkeypatch):
    mpr(explanation, stages=3)
    monkeypatch.setattr("axiom_bench.metrics.model_parameter_randomisation.randomised", None)
    before = trace.passes.trunk_forward
    mpr(replace(explanation), stages=3)
    assert trace.passes.trunk_forward - before == 3 * len(trace)
    assert fully_randomised(trace, 0) is fully_randomised(replace(trace), 0)
    assert fully_randomised(trace, 1) is not fully_randomised(trace, 0)


def test_two_empty_pictures_are_not_alike(trace, explanation):
    """Check that empty heatmaps have no similarity.

    Their SSIM is 1, which would say that a map that shows nothing doesn't depend on the class.
    """

    def explanation_with_empty(*empty_classes: int) -> Explanation:
        def method(trace: ab.Trace) -> ab.Map:
            raw = 1 + trace.activations.sum(1)
            is_empty = torch.tensor([int(target) in empty_classes for target in trace.targets])
            return ab.Map(torch.where(is_empty[:, None, None], -raw, raw))

        return replace(explained(trace, method), others=explanation.others)

    one_empty = explanation_with_empty(0)
    three_empty = explanation_with_empty(0, 1, 4)
    for name in ("random_logit", "model_parameter_randomisation", "class_correlation"):
        # Spearman compares signed raw maps, which aren't empty.
        assert statuses(name, one_empty, similarity="ssim")[name][0] == "zero_map"
        assert statuses(name, one_empty, similarity="spearman")[name][0] == "ok"
    by_ssim = statuses("class_correlation", three_empty, similarity="ssim")
    by_pearson = statuses("class_correlation", three_empty, similarity="pearson")
    assert by_ssim == {"class_correlation": ("zero_map", "zero_map", "ok", "constant_map")}
    assert by_pearson == {"class_correlation": ("ok",) * 4}


def test_random_logit_explains_another_class_of_the_images_own_choice(trace, explanation):
    chosen: list[Tensor] = []

    def watched(trace: ab.Trace) -> Tensor:
        chosen.append(trace.targets)
        return trace.gradients

    actual = random_logit(replace(explanation, method=watched))
    assert (chosen[0] != trace.targets).all()
    other = trace.again(targets=chosen[0])
    raw = (other.gradients * other.activations).sum(1)
    close(actual, ssim(explanation.heatmap, ab.heatmap(raw, (12, 12))), atol=1e-10)
    for seed in range(30):
        random_logit(replace(explanation, method=watched), seed=seed)
    all_except_the_explained = {1, 2, 3, 4}
    assert {int(targets[0]) for targets in chosen} == all_except_the_explained


def test_entropy_by_hand():
    """Check four values in three bins of [0, 3], whose counts are 2, 1 and 1.

    A constant map has an entropy of 0, and a map that isn't finite has infinity.
    """
    four_values = [[0.0, 0.5], [1.5, 3.0]]
    constant = [[2, 2], [2, 2]]
    infinite = [[0, 1], [2, np.inf]]
    raw = tensor(four_values, constant, infinite)
    actual = histogram_entropy(Explanation(raw_map=raw, heatmap=torch.zeros(3, 2, 2)), bins=3)
    assert actual.tolist() == pytest.approx([1.5 * np.log(2), np.nan, np.inf], nan_ok=True)


@pytest.mark.parametrize("factor", [3, 0.1, 1e6])
def test_entropy_of_values_on_the_bins_edges_is_free_of_scale(factor):
    """Check eleven values a tenth of the range apart: one in each of nine bins, two in the last."""
    raw = factor * (torch.arange(11).double()[None, None] / 10)
    explanation = Explanation(raw_map=raw, heatmap=torch.zeros(1, 1, 11))
    actual = histogram_entropy(explanation, bins=10)
    assert actual.item() == pytest.approx(stats.entropy([1] * 9 + [2]))


def test_efficient_is_the_rise_of_the_histograms_entropy(trace, explanation):
    (model,) = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed=0)
    other = Explanation.of(trace, ab.Map(maps_of(model, trace, trace.images)))
    actual = efficient(explanation)
    maps = enlarged(explanation).numpy()
    random_maps = enlarged(other).numpy()
    for row in range(len(maps)):
        H = stats.entropy(np.histogram(maps[row], 100)[0])
        H_random = stats.entropy(np.histogram(random_maps[row], 100)[0])
        close(actual[row], (H_random - H) / H)


def test_a_map_that_becomes_constant_has_no_value(trace):
    model = trace.cut_model.model

    def lost(trace: ab.Trace) -> ab.Map:
        raw = trace.activations.sum(1)
        return ab.Map(raw if trace.cut_model.model is model else torch.ones_like(raw))

    explanation = explained(trace, lost)
    for name in ("efficient", "smooth"):
        metric = f"model_parameter_randomisation_{name}"
        assert status(metric, explanation) == {"constant_map"}


def test_smooth_compares_means_over_noisy_images_and_the_image_itself(trace, explanation):
    noise = 0.3
    samples = 4
    seed = 2
    (model,) = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed)
    largest = trace.images.amax((1, 2, 3), keepdim=True)
    smallest = trace.images.amin((1, 2, 3), keepdim=True)
    spread = largest - smallest
    copies = [trace.images]
    for sample in range(samples - 1):
        normal = []
        for generator in generators(trace.images, f"{seed} smooth {sample}"):
            normal.append(torch.randn(3, 12, 12, generator=generator, dtype=torch.float64))
        copies.append(trace.images + noise * spread * torch.stack(normal))
    means = []
    for network in (trace.cut_model.model, model):
        maps_of_copies = [maps_of(network, trace, images) for images in copies]
        means.append(torch.stack(maps_of_copies).mean(0))
    close(smooth(explanation, samples, noise, seed=seed), spearman(*means), atol=1e-10)


def nearby(trace: ab.Trace, row: int) -> Tensor:
    """Return three copies of an image with uniform noise in float64.

    Each copy's noise is from the generator of the image and the sample.
    """
    image = trace.images[row]
    noise = []
    for sample in range(3):
        generator = generators(trace.images, f"7 nearby {sample}")[row]
        noise.append(torch.rand(image.shape, generator=generator, dtype=torch.float64))
    return image + 0.1 * (2 * torch.stack(noise) - 1)


def test_sensitivity_is_that_of_explanations_of_noisy_images_for_the_same_class(trace, explanation):
    actual = explanation_sensitivity(explanation, radius=0.1, samples=3, seed=7)
    lipschitz = local_lipschitz(explanation, radius=0.1, samples=3, seed=7)
    for row, image in enumerate(trace.images):
        copies = nearby(trace, row)
        near = ab.trace(trace.cut_model.model, trace.layer, copies, trace.targets[row].expand(3))
        raw = (near.gradients * near.activations).sum(1)
        raw_map = explanation.raw_map[row]
        moved = (raw - raw_map).flatten(1).norm(dim=1) / raw_map.norm()
        distance = (copies - image).flatten(1).norm(dim=1)
        close(lipschitz[row], (moved / distance).max(), rtol=1e-10)
        close(actual["max_sensitivity"][row], moved.max(), rtol=1e-10)
        close(actual["avg_sensitivity"][row], moved.mean(), rtol=1e-10)


@pytest.mark.parametrize("smallest", [1e-12, 0.5])
def test_relative_stability_is_the_largest_quotient_of_relative_changes(
    trace, explanation, smallest
):
    """Check the quotients by a loop over values.

    With 1e-12 they are as Agarwal et al. define them if no value is 0, as behind a sigmoid.
    """
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    net = nn.Sequential(conv, nn.Sigmoid(), nn.Flatten(), nn.Linear(400, 3)).double()
    trace = ab.trace(net, "1", trace.images, trace.targets % 3)
    explanation = explained(trace, lambda trace: trace.gradients)
    actual = relative_stability(explanation, radius=0.1, samples=3, smallest=smallest, seed=7)

    def relative_change(first: Tensor, second: Tensor) -> float:
        before = first.flatten().tolist()
        after = second.flatten().tolist()
        least = smallest * max(map(abs, before))
        squares = 0.0
        for x, y in zip(before, after, strict=True):
            squares += ((y - x) / max(abs(x), least)) ** 2
        return squares**0.5

    for row, image in enumerate(trace.images):
        quotients = []
        for noisy in nearby(trace, row):
            near = ab.trace(net, "1", noisy[None], trace.targets[row : row + 1])
            near_map = (near.gradients * near.activations).sum(1)[0]
            map_change = relative_change(explanation.raw_map[row], near_map)
            image_change = relative_change(image, noisy)
            activation_change = relative_change(trace.activations[row], near.activations[0])
            logit_change = float((near.logits[0] - trace.logits[row]).norm())
            changes = (image_change, activation_change, logit_change)
            quotients.append([map_change / change for change in changes])
        expected = tensor(*quotients).amax(0)
        close([float(value[row]) for value in actual.values()], expected, rtol=1e-9)
    assert list(actual) == [
        f"relative_{name}_stability" for name in ("input", "representation", "output")
    ]
