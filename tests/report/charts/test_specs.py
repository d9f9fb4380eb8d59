"""Every spec is Vega-Lite of the version that the page's script draws."""

from __future__ import annotations

import re
from pathlib import Path

import altair as alt
import jsonschema
import pytest

import axiom_bench.report.page
from axiom_bench.report.charts import vega
from axiom_bench.report.writing import CHARTS
from axiom_bench.statistics.run_folder import RunFolder

STATIC = Path(axiom_bench.report.page.__file__).parent / "static"


def test_every_spec_follows_the_schema(rich_run: RunFolder) -> None:
    """The report builds specs without validation, which takes half of the time."""
    charts = [chart for draw in CHARTS if (chart := draw(rich_run)) is not None]
    assert len(charts) == len(CHARTS)
    specs = {name: build() for chart in charts for name, build in chart.specs.items()}
    assert {"boxes", "boxes-log", "plane", "costs", "agreement", "by-depth-log", "curve-insertion"} <= set(specs)
    for spec in specs.values():
        alt.LayerChart.from_dict(dict(spec), validate=True)
        wrong = {**spec, "autosize": {"type": "no such type"}}
        with pytest.raises(jsonschema.ValidationError):
            alt.LayerChart.from_dict(wrong, validate=True)


def test_a_panel_sets_parameters_and_tables_of_its_spec(rich_run: RunFolder) -> None:
    for draw in CHARTS:
        chart = draw(rich_run)
        assert chart is not None
        for panel in (panel for choice in chart.choices for panel in choice.panels):
            spec = chart.specs[panel.spec]()
            assert {*panel.params, vega.HIDDEN} == {param["name"] for param in spec["params"]}, chart.id
            assert set(spec["usermeta"]["hover"]) <= set(panel.tables)
            for name, titles in spec["usermeta"]["hover"].items():
                assert set(titles) - {"title"} <= set(panel.tables[name]), (chart.id, name)
                assert {"title", "method", "row"} & set(panel.tables[name]), (chart.id, name)


def test_the_bundle_draws_the_version_that_altair_writes() -> None:
    """Another major version of Altair writes specs that this bundle doesn't draw: `scripts/write_vega_bundle.py`."""
    head = (STATIC / "vega_bundle.js").read_text(encoding="utf-8")[:200]
    bundled = re.search(r"Vega-Lite (\d+)\.", head)
    assert bundled is not None
    assert vega.SCHEMA.endswith(f"/v{bundled[1]}.json")
    assert alt.SCHEMA_VERSION.startswith(f"v{bundled[1]}.")
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert f'"altair>={bundled[1]},<{int(bundled[1]) + 1}"' in project.read_text()


def test_the_licences_are_beside_the_bundle() -> None:
    text = (STATIC / "vega_bundle.licences.txt").read_text(encoding="utf-8")
    for name in ("vega", "vega-lite", "vega-embed", "vega-interpreter", "d3-array", "topojson-client"):
        assert re.search(rf"(^|, ){name}(,|$)", text, flags=re.MULTILINE), name
    assert "Redistribution and use in source and binary forms" in text


def test_the_bundle_names_no_other_host() -> None:
    """Namespaces, schemas, and the editor, which the page doesn't offer."""
    text = (STATIC / "vega_bundle.js").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://([\w.-]+)", text)) == {"www.w3.org", "github.com", "vega.github.io"}
