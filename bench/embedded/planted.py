"""The planted networks: colour detectors, the evidence of each channel, and a small head over it.

    images -> features: detectors, F (B, K, 16, 16) -> readout: a_k = sum_xy r_k(x, y) F_k(x, y) ->
    head(a) -> logits

Each is built for images, or for signals or volumes of three channels (`axes`: 1 or 3), with the
same score and truth.

Channel k matters through its evidence a_k alone. Its true value is its Shapley value phi_k in the
head, where a channel that is left out has F_k = 0, so a_k = 0. It is shared among the positions in
proportion to r_k F_k, which is:

    T_k(x, y) = phi_k r_k(x, y) F_k(x, y) / a_k

For a head that is multilinear in the evidence that is the Shapley value of the position among all
channels and positions. For any head it is its Owen value (channels as unions) where the active
positions of a channel have the same r_k F_k, as on the patches of `patches.py`. Both are proved by
enumeration in tests/embedded/.

Evidence is in patches: a_k = 1 is a patch of 16 cells of the channel's colour, in a signal of 8.
All networks have a channel `brightness`, which answers everywhere and which no head reads, and a
channel `cyan`, which is all that the logit of the second class, "other", reads. S is the logit of
the first class, "evidence".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from axiom_bench.errors import BenchError

MAX_CHANNELS = 12  # 4,096 subsets
MEAN, STD = 0.5, 0.25  # of the input, each colour in [0, 1]
THIRD = 1 / 3
# Weights of red, green and blue in [0, 1], and a bias, before a ReLU. Grey v has v times the sum of
# the weights, and every other pure colour at most -1, so that rounding can't reach the ReLU's kink.
DETECTORS = {
    "red": ((2.0, -2.0, -2.0), -1.0),
    "green": ((-2.0, 2.0, -2.0), -1.0),
    "blue": ((-2.0, -2.0, 2.0), -1.0),
    "yellow": ((2.0, 2.0, -6.0), -3.0),
    "cyan": ((-6.0, 2.0, 2.0), -3.0),
    "brightness": ((THIRD, THIRD, THIRD), 0.0),
    "dead": ((0.0, 0.0, 0.0), -1.0),
}
STEEP = (
    8.0  # of saturated detectors: how far a patch of their colour is beyond the end of their slope
)
UNREAD = ("cyan", "brightness")  # by the logit of the first class
OTHER = {"cyan": 1.0}
WEIGHTS = {"red": 1.0, "green": 2.0, "blue": 3.0}
WAVE = 8.0  # slope of a wave


@dataclass(frozen=True)
class Grid:
    """The layer along one axis: cells of so many pixels each. full: cells of a patch of evidence 1.
    axes: their number.

    pooled: the factor from a mean over all cells to patches.
    """

    cell: int
    cells: int
    full: int
    axes: int

    @property
    def pooled(self) -> float:
        return self.cells**self.axes / self.full

    def layer(self, name: str) -> Callable[..., nn.Module]:
        """The class of layers of this name, such as Conv, for so many axes."""
        layer: Callable[..., nn.Module] = getattr(nn, f"{name}{self.axes}d")
        return layer


# Of signals (3, 192), of images (3, 96, 96), or 224 x 224 of cells of 14 x 14, and of volumes (3,
# 24, 24, 24).
GRIDS = {1: Grid(3, 64, 8, 1), 2: Grid(6, 16, 16, 2), 3: Grid(3, 8, 16, 3)}


def channel_shapley(score: Callable[[Tensor], Tensor], evidence: Tensor) -> Tensor:
    """phi_k = mean over all orders of the channels of what the score gains where channel k joins:
    (B, K) in float64.

    score: evidence (N, K) in float64 -> scores (N,). evidence: (B, K); a channel that hasn't joined
    has evidence 0. Shapley, A value for n-person games, 1953: sum_k phi_k = S(all) - S(none).
    Raises BenchError for over 12 channels.
    """
    channels = evidence.shape[1]
    if channels > MAX_CHANNELS:
        raise BenchError(
            f"Shapley values of {channels} channels take 2^{channels} subsets; give at most "
            f"{MAX_CHANNELS}."
        )
    joined = (torch.arange(2**channels)[:, None] >> torch.arange(channels)) & 1 == 1  # (2^K, K)
    subsets = evidence.double()[:, None] * joined.to(evidence.device)  # (B, 2^K, K)
    values = score(subsets.flatten(0, 1)).unflatten(0, subsets.shape[:2])  # (B, 2^K)
    # Channel k joins just these n others, after them and before the rest, in a share of 1 / (K C(K
    # - 1, n)) of orders.
    shares = torch.tensor(
        [1 / (channels * comb(channels - 1, n)) for n in range(channels)], dtype=torch.float64
    )
    totals = []
    for channel in range(channels):
        others = torch.nonzero(~joined[:, channel])[:, 0]
        gains = (
            values[:, others + 2**channel] - values[:, others]
        )  # exactly 0 for a channel that never matters
        totals.append(gains @ shares[joined[others].sum(1)].to(values))
    return torch.stack(totals, 1)


class PlantedNetwork(nn.Module):
    """features: images -> (B, K, *cells), 16 x 16 of images. readout: -> (B, K, 1, ...), one
    channel at a time. head: (B, K) -> logits.
    """

    truth_layer = "features"

    def __init__(self, features: nn.Module, readout: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.readout, self.flatten, self.head = features, readout, nn.Flatten(), head

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, *space), as drawn or resized -> logits (B, 2): of what is planted, and of
        the other class.
        """
        logits: Tensor = self.head(self.flatten(self.readout(self.features(images))))
        return logits

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """T as above, for activations (B, K, *cells) and class indices (B,): as the activations, in
        float64.
        """
        read = activations.double() * self.reading(activations)
        evidence = read.sum(tuple(range(2, read.ndim)), keepdim=True)
        values = self.channel_values(evidence.flatten(1), targets).view_as(evidence)
        return values * (read / evidence.masked_fill(evidence == 0, 1))

    def channel_values(self, evidence: Tensor, targets: Tensor) -> Tensor:
        """phi, the Shapley values of the channels in the logit of each row's class: (B, K) in
        float64.
        """
        return torch.cat([
            channel_shapley(lambda rows, c=int(target): self._exact_logits(rows)[:, c], row)  # type: ignore[misc]
            for row, target in zip(evidence.split(1), targets, strict=True)
        ])  # fmt: skip

    def reading(self, activations: Tensor) -> Tensor:
        """r, how much each position counts in its channel's evidence: broadcasts to the
        activations, in float64.
        """
        if isinstance(self.readout, _ConvNd):
            return self.readout.weight.double().squeeze(1)
        return activations.new_ones((), dtype=torch.float64) / activations[0, 0].numel()

    def _exact_logits(self, evidence: Tensor) -> Tensor:
        exact = {name: tensor.double() for name, tensor in self.head.state_dict().items()}
        logits: Tensor = functional_call(self.head, exact, (evidence,))
        return logits


class PlantedBoxes(nn.Module):
    """Two boxes, the left and the right half of an image; the logits of each are of the evidence in
    its half alone.

    So a channel that is active in both halves has a part in either box's score, and its truth is in
    that box's half.
    """

    truth_layer = "features"
    boxes: Tensor

    def __init__(self, left: PlantedNetwork, right: PlantedNetwork, grid: Grid) -> None:
        super().__init__()
        self.features, self.left, self.right, middle = (
            left.features,
            left,
            right,
            grid.cells * grid.cell / 2,
        )
        boxes = torch.tensor([[0.0, 0, middle, 2 * middle], [middle, 0, 2 * middle, 2 * middle]])
        self.register_buffer("boxes", boxes, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, 96, 96) -> boxes (B, 2, 4) and logits (B, 2, 2)."""
        maps = self.features(images)
        halves = (self.left, self.right)
        logits = torch.stack([half.head(half.flatten(half.readout(maps))) for half in halves], 1)
        return self.boxes + torch.zeros_like(logits[:, :, :1]), logits

    def true_contributions(self, activations: Tensor, targets: Tensor, place: Tensor) -> Tensor:
        """As `PlantedNetwork` has them, of the score at each row's place, (B, 5)."""
        of_halves = [
            half.true_contributions(activations, targets) for half in (self.left, self.right)
        ]
        return torch.stack(of_halves, 1)[torch.arange(len(place)), place[:, 0].long().cpu()]


class NoisyOr(nn.Module):
    """The linear logits, the first with a + b - a b added, where a and b are the first two
    channels, in patches.
    """

    def __init__(self, read: nn.Linear, scale: float) -> None:
        super().__init__()
        self.read, self.scale = read, scale

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, K) -> (B, 2)."""
        logits = self.read(pooled)
        a, b = self.scale * pooled[:, 0:1], self.scale * pooled[:, 1:2]
        return torch.cat([logits[:, 0:1] + a + b - a * b, logits[:, 1:2]], 1)


def detectors(grid: Grid, names: Sequence[str], saturated: bool = False) -> nn.Sequential:
    """Images -> a map of cells for each name: a 1 x 1 convolution, a ReLU, and the mean of each
    cell.

    saturated: by min(1, max(0, 8 x)) in the ReLU's place, which is flat at every pixel of a patch
    and of the ground; brightness, which isn't 0 or 1, keeps its slope.
    """
    slopes = torch.tensor([STEEP if saturated and name != "brightness" else 1.0 for name in names])
    weights = torch.tensor([DETECTORS[name][0] for name in names]) * slopes[:, None]
    biases = torch.tensor([DETECTORS[name][1] for name in names]) * slopes
    convolution = grid.layer("Conv")(3, len(names), 1)  # of images with the networks' MEAN and STD
    convolution.load_state_dict({
        "weight": (STD * weights).view(*weights.shape, *(1,) * grid.axes),
        "bias": biases + MEAN * weights.sum(1),
    })  # fmt: skip
    activation = nn.Hardtanh(0.0, 1.0) if saturated else nn.ReLU()
    return nn.Sequential(convolution, activation, grid.layer("AdaptiveAvgPool")(grid.cells))


def reading(grid: Grid, factors: Sequence[tuple[float, float]]) -> nn.Module:
    """The mean of each channel times its two factors here, of the left and the right half of the
    last axis: (B, K, *cells) -> (B, K, 1, ...).
    """
    readout = grid.layer("Conv")(
        len(factors), len(factors), grid.cells, groups=len(factors), bias=False
    )
    along = torch.tensor(factors).repeat_interleave(grid.cells // 2, 1)  # (K, cells)
    maps = along.view(len(factors), 1, *(1,) * (grid.axes - 1), -1).expand(
        -1, -1, *(grid.cells,) * grid.axes
    )
    readout.load_state_dict({"weight": maps / grid.cells**grid.axes})
    return readout


def linear(
    grid: Grid,
    names: Sequence[str],
    rows: Sequence[Mapping[str, float]],
    biases: Sequence[float] | None = None,
) -> nn.Linear:
    """A linear layer over pooled channels: for each output a row of weights by channel name, in
    patches.
    """
    layer = nn.Linear(len(names), len(rows), bias=biases is not None)
    with torch.no_grad():
        layer.weight.copy_(
            grid.pooled * torch.tensor([[row.get(name, 0.0) for name in names] for row in rows])
        )
        if biases is not None:
            layer.bias.copy_(torch.tensor(biases))
    return layer


def _pooled(
    axes: int,
    colours: tuple[str, ...],
    rows: Sequence[Mapping[str, float]],
    biases: Sequence[float] | None = None,
    last: Sequence[Sequence[float]] | None = None,
    last_biases: Sequence[float] = (0, 0),
    saturated: bool = False,
) -> PlantedNetwork:
    """A network whose head reads global averages: `linear`, and where `last` is given a ReLU and a
    second linear layer with these weights, a row for each logit.
    """
    grid, names = GRIDS[axes], (*colours, *UNREAD)
    head: nn.Module = linear(grid, names, rows, biases)
    if last is not None:
        logits = nn.Linear(len(rows), len(last))
        with torch.no_grad():
            logits.weight.copy_(torch.tensor(last))
            logits.bias.copy_(torch.tensor(last_biases))
        head = nn.Sequential(head, nn.ReLU(), logits)
    return PlantedNetwork(detectors(grid, names, saturated), grid.layer("AdaptiveAvgPool")(1), head)


def planted_additive(axes: int = 2) -> PlantedNetwork:
    """S = a_red + 2 a_green + 3 a_blue, by global average pooling and one linear layer."""
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER])


def planted_bias(axes: int = 2) -> PlantedNetwork:
    """S = a_red + 2 a_green + 3 a_blue + 4: the bias is no channel's."""
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER], (4.0, 0.0))


def planted_suppressing(axes: int = 2) -> PlantedNetwork:
    """S = 2 a_red - a_green: green speaks against the class."""
    return _pooled(axes, ("red", "green"), [{"red": 2.0, "green": -1.0}, OTHER])


def planted_saturating(axes: int = 2) -> PlantedNetwork:
    """S = min(1, a_red + a_green + a_blue): any two of the three colours are enough in these
    images.
    """
    rows = [{"red": -1.0, "green": -1.0, "blue": -1.0}, OTHER]
    return _pooled(axes, ("red", "green", "blue"), rows, (1.0, 0.0), [[-1, 0], [0, 1]], (1, 0))


def planted_and(axes: int = 2) -> PlantedNetwork:
    """S = max(0, a_red + a_green - 1): neither colour is enough."""
    return _pooled(
        axes, ("red", "green"), [{"red": 1.0, "green": 1.0}, OTHER], (-1.0, 0.0), [[1, 0], [0, 1]]
    )


def planted_or(axes: int = 2) -> PlantedNetwork:
    """S = max(a_red, a_green): the colour with more evidence decides."""
    rows = [{"red": 1.0, "green": -1.0}, {"green": 1.0}, OTHER]
    return _pooled(axes, ("red", "green"), rows, (0.0, 0.0, 0.0), [[1, 1, 0], [0, 0, 1]])


def planted_duplicate(axes: int = 2) -> PlantedNetwork:
    """S = a_red + a_red' - a_red a_red' + a_green: red is detected twice, and once is nearly
    enough; one channel is dead.
    """
    grid, names = GRIDS[axes], ("red", "red", "dead", "green", *UNREAD)
    read = linear(grid, names, [{"green": 1.0}, OTHER])
    return PlantedNetwork(
        detectors(grid, names), grid.layer("AdaptiveAvgPool")(1), NoisyOr(read, grid.pooled)
    )


def planted_cancelling(axes: int = 2) -> PlantedNetwork:
    """S = a_red + a, a = sum_left F - sum_right F of the channel F = blue - yellow, which sums to 0
    over the image.
    """
    grid = GRIDS[axes]
    mix = grid.layer("Conv")(5, 4, 1, bias=False)
    rows = torch.tensor([[1, 0, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1.0]])
    mix.load_state_dict({"weight": rows.view(4, 5, *(1,) * axes)})
    readout = reading(grid, [(1, 1), (1, -1), (1, 1), (1, 1)])
    head = linear(
        grid, ("red", "blue - yellow", *UNREAD), [{"red": 1.0, "blue - yellow": 1.0}, OTHER]
    )
    return PlantedNetwork(
        nn.Sequential(*detectors(grid, ("red", "blue", "yellow", *UNREAD)), mix), readout, head
    )


def planted_region(axes: int = 2) -> PlantedNetwork:
    """S = a_red + a_green + a_yellow with a_k of the left half alone: the right half isn't
    connected to S.
    """
    grid, names = GRIDS[axes], ("red", "green", "yellow", *UNREAD)
    rows = [{"red": 1.0, "green": 1.0, "yellow": 1.0}, OTHER]
    readout = reading(grid, [(1, 0), (1, 0), (1, 0), (1, 1), (1, 1)])
    return PlantedNetwork(detectors(grid, names), readout, linear(grid, names, rows))


def planted_vanishing(axes: int = 2) -> PlantedNetwork:
    """planted_additive behind saturated detectors: S has gradient 0 in every pixel, and the same
    gradient in F.
    """
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER], saturated=True)


def planted_shattered(axes: int = 2) -> PlantedNetwork:
    """S = sum over red, green, blue of k a_k + w(a_k), k = 1, 2, 3. w is a triangle wave made of
    ReLUs, so S is near to planted_additive's, and its gradients are k + 8 or k - 8. As the
    shattered gradients of XAI-Units (Lee et al., Benchmarking Explainability Methods with Unit
    Tests, FAccT 2025).
    """
    kinks = [
        0.0,
        *(7 / 128 * odd for odd in range(1, 18, 2)),
    ]  # up to 1; no patch of whole cells has such an evidence
    rows = [*({colour: 1.0} for colour in WEIGHTS for _ in kinks), OTHER]
    biases = [*(-kink for _ in WEIGHTS for kink in kinks), 0.0]
    turns = [2 * WAVE * (-1) ** turn for turn in range(1, len(kinks))]
    weights = [step for weight in WEIGHTS.values() for step in (weight + WAVE, *turns)]
    return _pooled(
        axes, tuple(WEIGHTS), rows, biases, [[*weights, 0.0], [0.0] * len(weights) + [1.0]]
    )


def planted_boxes() -> PlantedBoxes:
    """S = a_red + 2 a_green + 3 a_blue of a box's half; red is in both halves."""
    grid, names = GRIDS[2], ("red", "green", "blue", *UNREAD)
    features, head = detectors(grid, names), linear(grid, names, [WEIGHTS, OTHER])
    left, right = (
        PlantedNetwork(features, reading(grid, [half] * len(names)), head)
        for half in ((1, 0), (0, 1))
    )
    return PlantedBoxes(left, right, grid)


BUILDERS: Mapping[str, Callable[..., PlantedNetwork]] = {
    "planted_additive": planted_additive,
    "planted_bias": planted_bias,
    "planted_suppressing": planted_suppressing,
    "planted_saturating": planted_saturating,
    "planted_and": planted_and,
    "planted_or": planted_or,
    "planted_duplicate": planted_duplicate,
    "planted_cancelling": planted_cancelling,
    "planted_region": planted_region,
    "planted_vanishing": planted_vanishing,
    "planted_shattered": planted_shattered,
}
OF_BOXES: Mapping[str, Callable[..., PlantedBoxes]] = {"planted_boxes": planted_boxes}
