"""The planted networks: colour detectors, the evidence of each channel, and a small head that reads
the evidence.

    images -> features: detectors, F (B, K, 16, 16) -> readout: a_k = sum_xy r_k(x, y) F_k(x, y) ->
    head(a) -> logits

Each can be built for images, and for signals or volumes of three channels (`axes`: 1 or 3), with
the same score and truth.

Channel k affects the score only through its evidence a_k. Its true value is its Shapley value phi_k
in the head, where a channel that is left out has F_k = 0, so a_k = 0. The value is shared among the
positions in proportion to r_k F_k:

    T_k(x, y) = phi_k r_k(x, y) F_k(x, y) / a_k

For a head that is multilinear in the evidence, T is the Shapley value of the position among all
channels and positions. For any head it is its Owen value (channels as unions) if the active
positions of a channel have the same r_k F_k, as on the patches of `patches.py`. Both are proved by
enumeration in tests/embedded/.

The unit of evidence is a patch: a_k = 1 is a patch of 16 cells of the channel's colour, in a signal
of 8. All networks have a channel `brightness`, which is active everywhere and which no head reads.
They also have a channel `cyan`, the only one that the logit of the second class, "other", reads. S
is the logit of the first class, "evidence".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from axiom_bench.embedded.words import decode_words, encode_words
from axiom_bench.errors import BenchError

MAX_CHANNELS = 12  # 4,096 subsets
MEAN = 0.5  # of the input, each colour in [0, 1]
STD = 0.25  # of the input
THIRD = 1 / 3
# Weights of red, green and blue in [0, 1], and a bias, before a ReLU. A pixel of grey v has v times
# the sum of the weights, plus the bias. Every other pure colour has at most -1, so that rounding
# can't reach the ReLU's kink.
DETECTORS = {
    "red": ((2.0, -2.0, -2.0), -1.0),
    "green": ((-2.0, 2.0, -2.0), -1.0),
    "blue": ((-2.0, -2.0, 2.0), -1.0),
    "yellow": ((2.0, 2.0, -6.0), -3.0),
    "cyan": ((-6.0, 2.0, 2.0), -3.0),
    "brightness": ((THIRD, THIRD, THIRD), 0.0),
    "dead": ((0.0, 0.0, 0.0), -1.0),
}
# The factor of saturated detectors, which puts a patch of their colour far beyond their slope.
STEEP = 8.0
UNREAD = ("cyan", "brightness")  # channels that the logit of the first class doesn't read
OTHER = {"cyan": 1.0}  # weights of the second class
WEIGHTS = {"red": 1.0, "green": 2.0, "blue": 3.0}  # weights of the first class
WAVE = 8.0  # slope of a wave


@dataclass(frozen=True)
class Grid:
    """The cells of the layer along one axis, and how many of them make a patch."""

    cell: int
    """The pixels of a cell along an axis."""
    cells: int
    """The cells along an axis."""
    full: int
    """The cells of a patch of evidence 1."""
    axes: int
    """The number of axes."""

    @property
    def pooled(self) -> float:
        """The factor from a mean over all cells to patches."""
        cells_in_all: int = self.cells**self.axes
        return cells_in_all / self.full

    def layer(self, name: str) -> Callable[..., nn.Module]:
        """Return the class of layers of this name for `axes` axes.

        Args:
            name: The name without its dimension, such as Conv.
        """
        layer: Callable[..., nn.Module] = getattr(nn, f"{name}{self.axes}d")
        return layer


# The grids of signals (3, 192), of images (3, 96, 96) and of volumes (3, 24, 24, 24), by the number
# of axes. Images may also be resized to 224 x 224, with cells of 14 x 14 pixels.
GRIDS = {
    1: Grid(cell=3, cells=64, full=8, axes=1),
    2: Grid(cell=6, cells=16, full=16, axes=2),
    3: Grid(cell=3, cells=8, full=16, axes=3),
}


def channel_shapley(score: Callable[[Tensor], Tensor], evidence: Tensor) -> Tensor:
    """Compute the Shapley values of the channels in a score, (B, K) in float64.

    phi_k is the mean, over all orders of the channels, of the score's gain when channel k joins.
    They add up to sum_k phi_k = S(all) - S(none) (Shapley, A value for n-person games, 1953).

    Args:
        score: Maps evidence (N, K) in float64 to scores (N,).
        evidence: The evidence (B, K). A channel that hasn't joined has evidence 0.

    Raises:
        BenchError: For over 12 channels.
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
    # For each set of n other channels: in a share of 1 / (K C(K - 1, n)) of all orders, channel k
    # joins after exactly these n channels.
    order_shares = [1 / (channels * comb(channels - 1, n)) for n in range(channels)]
    shares = torch.tensor(order_shares, dtype=torch.float64)
    totals = []
    for channel in range(channels):
        # A subset's number has a bit per channel, so adding 2^k puts channel k into it.
        others = torch.nonzero(~joined[:, channel])[:, 0]
        # exactly 0 for a channel that never matters
        gains = values[:, others + 2**channel] - values[:, others]
        totals.append(gains @ shares[joined[others].sum(1)].to(values))
    return torch.stack(totals, 1)


class PlantedNetwork(nn.Module):
    """A network whose truth is known.

    `features` maps images to (B, K, *cells), 16 x 16 cells of images. `readout` maps these to (B,
    K, 1, ...), one channel at a time. `head` maps (B, K) to logits.
    """

    truth_layer = "features"

    def __init__(self, features: nn.Module, readout: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.readout = readout
        self.flatten = nn.Flatten()
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, *space), as drawn or resized, to logits (B, 2) of the planted class and
        of the other one.
        """
        logits: Tensor = self.head(self.flatten(self.readout(self.features(images))))
        return logits

    def score(self, activations: Tensor) -> Tensor:
        """Map activations (B, K, *cells) to the logit (B,) of the planted class."""
        logits: Tensor = self.head(self.flatten(self.readout(activations)))
        return logits[:, 0]

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """Compute T, the true contribution of each channel and position, in float64 and the
        activations' shape.

        Args:
            activations: F, (B, K, *cells).
            targets: The indices of the classes (B,).
        """
        read = activations.double() * self.reading(activations)
        evidence = read.sum(tuple(range(2, read.ndim)), keepdim=True)
        values = self.channel_values(evidence.flatten(1), targets).view_as(evidence)
        return values * (read / evidence.masked_fill(evidence == 0, 1))

    def channel_values(self, evidence: Tensor, targets: Tensor) -> Tensor:
        """Compute phi, the Shapley values of the channels in the logit of each row's class, (B, K)
        in float64.

        Args:
            evidence: The evidence (B, K).
            targets: The indices of the classes (B,).
        """
        values = []
        for row, target in zip(evidence.split(1), targets, strict=True):

            def class_logits(rows: Tensor, class_index: int = int(target)) -> Tensor:
                return self._exact_logits(rows)[:, class_index]

            values.append(channel_shapley(class_logits, row))
        return torch.cat(values)

    def reading(self, activations: Tensor) -> Tensor:
        """Return r, the weight of each position in its channel's evidence, in float64. It
        broadcasts to the activations.

        Args:
            activations: F, (B, K, *cells).
        """
        if isinstance(self.readout, _ConvNd):
            return self.readout.weight.double().squeeze(1)
        return activations.new_ones((), dtype=torch.float64) / activations[0, 0].numel()

    def _exact_logits(self, evidence: Tensor) -> Tensor:
        """Compute the head's logits of evidence in float64."""
        exact = {name: tensor.double() for name, tensor in self.head.state_dict().items()}
        logits: Tensor = functional_call(self.head, exact, (evidence,))
        return logits


class PlantedBoxes(nn.Module):
    """A detector of two boxes, the left and the right half of an image. The logits of each box
    depend only on the evidence in its half.

    A channel that is active in both halves therefore contributes to either box's score, and its
    truth is in that box's half.
    """

    truth_layer = "features"
    boxes: Tensor

    def __init__(self, left: PlantedNetwork, right: PlantedNetwork, grid: Grid) -> None:
        super().__init__()
        self.features = left.features
        self.left = left
        self.right = right
        middle = grid.cells * grid.cell / 2
        boxes = torch.tensor([[0.0, 0, middle, 2 * middle], [middle, 0, 2 * middle, 2 * middle]])
        self.register_buffer("boxes", boxes, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, 96, 96) to boxes (B, 2, 4) and logits (B, 2, 2)."""
        maps = self.features(images)
        logits_of_halves = []
        for half in (self.left, self.right):
            logits_of_halves.append(half.head(half.flatten(half.readout(maps))))
        logits = torch.stack(logits_of_halves, 1)
        return self.boxes + torch.zeros_like(logits[:, :, :1]), logits

    def true_contributions(self, activations: Tensor, targets: Tensor, place: Tensor) -> Tensor:
        """Compute T as `PlantedNetwork` does, for the score of each row's box.

        Args:
            activations: F, (B, K, *cells).
            targets: The indices of the classes (B,).
            place: The number of each row's box, first of 5 columns (B, 5).
        """
        left = self.left.true_contributions(activations, targets)
        right = self.right.true_contributions(activations, targets)
        box_numbers = place[:, 0].long().cpu()
        return torch.stack([left, right], 1)[torch.arange(len(place)), box_numbers]


class PlantedWords(nn.Module):
    """A network that says "left and right" about every image, as a `TextNetwork` for `WordScores`.

    The word "left" reads the left half of an image and no other pixel, "right" the right half, and
    "and" no pixel at all. A word that doesn't stand at its position has the logit -1.

    Args:
        left: The network of the word "left".
        right: The network of the word "right".
    """

    truth_layer = "features"
    default_layer = "features"
    vocabulary = ("left", "and", "right", "")
    end = 3
    longest = 4
    prompt = ""
    image_tokens = ()
    start = 0

    def __init__(self, left: PlantedNetwork, right: PlantedNetwork) -> None:
        super().__init__()
        self.features = left.features
        self.left = left
        self.right = right

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Map images (B, 3, *space) and texts (B, L) to logits (B, L, 4), whatever the text is."""
        activations = self.features(images)
        left = self.left.score(activations)
        right = self.right.score(activations)
        none = torch.zeros_like(left)
        at_own_place = torch.stack([left, none, right, none], 1).diag_embed()
        elsewhere = torch.eye(self.longest).to(left) - 1
        return (at_own_place + elsewhere)[:, : text.shape[1]]

    def answer(self, images: Tensor, length: int) -> list[list[int]]:
        """Return the words that the network says about each image, at most `length` of them."""
        return [[*range(self.end)][:length] for _ in images]

    def encode(self, text: str) -> list[int]:
        """Return the words of a text. Raise BenchError if the network doesn't know one."""
        return encode_words(text, self.vocabulary[: self.end])

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return decode_words([token for token in tokens if token != self.end], self.vocabulary)

    def true_contributions(self, activations: Tensor, targets: Tensor, place: Tensor) -> Tensor:
        """Compute T, the true contribution of each channel and position to the logit of each row's
        word, in float64 and the activations' shape.

        Args:
            activations: F, (B, K, 16, 16).
            targets: The words, (B,).
            place: The places of the words, which the words decide.
        """
        first_class = torch.zeros_like(targets)
        of_left = self.left.true_contributions(activations, first_class)
        of_right = self.right.true_contributions(activations, first_class)
        words = targets[:, None, None, None]
        return torch.where(words == 0, of_left, torch.where(words == 2, of_right, 0))


class NoisyOr(nn.Module):
    """A head with linear logits, the first plus a + b - a b, where a and b are the evidence of the
    first two channels in patches.
    """

    def __init__(self, read: nn.Linear, scale: float) -> None:
        super().__init__()
        self.read = read
        self.scale = scale

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled channels (B, K) to logits (B, 2)."""
        logits = self.read(pooled)
        a = self.scale * pooled[:, 0:1]
        b = self.scale * pooled[:, 1:2]
        return torch.cat([logits[:, 0:1] + a + b - a * b, logits[:, 1:2]], 1)


def detectors(grid: Grid, names: Sequence[str], saturated: bool = False) -> nn.Sequential:
    """Return a layer that maps images to a map of cells for each name.

    It is a 1 x 1 convolution, a ReLU, and the mean of each cell.

    Args:
        grid: The grid of the cells.
        names: Names of DETECTORS, one per channel.
        saturated: Replace the ReLU by min(1, max(0, 8 x)), which is flat at every pixel of a patch
            and of the ground. The channel brightness isn't 0 or 1, and keeps its slope.
    """
    slopes = torch.tensor([STEEP if saturated and name != "brightness" else 1.0 for name in names])
    weights = torch.tensor([DETECTORS[name][0] for name in names]) * slopes[:, None]
    biases = torch.tensor([DETECTORS[name][1] for name in names]) * slopes
    # The convolution undoes the normalisation by MEAN and STD.
    state = {
        "weight": (STD * weights).view(*weights.shape, *(1,) * grid.axes),
        "bias": biases + MEAN * weights.sum(1),
    }
    convolution = grid.layer("Conv")(3, len(names), 1)
    convolution.load_state_dict(state)
    activation = nn.Hardtanh(0.0, 1.0) if saturated else nn.ReLU()
    return nn.Sequential(convolution, activation, grid.layer("AdaptiveAvgPool")(grid.cells))


def half_readout(grid: Grid, factors: Sequence[tuple[float, float]]) -> nn.Module:
    """Return a readout, (B, K, *cells) -> (B, K, 1, ...): the mean of each channel, weighted in the
    two halves of the last axis.

    Args:
        grid: The grid of the cells.
        factors: The weights of each channel in the left and in the right half.
    """
    channels = len(factors)
    readout = grid.layer("Conv")(channels, channels, grid.cells, groups=channels, bias=False)
    along = torch.tensor(factors).repeat_interleave(grid.cells // 2, 1)  # (K, cells)
    # (K, 1, 1, ..., cells), the same along all axes except the last
    along = along.view(channels, 1, *(1,) * (grid.axes - 1), -1)
    maps = along.expand(-1, -1, *(grid.cells,) * grid.axes)
    readout.load_state_dict({"weight": maps / grid.cells**grid.axes})
    return readout


def linear(
    grid: Grid,
    names: Sequence[str],
    rows: Sequence[Mapping[str, float]],
    biases: Sequence[float] | None = None,
) -> nn.Linear:
    """Return a linear layer that reads pooled channels.

    Args:
        grid: The grid of the cells.
        names: The names of the channels.
        rows: For each output the weights by channel name, in patches.
        biases: The bias of each output; `None` for a layer without biases.
    """
    layer = nn.Linear(len(names), len(rows), bias=biases is not None)
    weights = torch.tensor([[row.get(name, 0.0) for name in names] for row in rows])
    with torch.no_grad():
        layer.weight.copy_(grid.pooled * weights)
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
    """Return a network whose head reads global averages.

    Its head is `linear`, and if `last` is given also a ReLU and a second linear layer with these
    weights, a row for each logit.
    """
    grid = GRIDS[axes]
    names = (*colours, *UNREAD)
    head: nn.Module = linear(grid, names, rows, biases)
    if last is not None:
        logits = nn.Linear(len(rows), len(last))
        with torch.no_grad():
            logits.weight.copy_(torch.tensor(last))
            logits.bias.copy_(torch.tensor(last_biases))
        head = nn.Sequential(head, nn.ReLU(), logits)
    return PlantedNetwork(detectors(grid, names, saturated), grid.layer("AdaptiveAvgPool")(1), head)


def planted_additive(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = a_red + 2 a_green + 3 a_blue, by global average pooling and one
    linear layer.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER])


def planted_bias(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = a_red + 2 a_green + 3 a_blue + 4, where the bias belongs to no
    channel.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER], (4.0, 0.0))


def planted_suppressing(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = 2 a_red - a_green, where green speaks against the class.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    return _pooled(axes, ("red", "green"), [{"red": 2.0, "green": -1.0}, OTHER])


def planted_saturating(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = min(1, a_red + a_green + a_blue), where any two of the three
    colours are enough in these images.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    rows = [{"red": -1.0, "green": -1.0, "blue": -1.0}, OTHER]
    return _pooled(axes, ("red", "green", "blue"), rows, (1.0, 0.0), [[-1, 0], [0, 1]], (1, 0))


def planted_and(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = max(0, a_red + a_green - 1), where neither colour is enough.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    rows = [{"red": 1.0, "green": 1.0}, OTHER]
    return _pooled(axes, ("red", "green"), rows, (-1.0, 0.0), [[1, 0], [0, 1]])


def planted_or(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = max(a_red, a_green), where the colour with more evidence decides.

    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    rows = [{"red": 1.0, "green": -1.0}, {"green": 1.0}, OTHER]
    return _pooled(axes, ("red", "green"), rows, (0.0, 0.0, 0.0), [[1, 1, 0], [0, 0, 1]])


def planted_duplicate(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = a_red + a_red' - a_red a_red' + a_green.

    Two channels detect red, and one of them is nearly enough. Another channel is dead.


    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    grid = GRIDS[axes]
    names = ("red", "red", "dead", "green", *UNREAD)
    head = NoisyOr(linear(grid, names, [{"green": 1.0}, OTHER]), grid.pooled)
    return PlantedNetwork(detectors(grid, names), grid.layer("AdaptiveAvgPool")(1), head)


def planted_cancelling(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = a_red + a, where a = sum_left F - sum_right F.

    F is the channel blue - yellow, which sums to 0 over the image.


    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    grid = GRIDS[axes]
    # The mix makes the channels red, blue - yellow, cyan and brightness from five detectors.
    mix = grid.layer("Conv")(5, 4, 1, bias=False)
    rows = torch.tensor([[1, 0, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1.0]])
    mix.load_state_dict({"weight": rows.view(4, 5, *(1,) * axes)})
    features = nn.Sequential(*detectors(grid, ("red", "blue", "yellow", *UNREAD)), mix)
    readout = half_readout(grid, [(1, 1), (1, -1), (1, 1), (1, 1)])
    names = ("red", "blue - yellow", *UNREAD)
    head = linear(grid, names, [{"red": 1.0, "blue - yellow": 1.0}, OTHER])
    return PlantedNetwork(features, readout, head)


def planted_region(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = a_red + a_green + a_yellow, where a_k is that of the left half.

    The right half isn't connected to S.


    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    grid = GRIDS[axes]
    names = ("red", "green", "yellow", *UNREAD)
    rows = [{"red": 1.0, "green": 1.0, "yellow": 1.0}, OTHER]
    readout = half_readout(grid, [(1, 0), (1, 0), (1, 0), (1, 1), (1, 1)])
    return PlantedNetwork(detectors(grid, names), readout, linear(grid, names, rows))


def planted_vanishing(axes: int = 2) -> PlantedNetwork:
    """Return planted_additive behind saturated detectors.

    S has gradient 0 in every pixel, and the same gradient in F as planted_additive's.


    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    return _pooled(axes, ("red", "green", "blue"), [WEIGHTS, OTHER], saturated=True)


def planted_shattered(axes: int = 2) -> PlantedNetwork:
    """Return a network with S = sum over red, green, blue of k a_k + w(a_k), k = 1, 2, 3.

    w is a triangle wave made of ReLUs. S is therefore near to planted_additive's, but its gradients
    are k + 8 or k - 8. They resemble the shattered gradients of XAI-Units (Lee et al., Benchmarking
    Explainability Methods with Unit Tests, FAccT 2025).


    Args:
        axes: The axes of the inputs: 1, 2 or 3.
    """
    # Kinks of the wave up to 1. No patch of whole cells has such an evidence.
    kinks = [0.0, *(7 / 128 * odd for odd in range(1, 18, 2))]
    turns = [2 * WAVE * (-1) ** turn for turn in range(1, len(kinks))]
    rows: list[Mapping[str, float]] = []
    biases: list[float] = []
    weights: list[float] = []
    for colour, weight in WEIGHTS.items():
        # A ReLU for each kink. The weights of the ReLUs change the slope of S at their kinks.
        rows += [{colour: 1.0}] * len(kinks)
        biases += [-kink for kink in kinks]
        weights += [weight + WAVE, *turns]
    rows.append(OTHER)
    biases.append(0.0)
    last = [[*weights, 0.0], [0.0] * len(weights) + [1.0]]
    return _pooled(axes, tuple(WEIGHTS), rows, biases, last)


def planted_boxes() -> PlantedBoxes:
    """Return a detector with S = a_red + 2 a_green + 3 a_blue of a box's half, where red is in both
    halves.
    """
    return PlantedBoxes(*_halves(), GRIDS[2])


def planted_words() -> PlantedWords:
    """Return a network whose words "left" and "right" have S = a_red + 2 a_green + 3 a_blue of
    their half of the image, where red is in both halves.
    """
    return PlantedWords(*_halves())


def _halves() -> tuple[PlantedNetwork, PlantedNetwork]:
    """Return the networks that read the left and the right half, with the same features."""
    grid = GRIDS[2]
    names = ("red", "green", "blue", *UNREAD)
    features = detectors(grid, names)
    head = linear(grid, names, [WEIGHTS, OTHER])
    left = PlantedNetwork(features, half_readout(grid, [(1, 0)] * len(names)), head)
    right = PlantedNetwork(features, half_readout(grid, [(0, 1)] * len(names)), head)
    return left, right


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
# Networks whose scores belong to one object, or to one word.
PLACED_BUILDERS: Mapping[str, Callable[..., PlantedBoxes | PlantedWords]] = {
    "planted_boxes": planted_boxes,
    "planted_words": planted_words,
}
