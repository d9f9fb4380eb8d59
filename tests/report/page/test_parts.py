"""The HTML of the page's parts: head, definitions, small charts, seconds and configuration."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from typing import Any

import pytest
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.judging.card import committed_card
from axiom_bench.records.entries import parse
from axiom_bench.report import card
from axiom_bench.report.page import tables, this_run
from axiom_bench.report.page.html import Trust, assemble
from axiom_bench.report.page.tables import Row, interval_chart
from axiom_bench.report.page.this_run import header
from axiom_bench.report.tables.table import number_names
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.run_folder import RunFolder


@pytest.fixture
def run(usual: RunFolder) -> RunFolder:
    return usual


def with_manifest(run: RunFolder, **changes) -> RunFolder:
    return dataclasses.replace(run, manifest=parse({**run.manifest.model_dump(), **changes}))


@pytest.mark.slow
def test_the_head_says_what_ran_and_counts_many_networks(run):
    head = header(
        run, {run.settings[0]: {"conservation_error": "the order holds", "box_iou": "no"}}
    )
    title = "Use grad_cam on scenes_fc and scenes_residual: it has the lowest conservation error"
    assert head.title.startswith(title)
    assert head.above.endswith(": 6 methods on 2 networks and 120 images")
    assert head.trust == Trust("Conservation error", [], "the order holds", no_leader=True)
    assert [*head.answers] == ["scenes_fc", "scenes_residual"]
    assert all(head.answers.values())
    untold = with_manifest(run, config={**run.config.model_dump(), "report": {"headline": []}})
    assert header(untold).title == "6 methods on 2 networks and 120 images"
    assert head.facts["Networks"] == "scenes_fc at features.9, scenes_residual at stages.2"
    assert head.facts["Images"].startswith("120 images of scenes, 120 rows")
    own = {**run.config.model_dump(), "data": {"kind": "folder", "root": "pets/photos"}}
    run_of_folder = with_manifest(run, config=own)
    assert run_of_folder.data_title("folder") == "the folder photos"
    assert run_of_folder.data_title("pets") == "pets"
    assert head.facts["Computed"] == "2 January 2026, cpu, fp32, torch 2.13.0"
    models = {f"net_{number}": {"layer": "a", "layers": ["a", "b"]} for number in range(8)}
    networks = header(with_manifest(run, models=models)).facts["Networks"]
    assert networks.startswith("8 networks: net_0 at 2 layers, ")
    assert networks.endswith(" and 2 more")


def test_a_definition_leaves_the_shape_out_and_has_an_anchor(run):
    about = {
        **run.manifest.metrics["box_iou"].model_dump(),
        "description": "The best IoU of a <box> -> (B,). It is a ratio.",
    }
    metrics = {**run.manifest.model_dump()["metrics"], "box_iou": about}
    methods, values = tables.definitions_of(with_manifest(run, metrics=metrics))
    box_iou = next(entry for entry in values if entry.name == "box_iou")
    assert box_iou.formula == "The best IoU of a <box>. It is a ratio"
    assert box_iou.facts[0] == "Unit: IoU. Higher is better."
    assert "&lt;box&gt;" in tables.definitions_section(methods, values).body
    terms = tables.metric_links(methods, values)
    assert terms.metrics["box_iou"] == terms.titles["Box IoU"] == "metric-box_iou"
    assert terms.methods["grad_cam"] == "method-grad_cam"
    random = next(entry for entry in methods if entry.name == "random")
    assert any("axiom errors don't apply" in fact for fact in random.facts)


@pytest.mark.slow
def test_the_head_says_which_tests_of_the_scorecard_the_deciding_metric_passes(run):
    """Compare with the rows of the committed card, counted here."""
    config = {
        **run.config.model_dump(),
        "metric": yaml.safe_load((conf_folder() / "metric" / "box_iou.yaml").read_text()),
        "report": {"headline": ["box_iou"], "columns": ["box_iou"]},
    }
    head = header(with_manifest(run, config=config))
    assert head.trust is not None
    by_question = {tick.question: tick for tick in head.trust.ticks}
    card = committed_card()
    rows = card[(card["metric"] == "box_iou") & ~card["circular"] & card["passes"].notna()]
    degrees = rows[rows["test"] == "degrees"]
    tick = by_question["Do explanations get worse values, the more they are spoiled?"]
    assert tick.networks == f"{int(degrees['passes'].sum())} of {len(degrees)} networks"
    assert tick.holds is False
    text = assemble(head, [])
    assert "How far to trust box IoU: it passes " in text
    assert text.count("✗ no") == sum(tick.holds is False for tick in head.trust.ticks) > 0
    assert text.count("✓ yes") == sum(tick.holds is True for tick in head.trust.ticks) > 0
    assert "No metric passes every test" in text


@pytest.mark.slow
def test_a_metric_has_its_line_of_the_scorecard_beside_its_finding_and_in_its_definition(run):
    config = {
        **run.config.model_dump(),
        "metric": yaml.safe_load((conf_folder() / "metric" / "box_iou.yaml").read_text()),
    }
    config |= {"report": {"headline": ["box_iou"]}}
    judged = with_manifest(run, config=config)
    found = tables.findings_section(judged, tables.Terms(), {}).body
    (sentence,) = re.findall(r"On the scorecard of metrics, [^<]*", html.unescape(found))
    ticks = card.ticks(judged, "box_iou")
    passed = sum(tick.holds is True for tick in ticks)
    assert (
        f" it passes {passed} of {sum(tick.holds is not None for tick in ticks)} tests." in sentence
    )
    for tick in ticks:
        networks = f"({tick.counted - tick.passed} of {tick.counted} networks)"
        is_named = f"{card.FAILURES[tick.test]} {networks}" in sentence
        assert is_named == (tick.holds is False)
    # words of the scorecard's own table
    assert not re.search(r"truth ahead|degrees|gaming|sanity|planted_", sentence)
    assert "No metric passes every test of the scorecard" in found
    definition = next(
        entry for entry in tables.definitions_of(judged)[1] if entry.name == "box_iou"
    )
    assert definition.facts[-1].startswith("On the scorecard of metrics, ")
    config["metric"]["box_iou"]["params"]["fraction"] = 0.5
    assert (
        "scorecard"
        not in tables.findings_section(with_manifest(run, config=config), tables.Terms(), {}).body
    )


SHARE = Value("s", "S", kind="bounded")
RATIO = Value("r", "R", kind="ratio")


def row(name: str, *values: float, **options: Any) -> Row:
    return Row(name, "#000000", *values, **options)


def test_places_on_a_linear_and_on_a_logarithmic_scale():
    html = interval_chart(
        "Box IoU", [row("a", 1.0, 0.5, 2.0, is_best=True), row("b", 3.0, 2.5, 4.0)], SHARE
    )
    assert re.findall(r'cx="([\d.]+)%"', html) == ["25.00", "75.00"]
    assert re.findall(r'x1="([\d.]+)%" x2="([\d.]+)%" y1="8"', html) == [
        ("12.50", "50.00"),
        ("62.50", "100.00"),
    ]
    assert html.count("findings-best") == 1
    assert "a 1.00 (0.500 to 2.00); b 3.00 (2.50 to 4.00)" in html
    rows = [row("a", 0.01, 0.01, 0.01), row("b", 0.1, 0.1, 1.0)]
    html = interval_chart("Error", rows, RATIO)
    assert re.findall(r'cx="([\d.]+)%"', html) == ["0.00", "50.00"]
    assert "logarithmic scale" in html
    assert "logarithmic scale" not in interval_chart("Drop", rows, SHARE)
    assert "nan" not in interval_chart(
        "Error", [row("a", 1.0, float("nan"), float("nan"))], RATIO
    )  # unknown: no line


def test_numbers_of_a_cell_are_named_after_the_heading():
    names = {
        ("Confidence drop\nmean \N{PLUS-MINUS SIGN} s.e.\N{NO-BREAK SPACE}\N{UPWARDS ARROW}", 2): (
            "mean",
            "s.e.",
        ),
        ("Error\nmedian [95 %]\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}", 3): ("median", "low", "high"),
        ("Trunk fwd / bwd", 2): ("Trunk fwd", "bwd"),
        ("Images", 1): (),
        ("Value", 3): ("1", "2", "3"),
    }
    for (heading, count), expected in names.items():
        assert number_names(heading, count) == expected


@pytest.mark.slow
def test_what_is_to_be_said_of_the_images_stands_below_their_table(run):
    (name, about), *_ = run.manifest.data.items()
    data = {
        name: {
            **about.model_dump(),
            "notes": ["photos: not read: 1 .heic", "EXIF orientations are applied"],
        }
    }
    assert "not read" not in this_run.this_run(run).body
    body = this_run.this_run(with_manifest(run, data=data)).body
    assert f"{name}: photos: not read: 1 .heic. EXIF orientations are applied." in body


@pytest.mark.slow
def test_seconds_and_configurations_of_several_jobs(run):
    assert "no seconds by stage" in this_run.this_run(run).body
    first, second = ({"model": {"name": name, "layer": "x"}, "target": "label"} for name in "ab")
    jobs = [{"job": "a on scenes", "config": first}, {"job": "b on scenes", "config": second}]
    seconds = {"a on scenes": {"loading": 1.5, "metrics": 20.25}, "b on scenes": {"metrics": 4.0}}
    work = {"a on scenes": {"images": 64, "images_per_second": 3.2}}
    body = this_run.this_run(
        with_manifest(run, config=first, jobs=jobs, seconds=seconds, work=work)
    ).body
    rows = re.findall(
        r"<tr><th[^>]*>([^<]*)</th>(.*?)</tr>", body.replace("\N{NO-BREAK SPACE}", " ")
    )
    cells = {name: re.findall(r"<td[^>]*>(.*?)</td>", row) for name, row in rows}
    assert cells["Loading"] == ["1.5 (7 %)", "\N{EN DASH}"]
    assert cells["Metrics"] == ["20.2 (93 %)", "4.0 (100 %)"]
    assert cells["Together"] == ["21.8", "4.0"]
    assert cells["Images/s"] == ["3.20", "\N{EN DASH}"]
    assert "What differs in b on scenes" in body
    assert re.search(r'<pre tabindex="0">model:\n  name: b\n</pre>', body)
    assert json.dumps("a on scenes")[1:-1] in body


def test_a_line_for_each_job_and_one_for_the_report():
    jobs = {
        "a on scenes": (
            {"start": 2.0, "trace": 6.0, "writing": 0.04},
            {"images": 12, "images_per_second": 2.0},
        ),
        "b on scenes": ({"start": 1.96}, {}),  # everything was there
    }
    assert list(this_run.time_lines(jobs, 10.0)) == [
        "a on scenes: 8.0 s, 2.00 images/s: start 2.0 s (25 %), trace 6.0 s (75 %), writing 0.0 s "
        "(<1 %)",
        "b on scenes: 2.0 s: start 2.0 s (100 %)",
        "together 20.0 s: report 10.0 s (50 %)",
    ]
