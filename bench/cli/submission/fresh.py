"""Whether a method stands on fresh images, and on planted networks with other weights, where it stands on a suite's
own, which its author could know."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from axiom_bench.columns import OK
from axiom_bench.embedded.planted import NoisyOr, PlantedNetwork
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.models.load import load_model
from axiom_bench.records import publishing, reading
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import computed_alone
from axiom_bench.statistics.labels import Metadata, Value, number
from axiom_bench.statistics.paired_tests import holm

ROW = ["model", "image_id", "target_class"]


class Moved(NamedTuple):
    """A method's distance to the reference by one metric of a part: means over images, and p of their difference."""

    part: str
    value: Value
    published: float
    fresh: float
    images: int
    p: float


def settings() -> dict[str, Any]:
    """conf/submission.yaml."""
    return dict(read_yaml(conf_folder() / "submission.yaml"))


def is_drawn(config: Mapping[str, Any]) -> bool:
    """Whether a job's images are drawn by a seed, rather than read."""
    return "root" not in config["data"] and "seed" in config["data"]


def distances(
    part: str, configs: Sequence[dict[str, Any]], stored: pd.DataFrame, folder: Path, name: str, seed: int
) -> list[Moved]:
    """Of a part whose images are drawn. configs: of its jobs, with the method and the reference. stored: the submitted
    rows. folder: the published values. Images are drawn by another seed, a share of the part's, and planted networks
    have their channels in another order."""
    chosen = settings()
    reference, manifest = chosen["reference"], reading.read_manifest(folder)
    rows = reading.read_records(folder, manifest)
    published = pd.concat([stored[stored["method"].astype(str) == name], rows[rows["method"].astype(str) == reference]])
    with progress(f"{part}: fresh images"), TemporaryDirectory() as weights:
        jobs = [_fresh(config, {name, reference}, chosen, seed, Path(weights)) for config in configs]
        drawn = computed_alone(jobs, seed, share=1.0)
    drawn["value"] = publishing.rounded(drawn["value"].to_numpy(float))
    metadata = Metadata(manifest)
    return [
        Moved(part, value, float(before.mean()), float(now.mean()), len(now), _p(before, now, value))
        for metric in manifest["metrics"]
        if (value := metadata.value(metric)).has_direction
        for before, now in [[_by_image(frame, metric, name, reference) for frame in (published, drawn)]]
        if min(len(before), len(now)) > 1
    ]


def marks(moved: Sequence[Moved]) -> Iterator[str]:
    """A line for each distance that moved further than chance moves it, after Holm over all."""
    chosen = settings()
    for each, p in zip(moved, holm([each.p for each in moved]), strict=True):
        if p < chosen["level"]:
            yield (
                f"{each.part}: by {each.value.title} it is {number(each.published)} from {chosen['reference']} on the "
                f"published images, and {number(each.fresh)} on {each.images} fresh ones (p = {p:.0e})."
            )


def _fresh(
    config: dict[str, Any], names: set[str], chosen: Mapping[str, Any], seed: int, weights: Path
) -> dict[str, Any]:
    data, model = config["data"], config["model"]
    if isinstance(network := load_model(model).module, PlantedNetwork):
        file = weights / f"{model['name']}.safetensors"
        save_file(_reordered(network, seed), file)
        model = {**model, "weights": str(file)}
    size = max(chosen["fewest"], math.ceil(chosen["share"] * data["size"]))
    methods = {name: entry for name, entry in config["method"].items() if name in names}
    drawn = {**data, "size": size, "seed": data["seed"] + 1 + seed}
    return {**config, "suite_part": None, "method": methods, "model": model, "data": drawn}


def _reordered(network: PlantedNetwork, seed: int) -> dict[str, Tensor]:
    """The weights of the same network with its channels in another order, but for two that a noisy or reads by their
    place. The last convolution of the features makes the channels, and readout and head read them."""
    state = network.state_dict()
    *_, last = (name for name, module in network.features.named_modules() if isinstance(module, nn.Conv2d))
    first = next(name for name, module in network.head.named_modules() if isinstance(module, nn.Linear))
    channels = len(state[f"features.{last}.weight"])
    fixed = 2 if isinstance(network.head, NoisyOr) else 0
    others = random.Random(seed).sample(range(fixed, channels), channels - fixed)
    order = [*range(fixed), *others]
    made = [name for name in state if name.startswith((f"features.{last}.", "readout."))]
    state |= {name: state[name][order] for name in made}
    read = f"head.{first}.weight" if first else "head.weight"
    return {**state, read: state[read][:, order].contiguous()}


def _by_image(frame: pd.DataFrame, metric: str, name: str, reference: str) -> NDArray[np.float64]:
    """(images,): the difference of the two methods, the mean over networks and explained classes."""
    rows = frame[(frame["metric"].astype(str) == metric) & (frame["status"] == OK)]
    table = rows.astype(dict.fromkeys([*ROW, "method"], str)).pivot_table("value", ROW, "method")
    if not {name, reference} <= {*table}:
        return np.empty(0)
    difference = (table[name] - table[reference]).dropna()
    return difference.groupby("image_id").mean().to_numpy(dtype=np.float64)


def _p(before: NDArray[np.float64], now: NDArray[np.float64], value: Value) -> float:
    """Welch's test; of metrics with heavy tails Brunner and Munzel's (Biometrical Journal 2000), of ranks."""
    from scipy import stats  # here, since most commands need none

    if np.ptp(np.concatenate([before, now])) == 0:
        return 1.0
    if value.lead == "median":
        p = stats.brunnermunzel(before, now).pvalue
    else:
        p = stats.ttest_ind(before, now, equal_var=False).pvalue
    return 0.0 if np.isnan(p) else float(p)  # each constant, and not the same
