"""Tests of methods against their formulas, on the plain network, image by image, in float64."""

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.methods.augmented import augmented
from axiom_bench.methods.axiom_cam import SPLITS, axiom_cam
from axiom_bench.methods.equal_shares import equal_shares
from axiom_bench.methods.fem import fem
from axiom_bench.methods.fused import fused
from axiom_bench.methods.negated import negated
from axiom_bench.methods.opti_cam import opti_cam
from axiom_bench.methods.random import random as random_weights
from axiom_bench.methods.seg_xres_cam import seg_xres_cam
from axiom_bench.methods.shuffled_channels import shuffled_channels
from axiom_bench.methods.smooth_grad import smooth_grad
from axiom_bench.methods.smooth_grad_cam_pp import smooth_grad_cam_pp
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.methods.xgrad_cam import xgrad_cam as xgrad_cam_method
from axiom_bench.testing import CASES
from tests.methods.plain import (
    QUOTIENTS,
    Lines,
    Row,
    assert_formula,
    generator_of,
    head_of,
    maps_of,
    model_of,
    resized,
    upsampled,
)
from tests.methods.test_guided import GuidedReLU


def grad_cam_pp(row: Row, only_read_positions: bool = False) -> list[float]:
    """Return the weights. `only_read_positions` restricts the sum of F to positions with g != 0."""
    weights = []
    for F, g in zip(row.F.flatten(1).tolist(), row.g.flatten(1).tolist(), strict=True):
        total = 0.0
        for activation, gradient in zip(F, g, strict=True):
            if gradient != 0 or not only_read_positions:
                total += activation
        weight = 0.0
        for gradient in g:
            denominator = 2 * gradient**2 + gradient**3 * total
            alpha = gradient**2 / denominator if denominator != 0 else 0.0
            weight += alpha * max(gradient, 0.0)
        weights.append(weight)
    return weights


def seg_xres_cam_of(row: Row, window: int = 2, pooling: str = "mean") -> Tensor:
    """Follow the authors' block_reduce, with zeros beyond the border, and resize of order 0."""
    K, H, W = row.g.shape
    h = min(window, H)
    w = min(window, W)
    num_rows = math.ceil(H / h)
    num_columns = math.ceil(W / w)

    weights = torch.zeros(K, H, W, dtype=torch.float64)
    for k, y, x in itertools.product(range(K), range(H), range(W)):
        block_y = int((y + 0.5) * num_rows / H)
        block_x = int((x + 0.5) * num_columns / W)
        rows = slice(block_y * h, (block_y + 1) * h)
        columns = slice(block_x * w, (block_x + 1) * w)
        inside = row.g[k, rows, columns].flatten().tolist()
        block = inside + [0.0] * (h * w - len(inside))
        weights[k, y, x] = max(block) if pooling == "max" else sum(block) / (h * w)
    return weights


def space_maps(row: Row) -> Tensor:
    return torch.stack([plane.abs() / plane.abs().max() for plane in row.g])


def xgrad_cam(row: Row) -> Tensor:
    return (row.g * row.F).sum((1, 2)) / row.F.sum((1, 2))


def random(row: Row, seed: int = 0) -> Tensor:
    return torch.randn(len(row.F), generator=generator_of(row.image, seed), dtype=torch.float64)


def noisy(row: Row, sigma: float, seed: int) -> list[Tensor]:
    """Return three copies of the image with noise. `sigma` is a share of the image's range."""
    generator = generator_of(row.image, seed)
    spread = row.image.max() - row.image.min()
    copies = []
    for _ in range(3):
        draw = torch.randn(row.image.shape, generator=generator, dtype=torch.float64)
        copies.append(row.image + sigma * spread * draw)
    return copies


def smooth_grad_cam_pp_of(row: Row) -> Tensor:
    """Return weights from the image's maps and the gradient's powers, averaged over the copies."""
    copies = [maps_of(row.case, image[None])[0] for image in noisy(row, 0.2, 7)]
    g = torch.stack([row.gradient(head_of(row.case), maps) for maps in copies])
    D1, D2, D3 = (g.pow(power).mean(0) for power in (1, 2, 3))
    denominator = 2 * D2 + D3 * row.F.sum((1, 2))[:, None, None]
    alpha = torch.where(denominator != 0, D2 / denominator, 0)
    return (alpha * D1.clamp(min=0)).sum((1, 2))


def parts_of_gap(row: Row, split: str) -> Tensor:
    if split == "positive_drops":
        return row.drops.clamp(min=0)
    if split == "drops":
        return row.drops.abs()
    if split == "gradients":
        return (row.g * row.F).sum((1, 2)).abs()
    if split == "activations":
        return row.F.sum((1, 2)).abs()
    assert split == "uniform"
    return torch.ones_like(row.drops)


def axiom_cam_of(row: Row, t: float, split: str) -> Tensor:
    parts = parts_of_gap(row, split)
    gap = row.S - row.drops.sum()
    return (row.drops + t * parts / parts.sum() * gap) / row.F.sum((1, 2))


def parts_of_score(row: Row, shares: str) -> Tensor:
    if shares == "equal":
        return torch.ones(len(row.F))
    if shares == "activation":
        return row.F.sum((1, 2)).abs()
    assert shares == "random"
    return torch.rand(len(row.F), generator=generator_of(row.image, 3))


def equal_shares_of(row: Row, shares: str) -> Tensor:
    parts = parts_of_score(row, shares).double()
    return row.S * parts / parts.sum() / row.F.sum((1, 2))


def z_plus(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """Return R_j = sum_i (x_j w_ij)+ / sum_j' (x_j' w_ij')+ R_i."""
    shared = torch.zeros_like(x)
    for unit_weights, R in zip(weight, relevance, strict=True):
        parts = (x * unit_weights).clamp(min=0)
        if parts.any():
            shared = shared + parts / parts.sum() * R
    return shared


@torch.no_grad()
def relevance_cam(row: Row) -> Tensor:
    """Return each channel's relevance, propagated unit by unit down to the maps."""
    head = model_of(row.case).head
    behind_relu = row.F.clamp(min=0)
    start = torch.full((3,), -0.5, dtype=torch.float64)
    start[row.target] = 1.0
    if row.case.head == "pooled":
        # The relevance of a mean is shared among its positions, so the channel's sum is the mean's.
        return z_plus(behind_relu.mean((1, 2)), head[2].weight, start)
    x = behind_relu.flatten()
    hidden = (head[1].weight @ x + head[1].bias).clamp(min=0)
    hidden_relevance = z_plus(hidden, head[3].weight, start)
    return z_plus(x, head[1].weight, hidden_relevance).view(len(row.F), -1).sum(1)


@torch.no_grad()
def lift_cam(row: Row) -> Tensor:
    """Return the attributions of a linear layer, a ReLU and a linear layer.

    a_i = sum_h w2_h (relu(z_h) - relu(z0_h)) / (z_h - z0_h) w1_hi F_i, where z0 are the biases.
    """
    head = model_of(row.case).head
    first = head[1]
    second = head[3]
    F = row.F.flatten()
    if row.case is CASES["signed"]:  # a ReLU precedes the flattening
        F = F.clamp(min=0)
    z0 = first.bias
    z = first.weight @ F + z0
    ratios = (z.clamp(min=0) - z0.clamp(min=0)) / (z - z0)
    # The zero baseline switches some units. The gradient would be 0 or 1 there.
    assert ((ratios > 0) & (ratios < 1)).any()
    attributions = (second.weight[row.target] * ratios) @ first.weight * F
    return attributions.view(len(row.F), -1).sum(1)


def masked(row: Row, weights: Tensor) -> Tensor:
    """Return the image times the map of the weights (K,), scaled to [0, 1]."""
    mask = upsampled((weights[:, None, None] * row.F).sum(0), row.case.size)
    return row.image * (mask - mask.min()) / (mask.max() - mask.min())


def opti_cam_of(row: Row) -> Tensor:
    """Return the weights after 20 steps of torch's own Adam."""
    u = torch.full((len(row.F),), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.2)
    for _ in range(20):
        adam.zero_grad()
        logits = model_of(row.case)(masked(row, u.softmax(0))[None])
        loss = -logits[0, row.target]
        loss.backward(inputs=[u])
        adam.step()
    return u.detach().softmax(0)


def sobel(row: Row) -> list[list[float]]:
    height, width = row.case.size
    kernel = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    grey = row.image.mean(0).tolist()

    def length(y: int, x: int) -> float:
        across = 0.0
        down = 0.0
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            value = grey[min(max(y + dy, 0), height - 1)][min(max(x + dx, 0), width - 1)]
            across += kernel[dy + 1][dx + 1] * value
            down += kernel[dx + 1][dy + 1] * value
        return math.hypot(across, down)

    return [[length(y, x) for x in range(width)] for y in range(height)]


def centered(row: Row) -> Tensor:
    def gaussian(length: int) -> Tensor:
        offsets = [(i - (length - 1) / 2) / length for i in range(length)]
        values = [math.exp(-(offset**2) / (2 * 0.25**2)) for offset in offsets]
        return torch.tensor(values, dtype=torch.float64)

    height, width = row.case.size
    return torch.outer(gaussian(height), gaussian(width))


def guided_xgrad_cam(row: Row) -> Tensor:
    """Return the product of sum over RGB of |guided gradient| and the XGrad-CAM heatmap: its
    positive part, resized bilinearly and divided by its maximum.
    """
    swapped = copy.deepcopy(model_of(row.case))
    for parent in (swapped.features, swapped.head):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(parent, name, GuidedReLU())
    cam = (xgrad_cam(row)[:, None, None] * row.F).sum(0)
    positive = upsampled(cam.relu(), row.case.size)
    guided_gradient = row.gradient(swapped, row.image)
    return guided_gradient.abs().sum(0) * positive / positive.max()


def xgrad_map(row: Row, image: Tensor, layer: int = 3) -> Lines:
    """Return the XGrad-CAM map of any image at `features.<layer>`."""
    model = model_of(row.case)
    steps = [*model.features, *model.head]
    trunk = nn.Sequential(*steps[: layer + 1])
    head = nn.Sequential(*steps[layer + 1 :])
    F = trunk(image[None])[0].detach()
    products = (F * row.gradient(head, F)).sum((1, 2))
    totals = F.sum((1, 2))
    weights = torch.where(totals != 0, products / totals, 0)  # a small copy may have a dead channel
    return (weights[:, None, None] * F).sum(0).tolist()


def scaled_heatmap(raw: Lines, height: int, width: int) -> Tensor:
    """Apply a ReLU, resize, and divide by the maximum."""
    positive = [[max(value, 0.0) for value in line] for line in raw]
    heatmap = torch.tensor(resized(positive, height, width), dtype=torch.float64)
    return heatmap / heatmap.max() if heatmap.max() > 0 else heatmap


def augmented_of(row: Row) -> Tensor:
    """Return the mean of the heatmaps of copies, mapped back. The copies have three sizes, and each
    is also mirrored.
    """
    heatmaps = []
    for size in ((4, 6), (8, 12), (12, 18)):
        channels = [resized(channel, *size) for channel in row.image.tolist()]
        image = torch.tensor(channels, dtype=torch.float64)
        upright = scaled_heatmap(xgrad_map(row, image), *size)
        mirrored = scaled_heatmap(xgrad_map(row, image.flip(2)), *size).flip(1)
        heatmaps.append(resized(upright.tolist(), 8, 12))
        heatmaps.append(resized(mirrored.tolist(), 8, 12))
    return torch.tensor(heatmaps, dtype=torch.float64).mean(0)


def fused_of(row: Row, fusion: str) -> Tensor:
    first = scaled_heatmap(xgrad_map(row, row.image, layer=1), 8, 12)
    second = scaled_heatmap(xgrad_map(row, row.image, layer=3), 8, 12)
    if fusion == "mean":
        return (first + second) / 2
    if fusion == "maximum":
        return first.maximum(second)
    assert fusion == "product"
    return first * second


def permuted(row: Row, weights: Tensor) -> Tensor:
    """Permute the weights in an order that depends only on the image and a seed."""
    return weights[torch.randperm(4, generator=generator_of(row.image, 5))]


def negated_saliency(row: Row) -> Tensor:
    return -row.pixel_gradient(row.image).abs().amax(0)


def ss_grad_cam_pp(row: Row) -> Tensor:
    weights = torch.tensor(grad_cam_pp(row, only_read_positions=True), dtype=torch.float64)
    return weights[:, None, None] * space_maps(row)


def smooth_grad_of(row: Row) -> Tensor:
    gradients = [row.pixel_gradient(image) for image in noisy(row, 0.2, 5)]
    return (sum(gradients) / 3).abs().amax(0)


def smoothed_of(row: Row) -> Tensor:
    maps = [xgrad_map(row, image) for image in noisy(row, 0.2, 5)]
    return torch.tensor(maps, dtype=torch.float64).mean(0)


def fem_of(row: Row, deviations: float) -> Tensor:
    total = torch.zeros(row.F.shape[1:], dtype=torch.float64)
    for plane in row.F:
        is_strong = plane > plane.mean() + deviations * plane.std(correction=0)
        total += is_strong * plane.mean()
    return total


def cam_of(row: Row) -> Tensor:
    return model_of(row.case).head[-1].weight[row.target].detach() / 24


# Formulas of channel weights (K,), of weights at each position (K, h, w), or of maps.
BY_NAME = {
    "grad_cam": lambda row: row.g.mean((1, 2)),
    "grad_cam_pp": grad_cam_pp,
    "xgrad_cam": xgrad_cam,
    "ablation_cam": lambda row: row.drops / row.S,
    "ablation_cam_axiomatic": lambda row: row.drops / row.F.sum((1, 2)),
    "uniform": lambda row: torch.ones(len(row.F)),
    "random": random,
    "hires_cam": lambda row: row.g,
    "layer_cam": lambda row: row.g.clamp(min=0),
    "grad_cam_elementwise": lambda row: row.g * (row.g * row.F > 0),
    "relevance_cam": relevance_cam,
    "saliency": lambda row: row.pixel_gradient(row.image).abs().amax(0),
    "input_x_gradient": lambda row: (row.image * row.pixel_gradient(row.image)).sum(0),
    "sobel": sobel,
    "seg_xres_cam": seg_xres_cam_of,
    "ss_grad_cam": lambda row: row.g.mean((1, 2))[:, None, None] * space_maps(row),
    "ss_grad_cam_pp": ss_grad_cam_pp,
    "restricted_grad_cam": lambda row: row.g.mean((1, 2))[:, None, None] * (row.g != 0).any(0),
    "centered": centered,
    "guided_xgrad_cam": guided_xgrad_cam,
}
NOISE = {"samples": 3, "sigma": 0.2, "seed": 5}
WITH_PARAMETERS: dict[str, tuple[Callable, Callable]] = {}
for params in ({"window": 3, "pooling": "max"}, {"window": 5}, {"window": 1}):
    pair = (partial(seg_xres_cam, **params), partial(seg_xres_cam_of, **params))
    WITH_PARAMETERS[f"seg_xres_cam {params}"] = pair
WITH_PARAMETERS |= {
    "random, another seed": (partial(random_weights, seed=1), partial(random, seed=1)),
    "negated": (negated, lambda row: -xgrad_cam(row)),
    "negated map": (partial(negated, wrapped=methods.get("saliency")), negated_saliency),
}
WITH_PARAMETERS["shuffled"] = (
    partial(shuffled_channels, seed=5),
    lambda row: permuted(row, xgrad_cam(row)),
)
WITH_PARAMETERS["shuffled positions"] = (
    partial(shuffled_channels, wrapped=methods.get("hires_cam"), seed=5),
    lambda row: permuted(row, row.g),
)
for shares in ("equal", "activation", "random"):
    WITH_PARAMETERS[f"{shares} shares"] = (
        partial(equal_shares, shares=shares, seed=3),
        partial(equal_shares_of, shares=shares),
    )
WITH_PARAMETERS["smooth_grad"] = (partial(smooth_grad, **NOISE), smooth_grad_of)
WITH_PARAMETERS["smooth_grad_cam_pp"] = (
    partial(smooth_grad_cam_pp, samples=3, sigma=0.2, seed=7),
    smooth_grad_cam_pp_of,
)
for deviations in (2.0, 1.0):
    WITH_PARAMETERS[f"fem {deviations}"] = (
        partial(fem, deviations=deviations),
        partial(fem_of, deviations=deviations),
    )
for split, t in itertools.product(SPLITS, (0.0, 0.3, 1.0)):
    WITH_PARAMETERS[f"axiom_cam {split} {t}"] = (
        partial(axiom_cam, t=t, split=split),
        partial(axiom_cam_of, t=t, split=split),
    )
FORMULAS = {
    name: (methods.get(name), formula) for name, formula in BY_NAME.items()
} | WITH_PARAMETERS
# Methods that don't take every network. `smoothed`, `augmented` and `fused` are only tested on the
# network that takes images of any size.
SMOOTHED = partial(smoothed, wrapped=xgrad_cam_method, **NOISE)
AUGMENTED = partial(augmented, wrapped=xgrad_cam_method, scales=(0.5, 1.0, 1.5))
ON_SOME_NETWORKS = [
    ("pooled", methods.get("cam"), cam_of),
    ("dense", methods.get("lift_cam"), lift_cam),
    ("signed", methods.get("lift_cam"), lift_cam),
    ("pooled", SMOOTHED, smoothed_of),
    ("pooled", AUGMENTED, augmented_of),
]
for fusion in ("mean", "maximum", "product"):
    method = partial(fused, layers=["features.1"], wrapped=xgrad_cam_method, fusion=fusion)
    ON_SOME_NETWORKS.append(("pooled", method, partial(fused_of, fusion=fusion)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("method", "formula"), FORMULAS.values(), ids=FORMULAS)
def test_equals_the_formula(name, method, formula):
    assert_formula(CASES[name], method, formula, **QUOTIENTS)


@pytest.mark.parametrize(("name", "method", "formula"), ON_SOME_NETWORKS)
def test_equals_the_formula_on_some_networks(name, method, formula):
    assert_formula(CASES[name], method, formula, **QUOTIENTS)


@pytest.mark.parametrize("name", CASES)
def test_opti_cam_equals_torch_adam(name):
    method = partial(opti_cam, iterations=20, learning_rate=0.2)
    # Adam divides by the gradient's size, so rounding of the gradient is amplified to 1e-9.
    assert_formula(CASES[name], method, opti_cam_of, rtol=0, atol=1e-9)
