"""Methods against their formulas: each image by itself, on the plain network, in float64."""

import copy
import itertools
import math
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


def grad_cam_pp(row: Row, read: bool = False) -> list[float]:
    """read: with the sum of F over the positions where g isn't 0 alone."""
    weights = []
    for F, g in zip(row.F.flatten(1).tolist(), row.g.flatten(1).tolist(), strict=True):
        total = sum(value for value, each in zip(F, g, strict=True) if each != 0 or not read)
        denominators = [2 * each**2 + each**3 * total for each in g]
        alphas = [each**2 / d if d != 0 else 0.0 for each, d in zip(g, denominators, strict=True)]
        weights.append(sum(alpha * max(each, 0.0) for alpha, each in zip(alphas, g, strict=True)))
    return weights


def seg_xres_cam_of(row: Row, window: int = 2, pooling: str = "mean") -> Tensor:
    """The authors' block_reduce, with zeros behind the border, and resize of order 0."""
    K, H, W = row.g.shape
    pooled, (h, w) = {}, (min(window, side) for side in (H, W))
    for k, y, x in itertools.product(range(K), range(math.ceil(H / h)), range(math.ceil(W / w))):
        inside = row.g[k, y * h : (y + 1) * h, x * w : (x + 1) * w].flatten().tolist()
        block = inside + [0.0] * (h * w - len(inside))
        pooled[k, y, x] = max(block) if pooling == "max" else sum(block) / (h * w)
    at = [
        [int((i + 0.5) * math.ceil(side / each) / side) for i in range(side)]
        for side, each in ((H, h), (W, w))
    ]
    return torch.tensor(
        [[[pooled[k, y, x] for x in at[1]] for y in at[0]] for k in range(K)], dtype=torch.float64
    )


def space_maps(row: Row) -> Tensor:
    return torch.stack([plane.abs() / plane.abs().max() for plane in row.g])


def xgrad_cam(row: Row) -> Tensor:
    return (row.g * row.F).sum((1, 2)) / row.F.sum((1, 2))


def random(row: Row, seed: int = 0) -> Tensor:
    return torch.randn(len(row.F), generator=generator_of(row.image, seed), dtype=torch.float64)


def noisy(row: Row, sigma: float, seed: int) -> list[Tensor]:
    """Three copies of the image; sigma is a share of its range."""
    draw, spread = generator_of(row.image, seed), row.image.max() - row.image.min()
    noise = [torch.randn(row.image.shape, generator=draw, dtype=torch.float64) for _ in range(3)]
    return [row.image + sigma * spread * each for each in noise]


def smooth_grad_cam_pp_of(row: Row) -> Tensor:
    """The means over copies of the gradient's powers, and the image's maps."""
    copies = [maps_of(row.case, each[None])[0] for each in noisy(row, 0.2, 7)]
    g = torch.stack([row.gradient(head_of(row.case), maps) for maps in copies])
    D1, D2, D3 = (g.pow(power).mean(0) for power in (1, 2, 3))
    denominator = 2 * D2 + D3 * row.F.sum((1, 2))[:, None, None]
    alpha = torch.where(denominator != 0, D2 / denominator, 0)
    return (alpha * D1.clamp(min=0)).sum((1, 2))


def axiom_cam_of(row: Row, t: float, split: str) -> Tensor:
    parts = {
        "positive_drops": row.drops.clamp(min=0),
        "drops": row.drops.abs(),
        "gradients": (row.g * row.F).sum((1, 2)).abs(),
        "activations": row.F.sum((1, 2)).abs(),
        "uniform": torch.ones_like(row.drops),
    }[split]
    gap = row.S - row.drops.sum()
    return (row.drops + t * parts / parts.sum() * gap) / row.F.sum((1, 2))


def equal_shares_of(row: Row, shares: str) -> Tensor:
    parts = {
        "equal": torch.ones(len(row.F)),
        "activation": row.F.sum((1, 2)).abs(),
        "random": torch.rand(len(row.F), generator=generator_of(row.image, 3)),
    }[shares].double()
    return row.S * parts / parts.sum() / row.F.sum((1, 2))


def z_plus(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_j = sum_i (x_j w_ij)+ / sum_j' (x_j' w_ij')+ R_i."""
    shared = torch.zeros_like(x)
    for line, R in zip(weight, relevance, strict=True):
        parts = (x * line).clamp(min=0)
        if parts.any():
            shared = shared + parts / parts.sum() * R
    return shared


@torch.no_grad()
def relevance_cam(row: Row) -> Tensor:
    """Relevance unit by unit, down to the maps."""
    head, behind_relu = model_of(row.case).head, row.F.clamp(min=0)
    start = torch.full((3,), -0.5, dtype=torch.float64).index_fill(0, torch.tensor(row.target), 1.0)
    # what a mean gets is shared among its positions, and adds up to it
    if row.case.head == "pooled":
        return z_plus(behind_relu.mean((1, 2)), head[2].weight, start)
    x = behind_relu.flatten()
    hidden = (head[1].weight @ x + head[1].bias).clamp(min=0)
    return (
        z_plus(x, head[1].weight, z_plus(hidden, head[3].weight, start)).view(len(row.F), -1).sum(1)
    )


@torch.no_grad()
def lift_cam(row: Row) -> Tensor:
    """Linear, ReLU, linear: a_i = sum_h w2_h (relu(z_h) - relu(z0_h)) / (z_h - z0_h) w1_hi F_i, z0
    the biases.
    """
    first, second = model_of(row.case).head[1], model_of(row.case).head[3]
    F = row.F.flatten()
    F = F.clamp(min=0) if row.case is CASES["signed"] else F  # a ReLU stands before the flattening
    z, empty = first.weight @ F + first.bias, first.bias
    ratios = (z.clamp(min=0) - empty.clamp(min=0)) / (z - empty)
    assert (
        (ratios > 0) & (ratios < 1)
    ).any()  # units that the zero baseline switches: the gradient would say 0 or 1
    return ((second.weight[row.target] * ratios) @ first.weight * F).view(len(row.F), -1).sum(1)


def masked(row: Row, weights: Tensor) -> Tensor:
    """The image times the map of the weights (K,), scaled to [0, 1]."""
    mask = upsampled((weights[:, None, None] * row.F).sum(0), row.case.size)
    return row.image * (mask - mask.min()) / (mask.max() - mask.min())


def opti_cam_of(row: Row) -> Tensor:
    """20 steps of torch's own Adam."""
    u = torch.full((len(row.F),), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.2)
    for _ in range(20):
        adam.zero_grad()
        (-model_of(row.case)(masked(row, u.softmax(0))[None])[0, row.target]).backward(inputs=[u])
        adam.step()
    return u.detach().softmax(0)


def sobel(row: Row) -> list[list[float]]:
    height, width = row.case.size
    kernel, grey = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], row.image.mean(0).tolist()

    def length(y: int, x: int) -> float:
        across = down = 0.0
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            value = grey[min(max(y + dy, 0), height - 1)][min(max(x + dx, 0), width - 1)]
            across += kernel[dy + 1][dx + 1] * value
            down += kernel[dx + 1][dy + 1] * value
        return math.hypot(across, down)

    return [[length(y, x) for x in range(width)] for y in range(height)]


def centered(row: Row) -> Tensor:
    down, across = (
        torch.tensor(
            [math.exp(-(((i - (n - 1) / 2) / n) ** 2) / (2 * 0.25**2)) for i in range(n)],
            dtype=torch.float64,
        )
        for n in row.case.size
    )
    return torch.outer(down, across)


def guided_xgrad_cam(row: Row) -> Tensor:
    """The positive part of the XGrad-CAM map, resized bilinearly and scaled to 1, times sum over
    RGB of |gradient|.
    """
    swapped = copy.deepcopy(model_of(row.case))
    for parent in (swapped.features, swapped.head):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(parent, name, GuidedReLU())
    positive = upsampled((xgrad_cam(row)[:, None, None] * row.F).sum(0).relu(), row.case.size)
    return row.gradient(swapped, row.image).abs().sum(0) * positive / positive.max()


def xgrad_map(row: Row, image: Tensor, layer: int = 3) -> Lines:
    """The XGrad-CAM map of any image at `features.<layer>`."""
    steps = [*model_of(row.case).features, *model_of(row.case).head]
    F = nn.Sequential(*steps[: layer + 1])(image[None])[0].detach()
    products, totals = F * row.gradient(nn.Sequential(*steps[layer + 1 :]), F), F.sum((1, 2))
    # a small copy may leave a channel dead
    weights = torch.where(totals != 0, products.sum((1, 2)) / totals, 0)
    return (weights[:, None, None] * F).sum(0).tolist()


def scaled_heatmap(raw: Lines, height: int, width: int) -> Tensor:
    """ReLU, resize, divide by the maximum."""
    lines = resized([[max(value, 0.0) for value in line] for line in raw], height, width)
    heatmap = torch.tensor(lines, dtype=torch.float64)
    return heatmap / heatmap.max() if heatmap.max() > 0 else heatmap


def augmented_of(row: Row) -> Tensor:
    """The mean of the heatmaps mapped back: of sizes 8 x 12, 4 x 6 and 12 x 18, each mirrored
    too.
    """
    back = []
    for size in ((4, 6), (8, 12), (12, 18)):
        image = torch.tensor(
            [resized(channel, *size) for channel in row.image.tolist()], dtype=torch.float64
        )
        upright = scaled_heatmap(xgrad_map(row, image), *size)
        mirrored = scaled_heatmap(xgrad_map(row, image.flip(2)), *size).flip(1)
        back += [resized(each.tolist(), 8, 12) for each in (upright, mirrored)]
    return torch.tensor(back, dtype=torch.float64).mean(0)


def fused_of(row: Row, fusion: str) -> Tensor:
    first, second = (scaled_heatmap(xgrad_map(row, row.image, layer), 8, 12) for layer in (1, 3))
    return {
        "mean": (first + second) / 2,
        "maximum": first.maximum(second),
        "product": first * second,
    }[fusion]


def permuted(row: Row, weights: Tensor) -> Tensor:
    """In an order by hashlib and torch alone."""
    return weights[torch.randperm(4, generator=generator_of(row.image, 5))]


# Weights (K,) or (K, h, w), or maps
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
    "ss_grad_cam_pp": lambda row: (
        row.g.new_tensor(grad_cam_pp(row, read=True))[:, None, None] * space_maps(row)
    ),
    "restricted_grad_cam": lambda row: row.g.mean((1, 2))[:, None, None] * (row.g != 0).any(0),
    "centered": centered,
    "guided_xgrad_cam": guided_xgrad_cam,
}
NOISE = {"samples": 3, "sigma": 0.2, "seed": 5}
OF_PARAMETERS = {
    **{f"seg_xres_cam {each}": (partial(seg_xres_cam, **each), partial(seg_xres_cam_of, **each))
       for each in ({"window": 3, "pooling": "max"}, {"window": 5}, {"window": 1})},
    "random, another seed": (partial(random_weights, seed=1), partial(random, seed=1)),
    "negated": (negated, lambda row: -xgrad_cam(row)),
    "negated map": (partial(negated, wrapped=methods.get("saliency")), lambda row: -BY_NAME["saliency"](row)),
    "shuffled": (partial(shuffled_channels, seed=5), lambda row: permuted(row, xgrad_cam(row))),
    "shuffled positions": (
        partial(shuffled_channels, wrapped=methods.get("hires_cam"), seed=5), lambda row: permuted(row, row.g),
    ),
    **{f"{each} shares": (partial(equal_shares, shares=each, seed=3), partial(equal_shares_of, shares=each))
       for each in ("equal", "activation", "random")},
    "smooth_grad": (
        partial(smooth_grad, **NOISE),
        lambda row: (sum(map(row.pixel_gradient, noisy(row, 0.2, 5))) / 3).abs().amax(0),
    ),
    "smooth_grad_cam_pp": (partial(smooth_grad_cam_pp, samples=3, sigma=0.2, seed=7), smooth_grad_cam_pp_of),
    **{f"fem {each}": (partial(fem, deviations=each), lambda row, each=each: torch.from_numpy(
        sum((plane > plane.mean() + each * plane.std()) * plane.mean() for plane in row.F.numpy())
    )) for each in (2.0, 1.0)},
    **{f"axiom_cam {split} {t}": (partial(axiom_cam, t=t, split=split), partial(axiom_cam_of, t=t, split=split))
       for split in SPLITS for t in (0.0, 0.3, 1.0)},
}  # fmt: skip
FORMULAS = {name: (methods.get(name), formula) for name, formula in BY_NAME.items()} | OF_PARAMETERS
ON_SOME = [
    ("pooled", methods.get("cam"), lambda row: model_of(row.case).head[-1].weight[row.target].detach() / 24),
    *((name, methods.get("lift_cam"), lift_cam) for name in ("dense", "signed")),
    # the first takes images of any size
    ("pooled", partial(smoothed, wrapped=xgrad_cam_method, **NOISE),
     lambda row: torch.tensor([xgrad_map(row, each) for each in noisy(row, 0.2, 5)], dtype=torch.float64).mean(0)),
    ("pooled", partial(augmented, wrapped=xgrad_cam_method, scales=(0.5, 1.0, 1.5)), augmented_of),
    *(("pooled", partial(fused, layers=["features.1"], wrapped=xgrad_cam_method, fusion=fusion),
       partial(fused_of, fusion=fusion)) for fusion in ("mean", "maximum", "product")),
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("method", "formula"), FORMULAS.values(), ids=FORMULAS)
def test_equals_the_formula(name, method, formula):
    assert_formula(CASES[name], method, formula, **QUOTIENTS)


@pytest.mark.parametrize(("name", "method", "formula"), ON_SOME)
def test_equals_the_formula_on_some_networks(name, method, formula):
    assert_formula(CASES[name], method, formula, **QUOTIENTS)


@pytest.mark.parametrize("name", CASES)
def test_opti_cam_equals_torch_adam(name):
    """Adam divides by the gradient's size, which brings its rounding up to that of the step."""
    assert_formula(
        CASES[name],
        partial(opti_cam, iterations=20, learning_rate=0.2),
        opti_cam_of,
        rtol=0,
        atol=1e-9,
    )
