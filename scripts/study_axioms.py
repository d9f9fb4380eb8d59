"""Do the axioms say anything of the truth? Measure it as docs/studies/axioms-and-truth.md says, and write its table.

python scripts/study_axioms.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Memory
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from train_embedded import RECIPES, trained
from write_docs import DOCS, ROOT, markdown

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.columns import OK
from axiom_bench.cutting.numerics import axes, over_space
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import networks
from axiom_bench.embedded.planted import GRIDS, MEAN, STD, UNREAD, PlantedNetwork, detectors
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.explanation.explanation import Method
from axiom_bench.statistics.labels import number

SEEDS, TRAININGS, IMAGES, DRAWS = range(100, 112), range(100, 105), 24, 1000
COLOURS = ("red", "green", "blue", "yellow")
AXIOMS = ("sensitivity_error", "conservation_error")
FIDELITY = ("infidelity", "deletion_auc_fast", "road_morf_fast")
OUTCOMES = {
    "planted": ("truth_channel_error", "truth_correlation", "truth_mass_outside", *FIDELITY),
    "trained": ("object_deletion", *FIDELITY),
}
FEWER: Mapping[str, Mapping[str, Any]] = {
    "deletion_auc_fast": {"passes": 5, "output": "logit"},
    "road_morf_fast": {"output": "logit"},
}
FAMILIES = {  # of methods that are made alike; any other is one of its own
    "grad_cam": "mean gradient", "finer_cam": "mean gradient", "shapley_cam": "mean gradient",
    "restricted_grad_cam": "mean gradient", "ss_grad_cam": "mean gradient", "restricted_xgrad_cam": "mean gradient",
    "hires_cam": "gradient by position", "xgrad_cam": "gradient by position", "layer_cam": "gradient by position",
    "grad_cam_elementwise": "gradient by position", "seg_xres_cam": "gradient by position",
    "integrated_gradients": "gradient by position", "eigen_grad_cam": "projection", "seg_eigen_cam": "projection",
    "ablation_cam_axiomatic": "drops", "axiom_cam": "drops", "equal_shares": "control", "negated": "control",
    "shuffled_channels": "control",
}  # fmt: skip
NEAR = 1e-4  # of the sum of all drops: a channel within it is at its drop
START, END = "<!-- written by scripts/study_axioms.py -->", "<!-- end -->"
Indices = NDArray[np.intp]
Interval = tuple[float, float, float]  # a value and its ends
Row = tuple[str, str]  # (axiom, "worse" or "better"), of a moved map
MOVES: tuple[Row, ...] = tuple(product(AXIOMS, ("worse", "better")))


class Pairs(nn.Module):
    """S = sum_k w_k a_k + sum_kl q_kl a_k a_l over pairs k < l of the colours, and cyan's evidence."""

    def __init__(self, draw: torch.Generator, scale: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(scale * torch.randn(4, generator=draw))
        self.products = nn.Parameter(scale**2 * torch.randn(4, 4, generator=draw).triu(1))

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, 6) -> (B, 2)."""
        colours = pooled[:, :4]
        of_pairs = (colours @ self.products * colours).sum(1)
        return torch.stack([colours @ self.weights + of_pairs, pooled[:, 4]], 1)


def planted(seed: int) -> PlantedNetwork:
    """Of an even seed pairs that multiply, of an odd one eight hidden units."""
    grid, names, draw = GRIDS[2], (*COLOURS, *UNREAD), torch.Generator().manual_seed(seed)
    head: nn.Module = Pairs(draw, grid.pooled)
    if seed % 2:
        hidden, last = nn.Linear(6, 8), nn.Linear(8, 2)
        for layer, scale in ((hidden, grid.pooled), (last, 1.0)):
            nn.init.normal_(layer.weight, std=scale, generator=draw)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            hidden.weight[:, 5] = 0  # brightness, which no planted head reads
        head = nn.Sequential(hidden, nn.ReLU(), last)
    return PlantedNetwork(detectors(grid, names), nn.AdaptiveAvgPool2d(1), head).eval()


def moved(wrapped: Method, axiom: str, way: str) -> Callable[[ab.Trace], Tensor]:
    """The method with its maps moved in one axiom alone, see the study; NaN where a map can't be."""

    def method(trace: ab.Trace) -> Tensor:
        weights, maps = wrapped(trace), trace.activations
        assert isinstance(weights, Tensor)
        sums, space = maps.sum(axes(maps)), axes(maps)
        totals, drops = (weights * maps).sum(space), trace.ablation_drops
        gap = (totals - drops) * (sums != 0)
        gap = gap * (gap.abs() > NEAR * drops.abs().sum(1, True))
        above, below = gap.clamp(min=0), -gap.clamp(max=0)
        evenly = [(each > 0) / (each > 0).sum(1, True) for each in (above, below)]
        in_part = [each / each.sum(1, True) for each in (above, below)]
        room_above, room_below = above.sum(1), below.sum(1)
        if axiom == "conservation_error":
            excess = totals.sum(1) - trace.scores
            step, up = 0.2 * trace.scores.abs(), (excess >= 0) == (way == "worse")
            step = torch.minimum(step, excess.abs()) if way == "better" else step
            half = torch.minimum(step / 2, torch.where(up, room_below, room_above))[:, None]
            added = torch.where(up[:, None], half * (evenly[0] + in_part[1]), -half * (in_part[0] + evenly[1]))
        else:
            half = 0.1 * drops.abs().sum(1)
            if way == "better":
                half = torch.minimum(half, torch.minimum(room_above, room_below))
            shares = in_part if way == "better" else evenly
            added = half[:, None] * (shares[0] - shares[1]) * (1 if way == "worse" else -1)
        is_moved = (room_above > 0) & (room_below > 0) & (added != 0).any(1)
        change = (added / sums.masked_fill(sums == 0, 1)).masked_fill(~is_moved[:, None], torch.nan)
        return weights + over_space(change, maps)

    return method


class Measured(NamedTuple):
    """values: {metric: {move: (images, methods)}}, the maps as they are by None. methods: their names, in order."""

    kind: str
    methods: list[str]
    values: Mapping[str, Mapping[Row | None, NDArray[np.float64]]]


def measure(kind: str, network: nn.Module, data: dict[str, object]) -> Measured:
    """All maps of a network and what is measured of them."""
    layer = "features" if kind == "planted" else networks.LAYERS["scenes_vgg"]
    about = (MEAN,) * 3, (STD,) * 3
    preprocessing = Preprocessing(None, None, *(about if kind == "planted" else (networks.MEAN, networks.STD)))
    extras = ("interventions",) if kind == "trained" else ()
    rows = batches(load_dataset(data), range(IMAGES), preprocessing, batch_size=IMAGES, extras=extras)
    (batch,) = rows
    assert isinstance(batch, ab.Batch)
    names = [name for name in methods.names() if methods.get(name).spec.on_score_scale]
    entries: dict[tuple[str, Row | None], Any] = {(name, None): methods.get(name) for name in names} | {
        (name, move): replace(methods.get(name), name=f"{name} {' '.join(move)}", call=moved(methods.get(name), *move))
        for name, move in product(names, MOVES)
    }
    measured = [with_params("metric", each, FEWER.get(each, {})) for each in (*AXIOMS, *OUTCOMES[kind])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of methods that this head has no answer for, whose values are NaN
        table = ab.evaluate(network, layer, [batch], [*entries.values()], measured)
    table = table.assign(value=table["value"].where(table["status"] == OK))
    grids = {
        each: group.pivot(index="image_id", columns="method", values="value") for each, group in table.groupby("metric")
    }
    return Measured(kind, names, {
        str(metric): {
            move: grid.reindex(columns=[entries[name, move].name for name in names]).to_numpy(float)
            for move in (None, *MOVES)
        }
        for metric, grid in grids.items()
    })  # fmt: skip


def sign(metric: str) -> float:
    """1 where a higher value is better, else -1."""
    return 1.0 if metrics.get(metric).spec.better == "higher" else -1.0


def agreement(values: Measured, axiom: str, outcome: str, images: Indices, chosen: Indices) -> float:
    """A: Spearman's correlation over methods of means over images that have both; 1: who meets the axiom is better."""
    both = [-values.values[axiom][None][np.ix_(images, chosen)]]
    both.append(sign(outcome) * values.values[outcome][None][np.ix_(images, chosen)])
    missing = np.isnan(both[0]) | np.isnan(both[1])
    means = [np.ma.masked_array(each, missing).mean(0).filled(np.nan) for each in both]
    ranks = [rankdata(each[~np.isnan(means[0])]) for each in means]
    return float(np.corrcoef(ranks)[0, 1]) if all(len(np.unique(each)) > 1 for each in ranks) else np.nan


def change(values: Measured, move: Row, outcome: str, images: Indices, chosen: Indices) -> float:
    """B: the mean of what the move changes, positive where the outcome becomes better."""
    of_outcome = values.values[outcome]
    difference = sign(outcome) * (of_outcome[move] - of_outcome[None])[np.ix_(images, chosen)]
    return float(np.nanmean(difference)) if np.isfinite(difference).any() else np.nan


def with_interval(
    of_networks: Sequence[Measured], statistic: Callable[[Measured, Indices, Indices], float]
) -> tuple[float, float, float]:
    """The mean over networks of a statistic of (network, images, methods), with its 95 % interval over networks, images
    and families of methods."""
    names = of_networks[0].methods
    families = pd.factorize(pd.Series([FAMILIES.get(name, name) for name in names]))[0]
    every = np.arange(IMAGES), np.arange(len(names))
    draw, means = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = draw.integers(families.max() + 1, size=families.max() + 1)
        chosen = np.concatenate([np.flatnonzero(families == family) for family in drawn])
        which = draw.integers(len(of_networks), size=len(of_networks))
        means.append(np.nanmean([
            statistic(of_networks[place], draw.integers(IMAGES, size=IMAGES), chosen) for place in which
        ]))  # fmt: skip
    value = np.nanmean([statistic(each, *every) for each in of_networks])
    low, high = np.nanquantile(means, (0.025, 0.975))
    return float(value), float(low), float(high)


def answer(among: Interval, worse: Interval, better: Interval) -> str:
    """As the study says what counts."""
    follows, moves = among[1] > 0, worse[2] < 0 and better[1] > 0
    if follows or moves:
        return "yes" if follows and moves else "in part: between methods" if follows else "in part: moved maps"
    against = worse[1] > 0 and better[2] < 0
    return "no" if among[2] < 0 and against else "not shown"


def table(of_networks: Sequence[Measured]) -> Iterator[list[str]]:
    """A line for each axiom and outcome of one kind of network."""
    for axiom, outcome in product(AXIOMS, OUTCOMES[of_networks[0].kind]):
        among = with_interval(of_networks, lambda *at, a=axiom, o=outcome: agreement(at[0], a, o, *at[1:]))
        worse, better = (
            with_interval(of_networks, lambda *at, m=(axiom, way), o=outcome: change(at[0], m, o, *at[1:]))
            for way in ("worse", "better")
        )
        told = (f"{number(value)} [{number(low)}, {number(high)}]" for value, low, high in (among, worse, better))
        titles = (metrics.get(name).spec.title for name in (axiom, outcome))
        yield [of_networks[0].kind, *titles, *told, f"**{answer(among, worse, better)}**"]


@Memory(ROOT / "results" / "study_axioms", verbose=0).cache  # a run that ends goes on where it stopped
def measured(kind: str, seed: int) -> Measured:
    """Of the planted network, or the new training of scenes_vgg, of a seed."""
    data = {"kind": kind, "size": IMAGES, "seed": 100, "split": "evaluation"}
    if kind == "planted":
        return measure(kind, planted(seed), data)
    return measure("trained", trained("scenes_vgg", seed, RECIPES["scenes_vgg"]), data)


def main() -> None:
    of_planted = [measured("planted", seed) for seed in SEEDS]
    of_trained = [measured("scenes", seed) for seed in TRAININGS]
    header = ["networks", "axiom", "outcome", "A: between methods", "B: made worse", "B: made better", "says something"]
    lines = [header, *table(of_planted), *table(of_trained)]
    path = DOCS / "studies" / "axioms-and-truth.md"
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    path.write_text(f"{before}{start}\n\n{markdown(lines)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    unmoved = {
        move: np.mean([np.isnan(each.values[move[0]][move]).mean() for each in (*of_planted, *of_trained)])
        for move in MOVES
    }
    print(markdown(lines), unmoved, sep="\n")


if __name__ == "__main__":
    main()
