"""Are zeta and epsilon small at the last layers, and smaller than at inner ones? Write
findings.md's table and figure.

python scripts/study_premise.py                                 (computes what
results/layers/premise_* lack) python scripts/study_premise.py vgg16_mri inception_v3_five
(prints their rows and draws premise_paper.png)
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
from write_findings import filled

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.columns import OK
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

SMALL, ROUNDING, LEAST = 0.1, 1e-5, 1e-6
RESIDUALS = ("zeta", "epsilon")
TRAININGS = ("", "_seed1", "_seed2", "_seed3", "_seed4")
STAGES = ("layer1", "layer2", "layer3", "layer4")
COMMON = (
    *("experiment=layers", "method=[grad_cam,xgrad_cam]", "data.size=24", "data.batch_size=8"),
    *("metric=[zeta,epsilon,sensitivity_error]", f"results={ROOT / 'results'}"),
)
OWN = ("data=imagenet", "data.size=12", "data.target=label")
SLICES = (
    *(
        "data=folder",
        "data.root=${real_root}/data/mri_slices",
        "data.name=mri_slices",
        "data.size=36",
    ),
    *("data.batch_size=6", "shard_size=6"),
)
NEUTRAL = ("data=imagenet", "data.size=12", "target=predicted", "data.batch_size=6", "shard_size=6")
PHOTOGRAPHS = (*OWN, "model.weights_folder=${real_root}/weights")


class Network(NamedTuple):
    """layers: three inner ones and the last. overrides: of its data. trainings: endings of its
    names.
    """

    name: str
    layers: tuple[str, ...]
    overrides: tuple[str, ...]
    trainings: tuple[str, ...] = ("",)


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
    """The records of all networks and layers, a run folder for each network; what is there isn't
    computed again.
    """
    records = []
    for network in networks:
        models, run = (
            ",".join(f"{network.name}{ending}" for ending in network.trainings),
            f"premise_{network.name}",
        )
        layers = ",".join(reversed(network.layers))  # the last layer is the quickest
        axes = (f"model={models}", f"model.layer={layers}", f"run={run}")
        _, outcomes = run_jobs([*COMMON, *network.overrides, *axes])
        if failures := [outcome.failure for outcome in outcomes if outcome.failure]:
            raise RuntimeError(f"{network.name}: {failures[0]}")
        folder = RunFolder.read(ROOT / "results" / "layers" / run)
        records.append(folder.records.rows([*RESIDUALS, "sensitivity_error"]))
    return pd.concat(records)


def rows_of(records: pd.DataFrame) -> pd.DataFrame:
    """Those with a value, and the columns network (its trainings' common name) and place (the
    layer's, 0 to 3).
    """
    rows = records[records["status"] == OK].astype(
        {"model": str, "layer": str, "method": str, "metric": str}
    )
    places = {
        (f"{network.name}{ending}", layer): (network.name, place)
        for network in NETWORKS
        for ending in network.trainings
        for place, layer in enumerate(network.layers)
    }
    keys = [places[key] for key in zip(rows["model"], rows["layer"], strict=True)]
    return rows.assign(network=[name for name, _ in keys], place=[place for _, place in keys])


def lines(rows: pd.DataFrame, networks: Sequence[Network]) -> Iterator[list[str]]:
    """A line for each network: medians over images by layer, of several trainings their median and
    range.
    """
    yield [
        "network", "layers", *(f"{name}, by layer" for name in RESIDUALS), *(f"{name} small" for name in RESIDUALS),
        *(f"{name} least at the last" for name in RESIDUALS), "sensitivity error below Grad-CAM's, by layer",
    ]  # fmt: skip
    for network in networks:
        own = rows[rows["network"] == network.name]
        medians = own.groupby(["metric", "model", "place"])["value"].median()
        cells, small, least = [], [], []
        for name in RESIDUALS:
            table = medians[name].unstack()
            cells.append("; ".join(_with_range(table[place]) for place in table))
            small.append(f"{(table[3] < SMALL).sum()} of {len(table)}")
            least.append(f"{(table[3] < table.drop(columns=3).min(axis=1)).sum()} of {len(table)}")
        errors = own[own["metric"] == "sensitivity_error"].pivot_table(
            index=["place", "model", "image_id", "target_class"],
            columns="method",
            values="value",
            observed=True,
        )
        below = (errors["xgrad_cam"] < errors["grad_cam"] - ROUNDING).groupby("place").mean()
        shares = "; ".join(f"{100 * share:.0f} %" for share in below)
        yield [network.name, ", ".join(network.layers), *cells, *small, *least, shares]


def _with_range(values: pd.Series) -> str:
    if len(values) == 1:
        return number(values.iloc[0])
    return f"{number(values.median())} ({number(values.min())} to {number(values.max())})"


def draw(rows: pd.DataFrame, networks: Sequence[Network], name: str) -> None:
    """Box-plots after the paper's Fig. 2, at four layers, logarithmic from 1e-6 on; the mean above
    each box.
    """
    order = [network.name for network in networks]
    width = max(5.5, 1.1 * len(order))
    figure, axes = plt.subplots(2, 1, figsize=(width, 8), sharex=True, layout="constrained")
    for axis, residual in zip(axes, RESIDUALS, strict=True):
        own = rows[rows["metric"] == residual]
        sns.boxplot(
            own.assign(value=own["value"].clip(lower=LEAST)), x="network", y="value", hue="place", order=order,
            palette="crest", showfliers=False, ax=axis, log_scale=(False, True), linewidth=0.8,
        )  # fmt: skip
        means = own.groupby(["network", "place"])["value"].mean()
        for (column, network), place in product(enumerate(order), range(4)):
            at, mean = column + (place - 1.5) * 0.2, means[network, place]
            label = f"{mean:.2g}" if mean > LEAST else "0"
            axis.text(
                at,
                1.01,
                label,
                transform=axis.get_xaxis_transform(),
                ha="center",
                fontsize=7,
                rotation=90,
            )
        axis.axhline(SMALL, color="0.4", linewidth=0.8, linestyle="--")
        axis.set(xlabel="", ylabel=f"normalised {residual}")
        handles, _ = axis.get_legend_handles_labels()
        axis.get_legend().remove()
    figure.legend(
        handles,
        ["first inner layer", "second", "third", "last"],
        ncols=4,
        loc="outside lower center",
    )
    axes[1].tick_params(axis="x", rotation=20 if len(order) > 3 else 0)
    figure.savefig(DOCS / "images" / f"{name}.png", dpi=100)


def main(names: Sequence[str]) -> None:
    networks = [
        network
        for network in NETWORKS
        if network.name in (names or [each.name for each in NETWORKS])
    ]
    rows = rows_of(computed(networks))
    draw(rows, networks, "premise_paper" if names else "premise")
    table = [*lines(rows, networks)]
    if not names:
        path = DOCS / "findings.md"
        path.write_text(
            filled(path.read_text(encoding="utf-8"), {"premise": table}), encoding="utf-8"
        )
    print(markdown(table), f"networks: {len(networks)}; rows: {len(rows)}", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
