"""Measure whether zeta and epsilon are small at the last layers, and smaller than at inner ones.

    python scripts/study_premise.py
    python scripts/study_premise.py vgg16_mri inception_v3_five

The first command computes what results/layers/premise_* lack, draws the figure of findings.md and
writes docs/data/premise.csv. With names of networks, the script only prints their rows and draws
premise_paper.png.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from write_docs import DOCS, ROOT, markdown

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.columns import OK
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

SMALL = 0.1  # residuals below are small
ROUNDING = 1e-5  # errors that differ by less are equal
LEAST = 1e-6  # the figure's axis begins here
RESIDUALS = ("zeta", "epsilon")
TRAININGS = ("", "_seed1", "_seed2", "_seed3", "_seed4")
STAGES = ("layer1", "layer2", "layer3", "layer4")
COMMON = (
    "experiment=layers",
    "method=[grad_cam,xgrad_cam]",
    "data.size=24",
    "data.batch_size=8",
    "metric=[zeta,epsilon,sensitivity_error]",
    f"results={ROOT / 'results'}",
)
OWN = ("data=imagenet", "data.size=12", "data.target=label")
SLICES = (
    "data=folder",
    "data.root=${real_root}/data/mri_slices",
    "data.name=mri_slices",
    "data.size=36",
    "data.batch_size=6",
    "shard_size=6",
)
NEUTRAL = ("data=imagenet", "data.size=12", "target=predicted", "data.batch_size=6", "shard_size=6")
PHOTOGRAPHS = (*OWN, "model.weights_folder=${real_root}/weights")


class Network(NamedTuple):
    """A network of the study."""

    name: str
    layers: tuple[str, ...]  # three inner ones and the last
    overrides: tuple[str, ...]  # of its data
    trainings: tuple[str, ...] = ("",)  # endings of its trainings' names


NETWORKS = (
    Network(
        "scenes_vgg",
        ("features.4", "features.7", "features.11", "features.13"),
        ("data=scenes",),
        TRAININGS,
    ),
    Network("scenes_resnet", STAGES, ("data=scenes",), TRAININGS),
    Network(
        "signals_cnn",
        ("features.3", "features.4", "features.7", "features.9"),
        ("data=signals",),
        TRAININGS,
    ),
    Network(
        "scenes_detector",
        ("features.4", "features.8", "features.11", "features.13"),
        ("data=scenes_repeated", "target=matched", "data.size=8"),
        TRAININGS,
    ),
    Network(
        "scenes_segmenter",
        ("bottleneck.1", "bottleneck.3", "bottleneck.5", "bottleneck.7"),
        ("data=scenes_repeated", "target=matched", "data.size=8"),
        TRAININGS,
    ),
    Network(
        "squeezenet1_1", ("features.4", "features.7", "features.10", "features.12"), PHOTOGRAPHS
    ),
    Network("shufflenet_v2_x0_5", ("stage2", "stage3", "stage4", "conv5"), PHOTOGRAPHS),
    Network(
        "mobilenet_v2", ("features.6", "features.13", "features.17", "features.18"), PHOTOGRAPHS
    ),
    Network("resnet18", STAGES, PHOTOGRAPHS),
    Network("own_model", ("features.4", "features.7", "features.9", "features.12"), OWN),
    Network("vgg16_mri", ("features.9", "features.16", "features.23", "features.30"), SLICES),
    Network("inception_v3_five", ("mixed7", "mixed8", "mixed9", "mixed10"), NEUTRAL),
)


def computed(networks: Sequence[Network]) -> pd.DataFrame:
    """Return the records of all networks and layers, computed if they aren't cached.

    Each network has a run folder.
    """
    records = []
    for network in networks:
        models = ",".join(f"{network.name}{ending}" for ending in network.trainings)
        layers = ",".join(reversed(network.layers))  # the last layer is the quickest
        run = f"premise_{network.name}"
        axes = (f"model={models}", f"model.layer={layers}", f"run={run}")
        _, outcomes = run_jobs([*COMMON, *network.overrides, *axes])
        failures = [outcome.failure for outcome in outcomes if outcome.failure]
        if failures:
            raise RuntimeError(f"{network.name}: {failures[0]}")
        folder = RunFolder.read(ROOT / "results" / "layers" / run)
        records.append(folder.records.rows([*RESIDUALS, "sensitivity_error"]))
    return pd.concat(records)


def rows_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records with a value, with the columns network and place.

    The network is its trainings' common name, and the place is the layer's, 0 to 3.
    """
    rows = records[records["status"] == OK].astype(
        {"model": str, "layer": str, "method": str, "metric": str}
    )
    places = {}
    for network in NETWORKS:
        for ending in network.trainings:
            for place, layer in enumerate(network.layers):
                places[f"{network.name}{ending}", layer] = (network.name, place)
    keys = [places[key] for key in zip(rows["model"], rows["layer"], strict=True)]
    return rows.assign(network=[name for name, _ in keys], place=[place for _, place in keys])


def lines(rows: pd.DataFrame, networks: Sequence[Network]) -> Iterator[list[str]]:
    """Yield a header and a line for each network: medians over images by layer.

    If a network has several trainings, the line has their median and range.
    """
    yield [
        "network",
        "layers",
        *(f"{name}, by layer" for name in RESIDUALS),
        *(f"{name} small" for name in RESIDUALS),
        *(f"{name} least at the last" for name in RESIDUALS),
        "sensitivity error below Grad-CAM's, by layer",
    ]
    for network in networks:
        network_rows = rows[rows["network"] == network.name]
        medians = network_rows.groupby(["metric", "model", "place"])["value"].median()
        ranges = []
        small_counts = []
        least_counts = []
        for name in RESIDUALS:
            table = medians[name].unstack()
            last = table[3]
            is_least = last < table.drop(columns=3).min(axis=1)
            ranges.append("; ".join(_with_range(table[place]) for place in table))
            small_counts.append(f"{(last < SMALL).sum()} of {len(table)}")
            least_counts.append(f"{is_least.sum()} of {len(table)}")
        errors = network_rows[network_rows["metric"] == "sensitivity_error"].pivot_table(
            index=["place", "model", "image_id", "target_class"],
            columns="method",
            values="value",
            observed=True,
        )
        # Where both methods give the same map, rounding decides which error is smaller.
        is_below = errors["xgrad_cam"] < errors["grad_cam"] - ROUNDING
        shares = [f"{100 * share:.0f} %" for share in is_below.groupby("place").mean()]
        yield [
            network.name,
            ", ".join(network.layers),
            *ranges,
            *small_counts,
            *least_counts,
            "; ".join(shares),
        ]


def _with_range(values: pd.Series) -> str:
    if len(values) == 1:
        return number(values.iloc[0])
    return f"{number(values.median())} ({number(values.min())} to {number(values.max())})"


def draw(rows: pd.DataFrame, networks: Sequence[Network], name: str) -> None:
    """Draw box-plots after the paper's Fig. 2, at four layers, with the mean above each box.

    The axis is logarithmic, from 1e-6 on.
    """
    order = [network.name for network in networks]
    width = max(5.5, 1.1 * len(order))
    figure, axes = plt.subplots(2, 1, figsize=(width, 8), sharex=True, layout="constrained")
    for axis, residual in zip(axes, RESIDUALS, strict=True):
        residual_rows = rows[rows["metric"] == residual]
        # A logarithmic axis can't show 0.
        visible_rows = residual_rows.assign(value=residual_rows["value"].clip(lower=LEAST))
        sns.boxplot(
            visible_rows,
            x="network",
            y="value",
            hue="place",
            order=order,
            palette="crest",
            showfliers=False,
            ax=axis,
            log_scale=(False, True),
            linewidth=0.8,
        )
        means = residual_rows.groupby(["network", "place"])["value"].mean()
        for (column, network), place in product(enumerate(order), range(4)):
            mean = means[network, place]
            axis.text(
                column + (place - 1.5) * 0.2,
                1.01,
                f"{mean:.2g}" if mean > LEAST else "0",
                transform=axis.get_xaxis_transform(),
                ha="center",
                fontsize=7,
                rotation=90,
            )
        axis.axhline(SMALL, color="0.4", linewidth=0.8, linestyle="--")
        axis.set(xlabel="", ylabel=f"normalised {residual}")
        handles, _ = axis.get_legend_handles_labels()
        axis.get_legend().remove()
    titles = ["first inner layer", "second", "third", "last"]
    figure.legend(handles, titles, ncols=4, loc="outside lower center")
    axes[1].tick_params(axis="x", rotation=20 if len(order) > 3 else 0)
    figure.savefig(DOCS / "images" / f"{name}.png", dpi=100)


def main(names: Sequence[str]) -> None:
    """Compute, draw and print the named networks, or all of them and write premise.csv."""
    networks = [network for network in NETWORKS if not names or network.name in names]
    rows = rows_of(computed(networks))
    draw(rows, networks, "premise_paper" if names else "premise")
    table = list(lines(rows, networks))
    if not names:
        header, *body = table
        path = DOCS / "data" / "premise.csv"
        pd.DataFrame(body, columns=header).to_csv(path, index=False)
    print(markdown(table), f"networks: {len(networks)}; rows: {len(rows)}", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
