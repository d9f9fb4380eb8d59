"""report.html: one self-contained file with what was run, the tables and the figures."""

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

from axiom_bench.columns import WHOLE_SET
from axiom_bench.report.figures import by_method
from axiom_bench.report.figures.drawing import Drawing, LeftOut
from axiom_bench.report.numbers import share
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.summary import classified
from axiom_bench.report.table import Table

TEMPLATE = "report.html.j2"
FEW = 12  # box-plots that are shown at once; of more, a reader opens them
PHOTOGRAPHS = 2**19  # bytes of a PNG, more than of a plot
CSS_DPI = 96  # an inch on a page, by definition


@dataclass(frozen=True)
class Shown:
    """A saved figure as the page needs it. source: a data URI. width: on the page, in CSS pixels."""

    name: str
    title: str
    caption: str
    source: str
    width: int


def shown(drawing: Drawing, folder: Path) -> Shown:
    """Save a drawing and keep what the page shows of it."""
    png = drawing.save(folder)
    width = round(CSS_DPI * drawing.figure.get_figwidth())
    return Shown(drawing.name, drawing.title, drawing.caption, _data_uri(png), width)


def _data_uri(png: bytes) -> str:
    """The picture in the page. Photographs are WebP there, a tenth of the bytes; the PNG beside the page is exact."""
    kind, data = "png", png
    if len(png) > PHOTOGRAPHS:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "WEBP", quality=90)
        kind, data = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def page(run: RunFolder, tables: Sequence[Table], figures: Iterable[Shown | LeftOut], lines: Sequence[str]) -> str:
    """The whole page; lines: the headline's. The same run gives the same text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = typeset
    figures = list(figures)
    drawn = [figure for figure in figures if isinstance(figure, Shown)]
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
        few=FEW,
        left_out=[figure for figure in figures if isinstance(figure, LeftOut)],
        empty=run.records.empty,
        command=_command(run),
    )


def typeset(text: str) -> Markup:
    """Escaped, with a true minus, powers of ten, no break inside "n = 3", and the text's own line breaks."""
    said = str(escape(text))
    said = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", said)
    said = said.replace("&lt;1e-6", "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>")
    said = re.sub(r"(\d)e(-?)(\d+)\b", _power, said)
    said = re.sub(r"\bn = (?=\d)", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", said)
    return Markup(said.replace("\n", "<br>"))


def _power(found: re.Match[str]) -> str:
    sign = "\N{MINUS SIGN}" if found[2] else ""
    return f"{found[1]}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10<sup>{sign}{found[3]}</sup>"


def _models(run: RunFolder) -> list[dict[str, str]]:
    rows = []
    for name, about in (run.manifest.get("models") or {}).items():
        layers = about.get("layers") or [about.get("layer", "")]
        said = {"name": name, "layers": ", ".join(layers), "weights": str(about.get("weights", ""))}
        rows.append(
            {
                **{**said, "sha256": str(about.get("weights_sha256") or "")[:12]},
                **{"images": _kept(run, name), "correct": _correct(run, name)},
            }
        )
    return rows


def _kept(run: RunFolder, model: str) -> str:
    """How many images the model explains: "108", or "97 of 108" where others are left out; of each data set."""
    counts = run.images(model).values()
    return ", ".join(f"{one['kept']:,} of {one['chosen']:,}" if one["others"] else f"{one['kept']:,}" for one in counts)


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
    right, wrong = int(images.sum()), sum(one["chosen"] - one["kept"] for one in run.images(model).values())
    total = len(images) + wrong
    return f"{right:,} of {total:,} ({share(right, total)})" if len(images) else ""


def _data(run: RunFolder) -> list[dict[str, str]]:
    """Each data set's images, and how many of them have records that aren't of a bad image."""
    rows = []
    for name, about in (run.manifest.get("data") or {}).items():
        here = run.records[(run.records["data"] == name) & (run.records["image_id"] != WHOLE_SET)]
        bad = here.loc[here["target_class"] == -1, "image_id"].nunique()
        counts = {
            "ids": f"{len(about.get('ids') or []):,}",
            "seen": f"{here['image_id'].nunique():,}",
            "bad": f"{bad:,}",
        }
        rows.append({"name": name, **counts, "fingerprint": str(about.get("fingerprint") or "")[:12]})
    return rows


def _precision(said: Any) -> str:
    """ "trunk fp32, head fp32", or what else the manifest says."""
    return ", ".join(f"{part} {kind}" for part, kind in said.items()) if isinstance(said, dict) else str(said or "")


def _command(run: RunFolder) -> str:
    """What was typed, quoted for a shell."""
    return shlex.join(["axiom-bench", *run.manifest.get("overrides", ())])
