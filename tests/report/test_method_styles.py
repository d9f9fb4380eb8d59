"""Names and looks of methods."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.charts.vega import COLOURS, method_styles
from axiom_bench.statistics.run_folder import RunFolder

NAMES = [f"cam_{i:02d}" for i in range(2 * len(COLOURS))]


def test_each_method_has_a_title_and_a_look_of_its_own(make_records, make_run):
    methods = {name: {"on_score_scale": True} for name in NAMES} | {"grad_cam": {"title": "Grad-CAM"}}
    records = make_records(2).query("metric == 'box_iou' and model == 'scenes_fc' and method == 'grad_cam'")
    rows = pd.concat([records.assign(method=name) for name in methods])
    styles = method_styles(RunFolder.read(make_run(rows, methods=methods, pictures=False)))
    assert list(styles) == list(methods)
    assert [styles[name].title for name in ("grad_cam", NAMES[0])] == ["Grad-CAM", NAMES[0]]
    looks = {(style.colour, style.marker, style.dash) for style in styles.values()}
    assert len(looks) == len(methods)


def test_the_layer_alone_is_no_method(usual_run):
    assert "-" not in method_styles(RunFolder.read(usual_run))
