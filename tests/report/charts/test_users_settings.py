"""Pictures have the same bits whatever the user's matplotlibrc says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.embedded import scenes
from axiom_bench.report.charts import by_method
from axiom_bench.report.charts.drawing import Figure
from tests.made_runs import rows_of

MATPLOTLIBRC = """
text.usetex: True
font.family: No Such Font
font.size: 30
axes.unicode_minus: False
savefig.format: pdf
savefig.dpi: 13
savefig.transparent: True
savefig.bbox: tight
savefig.facecolor: red
savefig.pad_inches: 2
figure.facecolor: green
figure.dpi: 17
figure.constrained_layout.h_pad: 1
figure.autolayout: True
axes.grid: True
axes.facecolor: blue
axes.xmargin: 0.4
axes.titlesize: 40
axes.titlelocation: right
xtick.direction: in
image.cmap: jet
image.origin: lower
image.interpolation: bicubic
image.aspect: auto
lines.linewidth: 9
lines.dashed_pattern: 1, 1
patch.linewidth: 9
path.sketch: 5, 100, 2
svg.fonttype: path
svg.image_inline: False
svg.hashsalt: a
pdf.fonttype: 3
legend.loc: center
"""


def save_figure(folder: Path, make_run: Callable[..., Any]) -> None:
    methods: dict[str, dict[str, Any]] = {"low": {}, "high": {}}
    values = {name: list(np.linspace(start, 1, 9)) for name, start in (("low", 0.1), ("high", 0.5))}
    run = make_run(
        rows_of("box_iou", values, model="one"), layers={"one": ("last",)}, methods=methods
    )
    for figure in by_method.draw(run):
        assert isinstance(figure, Figure)
        figure.save(folder, ("png", "svg", "pdf"))


def save_maps(folder: Path, _: object) -> None:
    images = scenes.draw("evaluation", 0, 0).image
    maps = ab.explain(
        ab.load_model("scenes_vgg"), None, Image.fromarray(images), ["grad_cam", "xgrad_cam"]
    )
    for kind in ("png", "jpg"):
        maps.save(folder / f"maps.{kind}")


def save_explanation(folder: Path, _: object) -> None:
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save(folder / "a.png")
    with chdir(folder):
        for kind in ("png", "svg", "pdf"):
            words = [
                "--model",
                "scenes_vgg",
                "--methods",
                "grad_cam",
                "--output",
                f"b.{kind}",
                "device=cpu",
            ]
            assert main(["explain", "a.png", *words]) == 0


@pytest.mark.parametrize(
    "save", [save_figure, save_maps, pytest.param(save_explanation, marks=pytest.mark.slow)]
)
def test_files_do_not_depend_on_matplotlib_s_settings(save, made, tmp_path, monkeypatch):
    """LaTeX, which `text.usetex` would start, isn't on the PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    file = tmp_path / "matplotlibrc"
    file.write_text(MATPLOTLIBRC)
    contents = []
    for name, settings in (("plain", nullcontext()), ("user", rc_context(fname=file))):
        folder = tmp_path / name
        folder.mkdir()
        with settings:
            save(folder, made)
            if name == "user":
                assert matplotlib.rcParams["font.size"] == 30
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0]
    assert contents[0] == contents[1]
