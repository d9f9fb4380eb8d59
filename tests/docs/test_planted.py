"""docs/studies/planted.md: its tables are what scripts/write_planted.py measures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.embedded.planted import BUILDERS
from axiom_bench.errors import BenchError

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("write_planted", ROOT / "scripts" / "write_planted.py")
assert _spec is not None
assert _spec.loader is not None
write_planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(write_planted)

QUICK = ("hires_cam", "xgrad_cam", "ablation_cam_axiomatic", "axiom_cam")


def cells(section: str) -> dict[str, dict[str, str]]:
    """{first cell: {header: cell}} of a table of the page."""
    text = write_planted.PAGE.read_text()
    body = text.split(write_planted.START.format(section))[1].split(write_planted.END.format(section))[0]
    header, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in body.strip().splitlines())
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


@pytest.fixture(scope="module")
def batch():
    return write_planted.images()


@pytest.mark.parametrize("network", ["planted_and", "planted_region"])
def test_tables_hold_what_is_measured(network, batch):
    """Of two networks and the methods that are quick; the script itself checks all with --check."""
    table, name = write_planted.measured(network, batch, QUICK), network.removeprefix("planted_")
    for method in QUICK:
        assert cells("kinds")[f"`{method}`"][name].split(" (")[0].strip("*") == table.loc[method, "kind"]
        for section, metric in (
            ("channel error", "truth_channel_error"),
            ("correlation", "truth_correlation"),
            ("mass outside", "truth_mass_outside"),
        ):
            assert cells(section)[f"`{method}`"][name] == write_planted.number(table.loc[method, metric])
    axioms = write_planted.axioms_table({network: table})[1]
    assert list(cells("axioms")[f"`{network}`"].values()) == list(axioms[1:])


def test_every_network_and_method_has_its_row_and_its_prediction():
    assert [name.strip("`") for name in cells("forms")] == list(BUILDERS) == list(write_planted.FORMS)
    assert [name.strip("`") for name in cells("kinds")] == list(write_planted.PREDICTED)
    assert {len(letters) for letters in write_planted.PREDICTED.values()} == {len(BUILDERS)}
    assert list(cells("forms")) == [row[0] for row in write_planted.forms_table()[1:]]


@pytest.mark.parametrize(
    ("outside", "correlation", "channels", "statuses", "kind"),
    [
        (0.0, 1.0, 0.0, {"ok"}, "right"),
        (0.0, 1.0, float("nan"), {"ok"}, "right"),
        (0.0, 1.0, 0.1, {"ok"}, "amounts"),
        (0.0, 0.99, 0.0, {"ok", "zero_map"}, "amounts"),
        (0.2, 1.0, 0.0, {"ok"}, "place"),
        (float("nan"), float("nan"), 1.0, {"zero_map"}, "empty"),
        (float("nan"), float("nan"), float("nan"), {"not_applicable"}, "refused"),
    ],
)
def test_kinds(outside, correlation, channels, statuses, kind):
    names = ["truth_mass_outside", "truth_correlation", "truth_channel_error"]
    assert write_planted.kind_of(pd.Series([outside, correlation, channels], names), statuses) == kind


def test_a_document_without_markers_is_refused():
    rows = {"forms": [("a", "b"), ("1", "2")]}
    start, end = (mark.format("forms") for mark in (write_planted.START, write_planted.END))
    expected = f"x {start}\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n{end} y"
    assert write_planted.with_sections(f"x {start} old {end} y", rows) == expected
    with pytest.raises(BenchError, match="needs the lines"):
        write_planted.with_sections("x", rows)


def test_check_says_whether_the_page_is_up_to_date(tmp_path, monkeypatch, capsys):
    page = tmp_path / "planted.md"
    page.write_text(write_planted.PAGE.read_text())
    monkeypatch.setattr(write_planted, "PAGE", page)
    monkeypatch.setattr(write_planted, "SECTIONS", {"forms": write_planted.SECTIONS["forms"]})
    monkeypatch.setattr(write_planted, "measured", lambda network, batch: None)
    assert write_planted.main(["--check"]) == 0
    page.write_text(page.read_text().replace("| S/2, S/2 |", "| S, S |"))
    assert write_planted.main(["--check"]) == 1
    assert "planted.md: out of date; run scripts/write_planted.py" in capsys.readouterr().out
