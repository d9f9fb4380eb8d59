"""Writes docs/metrics-audit.md: our metrics beside those of other libraries, on the same maps and images.

    python scripts/audit_metrics.py [--output docs/metrics-audit.md] [--summary docs/metrics.md]

--summary: the page whose lines between two markers are replaced by the table of who agrees.

Needs the extras `peers` and `quantus`: pip install -c requirements.lock -e '.[peers,quantus]'; half a minute on two
cores. Whatever the page says was measured in this run; what isn't seen any more is said to be gone. The pairs are in
scripts/metric_pairs.py, the cases are the files of scripts/metric_cases/, each runnable alone.
"""

from __future__ import annotations

import axiom_bench as ab  # before torchvision, which grad-cam imports

# isort: split
import math
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from audit_page import case, paragraph, table
from metric_pairs import PAIRS, Pair
from metric_peers import Sample
from peer_measures import quiet
from torch import nn

from axiom_bench import methods, metrics
from axiom_bench.data.base import subset
from axiom_bench.data.loading import batches
from axiom_bench.data.registry import load_dataset
from axiom_bench.evaluation.plugins import value_names
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.explanation.heatmap import Map
from axiom_bench.models.load import load_model
from axiom_bench.run.sweep import configuration

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).with_name("metric_cases")
COMMAND = "python scripts/audit_metrics.py"
LIBRARIES = ("quantus", "grad-cam", "torchcam", "captum", "scipy", "scikit-learn", "scikit-image", "numpy", "torch")
AGREES = 1e-5  # they compute in float32
IMAGES = 8
MARKERS = (f"<!-- {COMMAND} --summary docs/metrics.md -->", "<!-- end -->")


@dataclass(frozen=True)
class Side:
    """Both libraries' values of one sample; theirs is a sentence where they raise."""

    ours: np.ndarray
    theirs: np.ndarray | str
    predicted: np.ndarray | None = None

    @property
    def difference(self) -> float:
        """The largest of an image; infinite where they give none."""
        return _largest(self.ours, self.theirs)

    @property
    def left(self) -> float | None:
        """The largest difference to what is predicted of them."""
        return None if self.predicted is None else _largest(self.predicted, self.theirs)


@dataclass(frozen=True)
class Finding:
    """A pair's values; None where the sample doesn't suit it."""

    pair: Pair
    tiny: Side | None
    trained: Side | None

    @property
    def agrees(self) -> bool:
        """Within AGREES wherever it was measured."""
        return all(side.difference <= AGREES for side in (self.tiny, self.trained) if side is not None)

    @property
    def is_predicted(self) -> bool:
        """They do what `why` says, and nothing else."""
        return self.trained is not None and self.trained.left is not None and self.trained.left <= AGREES


def tiny() -> Sample:
    """One image of 2 x 2 pixels, whose values are worked out on paper: see scripts/metric_pairs.py."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        model[2].weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = math.log(2) * torch.tensor([[1.0, 2], [4, 0]])
    seen = torch.tensor([[[1, 0.5], [0.25, 0]]])
    note = ab.Annotation(torch.tensor([0]), torch.tensor([[0.0, 0, 1, 2]]), torch.tensor([[0, -1], [0, -1]]))
    batch = ab.Batch(images, ("tiny",), torch.tensor([0]), (note,))
    trace = ab.trace(model, "0", images, torch.tensor([0]))

    def method(trace: ab.Trace) -> Map:
        return Map(seen.expand(len(trace), 2, 2))

    return Sample("tiny", Explanation.of(trace, method(trace), batch, method))


def trained() -> Sample:
    """Scenes, the embedded network and Grad-CAM, float32."""
    config = configuration(["model=scenes_vgg", "data=scenes"])
    loaded, images = load_model(config["model"]), load_dataset(config["data"])
    rows = batches(images, subset(images, IMAGES, 0), loaded.preprocessing, "label", IMAGES, 0)
    batch = next(row for row in rows if isinstance(row, ab.Batch))
    trace, method = ab.trace(loaded.module, loaded.layer, batch.images, batch.targets), methods.get("grad_cam")
    return Sample(f"scenes_vgg at {loaded.layer}", Explanation.of(trace, method(trace), batch, method))


def finding(pair: Pair, small: Sample, large: Sample) -> Finding:
    """Measures a pair."""
    return Finding(pair, side(pair, small) if pair.by_hand else None, side(pair, large) if pair.on_trained else None)


def side(pair: Pair, sample: Sample) -> Side:
    """Both on one sample."""
    ours = pair.ours(sample)
    predicted = None if pair.predicted is None else pair.predicted(sample, ours)
    try:
        with quiet():
            theirs = np.asarray(pair.theirs(sample), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
        return Side(ours, f"raises {type(error).__name__}", predicted)
    return Side(ours, theirs, predicted)


def page(findings: Sequence[Finding], sample: Sample) -> str:
    """The whole page."""
    agreeing = [one for one in findings if one.agrees]
    predicted = [one for one in findings if not one.agrees and one.is_predicted]
    lines = [
        "# Audit of other libraries' metrics",
        "",
        f"Written by `{COMMAND}`; not edited. {', '.join(map(' '.join, versions().items()))}.",
        "",
        *paragraph(
            """Each library's metric is called as its documentation says, beside this project's, on the same maps,
            images and classes, with softmax probabilities wherever a score is asked for, unless settings say logit.
            Settings name what both were set to where their defaults differ. A metric of a whole data set is called for
            each image alone."""
        ),
        f"- {len(agreeing)} of {len(findings)} comparisons agree within {AGREES:g} on every image.",
        f"- {len(predicted)} differ by what the table says, and by nothing else: that predicts their values within "
        + f"{AGREES:g}.",
        f"- Without a pair in `scripts/metric_pairs.py`: {', '.join(unpaired())}.",
        "",
        "## Values",
        "",
        *paragraph(
            f"""Tiny: one image of 2 x 2 pixels, whose values are worked out on paper; the script stops where ours is
            another. Trained: {len(sample.images)} scenes, {sample.title}, Grad-CAM; the means, and the largest
            difference of an image. Left: the largest difference to their values as predicted from what the last column
            says. A dash: not measured there."""
        ),
        *values_table(findings),
        "## Smallest cases",
        "",
        "Run by the script; below each is what it printed. The files: `scripts/metric_cases/`.",
        "",
    ]
    return "\n".join([*lines, *(line for path in sorted(CASES.glob("*.py")) for line in case(path))]).rstrip() + "\n"


def values_table(findings: Iterable[Finding]) -> list[str]:
    """A row for each pair."""
    rows = [
        (
            f"`{one.pair.value}`",
            _name(one.pair),
            one.pair.settings or "default",
            _said(one.tiny and one.tiny.ours),
            _said(one.tiny and one.tiny.theirs),
            _said(one.trained and one.trained.ours),
            _said(one.trained and one.trained.theirs),
            _difference(one.trained.difference if one.trained else None),
            _difference(one.trained.left if one.trained else None),
            "" if one.agrees else " ".join([one.pair.why, f"(`{one.pair.case}.py`)" if one.pair.case else ""]).strip(),
        )
        for one in findings
    ]
    header = ("Ours", "Theirs", "Settings", "Tiny: ours", "theirs", "Trained: ours", "theirs", "Difference", "Left",
              "Why")  # fmt: skip
    return table(header, rows, text=3)


def unpaired() -> list[str]:
    """Our values that no pair is about."""
    paired = {pair.value for pair in PAIRS}
    every = [value for name in metrics.names() for value in value_names(metrics.get(name))]
    return [f"`{value}`" for value in every if value not in paired]


def summary(findings: Iterable[Finding]) -> list[str]:
    """A row for each of our values: who agrees, and who doesn't."""
    by_value: dict[str, list[Finding]] = {}
    for one in findings:
        by_value.setdefault(one.pair.value, []).append(one)
    rows = [
        (
            f"`{value}`",
            ", ".join(dict.fromkeys(_name(one.pair) for one in some if one.agrees)) or "-",
            "; ".join(f"{_name(one.pair)}: {one.pair.why}" for one in some if not one.agrees) or "-",
        )
        for value, some in by_value.items()
    ]
    return table(("metric", "agrees with", "differs from"), rows, text=3)


def between_markers(text: str, lines: Iterable[str]) -> str:
    """A page with other lines between MARKERS."""
    before, _, rest = text.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not end:
        raise SystemExit(f"The page for --summary needs the lines {' and '.join(MARKERS)}.")
    return "\n".join([before + MARKERS[0], "", *lines, end + after])


def _name(pair: Pair) -> str:
    return f"{pair.library} `{pair.name}`"


def _largest(one: np.ndarray, other: np.ndarray | str) -> float:
    if isinstance(other, str):
        return math.inf
    differences = np.abs(one - other)
    return math.inf if np.isnan(differences).any() else float(differences.max())


def _said(values: np.ndarray | str | None) -> str:
    if values is None or isinstance(values, str):
        return values or "-"
    return f"{np.nanmean(values):.6g}"


def _difference(value: float | None) -> str:
    if value is None:
        return "-"
    said = "0" if value == 0 else f"{value:.1e}"
    return said if value <= AGREES else f"**{said}**"


def versions() -> dict[str, str]:
    """Of those of LIBRARIES that are installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    """Measures, and writes the page. Stops where one of our values isn't the one worked out by hand."""
    arguments = ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--output", type=Path, default=ROOT / "docs" / "metrics-audit.md")
    arguments.add_argument("--summary", type=Path)
    given = arguments.parse_args()
    if missing := [name for name in LIBRARIES if name not in versions()]:
        raise SystemExit(
            f"Not installed: {', '.join(missing)}; pip install -c requirements.lock -e '.[peers,quantus]'."
        )
    small, large, findings = tiny(), trained(), []
    for pair in (pair for pair in PAIRS if pair.exists):
        one = finding(pair, small, large)
        if one.tiny is not None:
            np.testing.assert_allclose(one.tiny.ours, worked_out(pair), rtol=0, atol=1e-6, err_msg=pair.value)
        findings.append(one)
        print(f"{pair.value}, {pair.library} {pair.name}: {one.agrees}", flush=True)
    given.output.write_text(page(findings, large))
    print(f"page: {given.output}")
    if given.summary:
        given.summary.write_text(between_markers(given.summary.read_text(), summary(findings)))


def worked_out(pair: Pair) -> float:
    """The value on paper of the tiny sample."""
    return float(eval(pair.by_hand, {"__builtins__": {}}, {"log": math.log}))


if __name__ == "__main__":
    main()
