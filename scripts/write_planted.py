"""Measure methods on the planted networks and write what they should and do say into docs/studies/planted.md.

python scripts/write_planted.py            # writes the tables and docs/images/planted.png; about a minute
python scripts/write_planted.py --check    # exit code 1 where a table isn't what is measured
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from measuring import DOCS, markdown, with_part

import axiom_bench as ab
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.planted import BUILDERS, MEAN, STD
from axiom_bench.methods.spoiled.truth import truth

PAGE, FIGURE = DOCS / "studies" / "planted.md", DOCS / "images" / "planted.png"
START, END = "<!-- written by scripts/write_planted.py: {} -->", "<!-- end: {} -->"
IMAGES = 16
TRUTH_METRICS = ["truth_channel_error", "truth_correlation", "truth_mass_outside"]
METRICS = [*TRUTH_METRICS, "sensitivity_error", "conservation_error"]
EXACT = 0.001  # of a correlation below 1, of mass outside and of a channel error: rounding, and no more
RIGHT, AMOUNTS, PLACE, EMPTY, REFUSED = "right", "amounts", "place", "empty", "refused"
SHOWN = (
    *("hires_cam", "xgrad_cam", "grad_cam", "ablation_cam_axiomatic"),
    *("integrated_gradients", "score_cam", "saliency"),
)

Row = Sequence[str]
Kinds = Mapping[str, str]  # method: kind of its explanation


class Form(NamedTuple):
    """A network's closed forms, by hand: its score, and per channel the truth t, the ablation drops d and sum g F."""

    score: str
    truth: str
    drops: str
    gradient: str


FORMS = {
    "planted_additive": Form("r + 2 g + 3 b", "r, 2 g, 3 b", "t", "t"),
    "planted_bias": Form("r + 2 g + 3 b + 4", "r, 2 g, 3 b: the bias is no channel's", "t", "t"),
    "planted_suppressing": Form("2 r - g", "2 r, -g", "t", "t"),
    "planted_saturating": Form("min(1, r + g + b)", "r/3 + (1 - g)/6 + (1 - b)/6, and so on", "0", "0"),
    "planted_and": Form("max(0, r + g - 1)", "S/2, S/2", "S, S: twice t", "r, g"),
    "planted_or": Form("max(r, g)", "(S + r - g)/2, (S + g - r)/2", "S - g, S - r", "S to the larger, 0 to the other"),
    "planted_duplicate": Form("r + r - r² + g", "r - r²/2 twice, 0 (dead), g", "r - r² twice, 0, g", "as d"),
    "planted_cancelling": Form("r + b + y, b + y by F = blue - yellow", "r, b + y", "t", "t, but sum F = 0"),
    "planted_region": Form("r + g + y of the left half", "the left half's r, g; y = 0", "t", "t"),
    "planted_vanishing": Form("r + 2 g + 3 b", "r, 2 g, 3 b", "t", "t; 0 in every pixel"),
}
# What follows from the forms, in the order of FORMS: R right, A amounts, P place, E empty, X refused.
PREDICTED = {
    "hires_cam": "RRREAAARRR",
    "layer_cam": "RRAEAAAARR",
    "xgrad_cam": "RRREAAAAPR",
    "grad_cam": "RRREAAAAPR",
    "grad_cam_pp": "AAREAAAAPA",
    "cam": "RRRXXXXXXR",
    "shapley_cam": "RRREAARAPR",
    "integrated_gradients": "RRRAAARRRR",
    "lift_cam": "AARAAAXAPA",
    "ablation_cam_axiomatic": "RRREAAAAPR",
    "ablation_cam": "AAREAAAAPA",
    "axiom_cam": "RARPRAAAPR",
    "score_cam": "PPPPPPPPPP",
    "eigen_cam": "PPPPPPPPPP",
    "saliency": "AAPEAAAAAE",
    "random": "PPPPPPPPPP",
    "uniform": "PPPPPPPPPP",
    "sobel": "PPPPPPPPPP",
}
KINDS = {"R": RIGHT, "A": AMOUNTS, "P": PLACE, "E": EMPTY, "X": REFUSED}


def predicted(network: str, method: str) -> str:
    """The kind that theory says."""
    return KINDS[PREDICTED[method][list(FORMS).index(network)]]


def images() -> Batch:
    """The images that all networks are measured on."""
    dataset = load_dataset({"kind": "planted", "size": IMAGES})
    preprocessing = Preprocessing(96, 96, (MEAN,) * 3, (STD,) * 3)
    (batch,) = batches(dataset, range(IMAGES), preprocessing, "label", IMAGES)
    assert isinstance(batch, Batch)  # drawn images are never damaged
    return batch


def measured(network: str, batch: Batch, methods: Sequence[str] = tuple(PREDICTED)) -> pd.DataFrame:
    """method x metric -> the mean over the images, NaN where no image has the value; and `kind` of each method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a method that refuses the network is left out, and says so
        rows = ab.evaluate(BUILDERS[network]().eval(), "features", [batch], [*methods, truth], METRICS)
    table = rows.pivot_table(index="method", columns="metric", values="value", aggfunc="mean", dropna=False)
    table = table.reindex(index=[*methods, "truth"], columns=METRICS)
    statuses = rows[rows["metric"] == "truth_correlation"].groupby("method")["status"].agg(set)
    table["kind"] = [kind_of(row, statuses[str(name)]) for name, row in table.iterrows()]
    return table


def kind_of(row: pd.Series, statuses: set[str]) -> str:
    """The kind of a method's explanations: its means over the images, and the statuses of its correlation."""
    if statuses == {"not_applicable"}:
        return REFUSED
    if statuses == {"zero_map"}:
        return EMPTY
    if row["truth_mass_outside"] > EXACT:
        return PLACE
    wrong_totals = row["truth_channel_error"] > EXACT  # False where a method has no totals on the score's scale
    return AMOUNTS if wrong_totals or not row["truth_correlation"] >= 1 - EXACT else RIGHT


def forms_table() -> list[Row]:
    """The closed forms of all networks."""
    header = ("network", "score S", "true totals t of the channels", "ablation drops d", "sums of gradient x F")
    return [header, *((f"`{name}`", *form) for name, form in FORMS.items())]


def kinds_table(results: Mapping[str, pd.DataFrame]) -> list[Row]:
    """What each method says, methods by networks; where theory said something else, that in brackets."""
    rows: list[Row] = [("method", *map(_short, results))]
    for method in PREDICTED:
        cells = []
        for network, table in results.items():
            kind, expected = str(table.loc[method, "kind"]), predicted(network, method)
            cells.append(kind if kind == expected else f"**{kind}** (theory: {expected})")
        rows.append((f"`{method}`", *cells))
    return rows


def values_table(metric: str) -> Callable[[Mapping[str, pd.DataFrame]], list[Row]]:
    """One metric's means, methods by networks; a dash where there is none."""

    def table(results: Mapping[str, pd.DataFrame]) -> list[Row]:
        rows: list[Row] = [("method", *map(_short, results))]
        for method in PREDICTED:
            values = [number(float(table[metric][method])) for table in results.values()]
            if set(values) != {"-"}:
                rows.append((f"`{method}`", *values))
        return rows

    return table


def axioms_table(results: Mapping[str, pd.DataFrame]) -> list[Row]:
    """The axiom errors of the truth beside those of the ablation drops, and how far these are from the truth."""
    header = (
        "network",
        "sensitivity error of the truth",
        "conservation error of the truth",
        "... of Ablation-CAM (axiomatic)",
        "channel error of Ablation-CAM (axiomatic), whose totals are the drops",
        "... of HiResCAM, gradient x F",
        "... of Axiom-CAM, which conserves S",
    )
    rows: list[Row] = [header]
    for network, table in results.items():
        shown = [("truth", "sensitivity_error"), ("truth", "conservation_error")]
        shown += [("ablation_cam_axiomatic", "conservation_error")]
        shown += [(method, "truth_channel_error") for method in ("ablation_cam_axiomatic", "hires_cam", "axiom_cam")]
        errors = [float(table[metric][method]) for method, metric in shown]
        rows.append((f"`{network}`", *map(number, errors)))
    return rows


SECTIONS: dict[str, Callable[[Mapping[str, pd.DataFrame]], list[Row]]] = {
    "forms": lambda results: forms_table(),
    "kinds": kinds_table,
    "channel error": values_table("truth_channel_error"),
    "correlation": values_table("truth_correlation"),
    "mass outside": values_table("truth_mass_outside"),
    "axioms": axioms_table,
}


def number(value: float) -> str:
    """Two decimals, no negative zero; a dash for NaN."""
    return "-" if value != value else f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def with_sections(document: str, tables: Mapping[str, Sequence[Row]]) -> str:
    """The document with each table between its markers. Raises BenchError where it lacks them."""
    for name, rows in tables.items():
        document = with_part(document, START.format(name), END.format(name), markdown(rows))
    return document


def figure(batch: Batch) -> Figure:
    """The first image, the truth and some methods' heatmaps, a row for each network; an empty map is crossed out."""
    columns = ["image", "truth", *SHOWN]
    drawn = Figure(figsize=(9.4, 10.4), layout="constrained")
    axes = drawn.subplots(len(FORMS), len(columns), squeeze=False)
    image = (batch.images[0] * STD + MEAN).clamp(0, 1).permute(1, 2, 0)
    for row, network in zip(axes, FORMS, strict=True):
        trace = ab.trace(BUILDERS[network]().eval(), "features", batch.images[:1], torch.tensor([0]))
        row[0].imshow(image)
        row[0].set_ylabel(_short(network), fontsize=8)
        for place, method in zip(row[1:], columns[1:], strict=True):
            answer = truth(trace) if method == "truth" else ab.methods.get(method)(trace)
            heatmap = ab.Explanation.of(trace, answer).heatmap
            assert heatmap is not None
            place.imshow(heatmap[0], cmap="viridis", vmin=0, vmax=1)
            if not heatmap.any():
                place.plot([0, 95], [0, 95], color="white", linewidth=0.8)
                place.plot([0, 95], [95, 0], color="white", linewidth=0.8)
        for place in row:
            place.set_xticks([])
            place.set_yticks([])
    titles = {"ablation_cam_axiomatic": "ablation_cam\n_axiomatic", "integrated_gradients": "integrated\n_gradients"}
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(titles.get(name, name), fontsize=8)
    return drawn


def _short(network: str) -> str:
    return network.removeprefix("planted_")


def main(argv: Sequence[str] | None = None) -> int:
    """Write, or check, the tables; the exit code is 1 where a check finds one out of date."""
    parser = argparse.ArgumentParser(description="Measure the planted networks and write docs/studies/planted.md.")
    parser.add_argument("--check", action="store_true", help="only say whether the tables are what is measured")
    check = parser.parse_args(argv).check
    batch = images()
    results = {network: measured(network, batch) for network in FORMS}
    text = PAGE.read_text(encoding="utf-8")
    expected = with_sections(text, {name: section(results) for name, section in SECTIONS.items()})
    if check:
        print(f"{PAGE.name}: {'as measured' if text == expected else 'out of date; run scripts/write_planted.py'}")
        return int(text != expected)
    PAGE.write_text(expected, encoding="utf-8")
    figure(batch).savefig(FIGURE, dpi=100, metadata={"Software": None})
    print(f"{PAGE.name} and {FIGURE.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
