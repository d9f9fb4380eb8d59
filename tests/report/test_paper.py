"""The paper's figures and tables from a run: its images, missing exhibits and run times."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from axiom_bench.records.by_metric import Records
from axiom_bench.report.paper import PaperRun, cost_table, on_two_classes, write_paper
from axiom_bench.statistics.run_folder import RunFolder


@pytest.fixture
def run(make_run, make_records) -> RunFolder:
    return RunFolder.read(make_run(make_records(6), pictures=False))


def test_images_of_exactly_two_explained_classes_count(run):
    rows = run.records.frame(["box_iou"]).iloc[:1]
    classes = {"one": [3], "two": [3, 4], "three": [3, 4, 5]}
    frames = []
    for name, labels in classes.items():
        for label in labels:
            frames.append(rows.assign(image_id=name, target_class=label))
    records = Records.of(pd.concat(frames))
    chosen = on_two_classes(replace(run, records=records))
    assert chosen.records.frame()["image_id"].tolist() == ["two", "two"]


def test_run_times_stand_beside_those_of_one_method(run):
    table = cost_table(run, "hires_cam")
    cells = {row[0].text: row[1].text for row in table.groups[0].rows}
    # The trace takes 10 ms, and the method 3 ms more.
    assert cells["hires_cam"] == "13.0 (1.00\N{MULTIPLICATION SIGN})"
    assert cells["grad_cam"] == "11.0 (0.846\N{MULTIPLICATION SIGN})"
    assert cost_table(replace(run, runtime=run.runtime.iloc[:0]), "hires_cam") is None


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_index_says_what_is_missing_and_why(run):
    """Check also that files of an earlier run are removed."""
    lines: list[str] = []
    stale = run.path / "paper" / "fig1-pair_of_another_network.pdf"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    source = PaperRun(run, "axiom-bench experiment=paper", {"alexnet": "No weights."})
    index = write_paper(source, None, "There is no VOC.", "axiom-bench paper", lines.append)
    text = (index.parent / "index.md").read_text()
    assert len(lines) == text.count("\n## ") + 1
    assert lines[-1] == "No network has values for Fig 4(a): There is no VOC."
    sections = dict(section.split(":", 1) for section in text.split("\n## ")[1:])
    ours = "scenes_fc, scenes_residual in this run."
    five = "alexnet, vgg16, vgg19, inception_v3, resnet101"
    for number, section in sections.items():
        of_fig2 = number.startswith("Fig 2")  # the only exhibits whose networks are known
        networks = "none in this run." if number == "Fig 4(a)" else ours
        assert f"Networks: {f'{five} in the paper; ' if of_fig2 else ''}{networks}" in section
        assert (
            (f"This run lacks the paper's networks {five}." in section)
            == ("alexnet" in section)
            == of_fig2
        )
    assert "Images: one in the paper; 6 of scenes in this run." in sections["Fig 1"]
    assert "Images: 6 of scenes in this run." in sections["Fig 2(a)"]
    known = "networks for Fig 2(a) and Fig 2(b) only, and its images for Fig 1 and Fig 4(b) only."
    assert text.count(f"This project knows the paper's {known}") == 1
    assert text.count("alexnet didn't run: No weights.") == text.count("There is no VOC.") == 1
    classes_section = sections["Fig 4(a)"]
    assert "metric=[...,class_discriminability]" in classes_section
    assert "There is no VOC." in classes_section
    assert "Images: none in this run." in classes_section
    assert not stale.exists()
    # Only methods with values of the metric have a row.
    errors = (stale.parent / "errors-sensitivity_error.md").read_text()
    localization = (stale.parent / "localization-box_iou.md").read_text()
    assert "\n| random" not in errors
    assert "\n| random" in localization
