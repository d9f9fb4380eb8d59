"""Saved pictures are identical, byte for byte, whatever the user's matplotlibrc says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
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
    values = {"low": list(np.linspace(0.1, 1, 9)), "high": list(np.linspace(0.5, 1, 9))}
    records = rows_of("box_iou", values, model="one")
    run = make_run(records, layers={"one": ("last",)}, methods=methods)
    for figure in by_method.draw(run):
        assert isinstance(figure, Figure)
        figure.save(folder, ("png", "svg", "pdf"))


def save_maps(folder: Path, _: object) -> None:
    model = ab.load_model("scenes_vgg")
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    maps = ab.explain(model, None, image, ["grad_cam", "xgrad_cam"])
    for kind in ("png", "jpg"):
        maps.save(folder / f"maps.{kind}")


def save_explanation(folder: Path, _: object) -> None:
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save(folder / "a.png")
    with chdir(folder):
        for kind in ("png", "svg", "pdf"):
            options = ["--model", "scenes_vgg", "--methods", "grad_cam", "device=cpu"]
            assert main(["explain", "a.png", *options, "--output", f"b.{kind}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "save", [save_figure, save_maps, pytest.param(save_explanation, marks=pytest.mark.slow)]
)
def test_files_do_not_depend_on_matplotlib_s_settings(save, make_run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # `text.usetex` must not find LaTeX
    matplotlibrc = tmp_path / "matplotlibrc"
    matplotlibrc.write_text(MATPLOTLIBRC)
    plain = tmp_path / "plain"
    plain.mkdir()
    user = tmp_path / "user"
    user.mkdir()

    save(plain, make_run_folder)
    with rc_context(fname=matplotlibrc):
        save(user, make_run_folder)
        assert matplotlib.rcParams["font.size"] == 30  # the settings were active

    content_by_name = {file.name: file.read_bytes() for file in plain.iterdir()}
    assert content_by_name
    assert content_by_name == {file.name: file.read_bytes() for file in user.iterdir()}
