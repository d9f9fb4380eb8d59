"""The page from its template: the run, its tables and its figures, without links to other files."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from axiom_bench.columns import UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.report.figures import by_method
from axiom_bench.report.figures.drawing import DPI, LeftOut
from axiom_bench.report.figures.saving import SavedFigure
from axiom_bench.report.numbers import share
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.summary import classified
from axiom_bench.report.tables.table import Table

TEMPLATE = "report.html.j2"
MAX_OPEN_BOX_PLOTS = 12  # of more, a reader opens the list
PHOTOGRAPH_BYTES = 2**19  # of a PNG, more than of a plot
CSS_DPI = 96  # an inch on a page, by definition


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure as it stands in the page. source: a data URI. width: on the page, in CSS pixels."""

    name: str
    title: str
    caption: str
    source: str
    width: int


def embedded(figure: SavedFigure) -> EmbeddedFigure:
    """A saved figure in the page. Photographs are WebP there, a tenth of the bytes; the PNG file is exact."""
    kind, data = "png", figure.png.read_bytes()
    image = Image.open(io.BytesIO(data))
    if len(data) > PHOTOGRAPH_BYTES:
        buffer = io.BytesIO()
        image.convert("RGB").save(
            buffer, "WEBP", quality=90, method=2
        )  # 4, the default, takes twice as long for the same bytes
        kind, data = "webp", buffer.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return EmbeddedFigure(figure.name, figure.title, figure.caption, source, round(CSS_DPI * image.width / DPI))


def page(
    run: RunFolder, tables: Sequence[Table], figures: Iterable[SavedFigure | LeftOut], lines: Sequence[str]
) -> str:
    """The whole page; lines: the run's main results. The same run gives the same text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = typeset
    figures = list(figures)
    drawn = [embedded(figure) for figure in figures if isinstance(figure, SavedFigure)]
    return environment.get_template(TEMPLATE).render(
        manifest=run.manifest,
        headline=lines,
        models=_models(run),
        data=_data(run),
        precision=_precision(run.manifest.get("precision")),
        overview=tables[0],
        tables=tables[1:],
        figures=drawn,
        box_plots=[figure for figure in drawn if figure.name.startswith(by_method.PREFIX)],
        max_open=MAX_OPEN_BOX_PLOTS,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
        empty=run.records.empty,
        command=_command(run),
    )


def typeset(text: str) -> Markup:
    """Escaped, with a true minus, powers of ten, no break inside "n = 3", and the text's own line breaks."""
    html = str(escape(text))
    html = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", html)
    html = html.replace("&lt;1e-6", "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>")
    html = re.sub(r"(\d)e(-?)(\d+)\b", _power, html)
    html = re.sub(r"\bn = (?=\d)", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", html)
    return Markup(html.replace("\n", "<br>"))


def _power(match: re.Match[str]) -> str:
    sign = "\N{MINUS SIGN}" if match[2] else ""
    return f"{match[1]}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10<sup>{sign}{match[3]}</sup>"


def _models(run: RunFolder) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "layers": ", ".join(model.get("layers") or [model.get("layer", "")]),
            "weights": str(model.get("weights", "")),
            "sha256": str(model.get("weights_sha256") or "")[:12],
            "images": _kept(run, name),
            "correct": _correct(run, name),
        }
        for name, model in (run.manifest.get("models") or {}).items()
    ]


def _kept(run: RunFolder, model: str) -> str:
    """How many images the model explains: "108", or "97 of 108" where others are left out; of each data set."""
    counts = run.images(model).values()
    return ", ".join(
        f"{count['kept']:,} of {count['chosen']:,}" if count["others"] else f"{count['kept']:,}" for count in counts
    )


def _correct(run: RunFolder, model: str) -> str:
    """How many images have a label that the model predicts: "108 of 120 (90 %)"; empty where no label is known.

    Images that the model left out since it names them wrongly count as well.
    """
    rows = run.records[(run.records["model"] == model) & (run.records["image_id"] != WHOLE_SET)]
    if run.config.get("target") == "predicted" or rows.empty:
        return ""
    rows = rows.drop_duplicates(["data", "image_id", "target_class"])
    split = classified(rows)
    images = (split[split != "unknown"] == "correct").groupby([rows["data"], rows["image_id"]], observed=True).any()
    correct = int(images.sum())
    left_out = sum(count["chosen"] - count["kept"] for count in run.images(model).values())
    total = len(images) + left_out
    return f"{correct:,} of {total:,} ({share(correct, total)})" if len(images) else ""


def _data(run: RunFolder) -> list[dict[str, str]]:
    """Each data set's images, and how many of them have records that aren't of a bad image."""
    rows = []
    for name, data in (run.manifest.get("data") or {}).items():
        records = run.records[(run.records["data"] == name) & (run.records["image_id"] != WHOLE_SET)]
        bad = records.loc[records["target_class"] == UNKNOWN_CLASS, "image_id"].nunique()
        counts = {
            "ids": f"{len(data.get('ids') or []):,}",
            "seen": f"{records['image_id'].nunique():,}",
            "bad": f"{bad:,}",
        }
        rows.append({"name": name, **counts, "fingerprint": str(data.get("fingerprint") or "")[:12]})
    return rows


def _precision(precision: Any) -> str:
    """ "trunk fp32, head fp32", or what else the manifest says."""
    if isinstance(precision, dict):
        return ", ".join(f"{part} {kind}" for part, kind in precision.items())
    return str(precision or "")


def _command(run: RunFolder) -> str:
    """The command line of the run, quoted for a shell."""
    return shlex.join(["axiom-bench", *run.manifest.get("overrides", ())])
