"""The BibTeX file of a run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from axiom_bench.records.entries import MethodEntry
from axiom_bench.report.references import (
    DATA,
    LIBRARIES,
    PAPER,
    SOFTWARE,
    TITLE,
    cited_keys,
    entries,
    table_keys,
    to_bibtex,
)
from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.report.writing import write_tables
from axiom_bench.run.manifest import bibliography, parsed
from axiom_bench.statistics.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


def with_methods(run: RunFolder, **methods: MethodEntry) -> RunFolder:
    """Return the run, with other metadata of some methods."""
    update = {"methods": {**run.manifest.methods, **methods}}
    return replace(run, manifest=run.manifest.model_copy(update=update))


def test_the_works_of_methods_protocol_data_and_libraries_are_cited(usual):
    run = with_methods(
        usual,
        grad_cam=MethodEntry(reference="selvaraju2017gradcam", library="torchcam"),
        unused=MethodEntry(reference="zhou2016cam"),
    )
    config = run.config.model_copy(
        update={
            "protocol": {"reference": "choe2020wsol"},
            "data": {"kind": "mosaic", "of": {"kind": "voc", "name": "voc"}},
        }
    )
    manifest = run.manifest.model_copy(update={"config": config, "jobs": []})
    run = replace(run, manifest=manifest)
    assert cited_keys(run) == [
        PAPER,
        "selvaraju2017gradcam",
        "choe2020wsol",
        "everingham2010voc",
        "fernandez2020torchcam",
    ]
    text = to_bibtex(run)
    assert [*parsed(text)] == [*cited_keys(run), SOFTWARE]
    assert entries()["choe2020wsol"] in text


def test_a_table_cites_only_the_methods_and_metrics_that_it_shows(usual):
    """The other works are in references.bib, for the other tables."""
    metrics = {
        name: entry.model_copy(update={"reference": reference})
        for name, reference in (("box_iou", "choe2020wsol"), ("conservation_error", ""))
        for entry in [usual.manifest.metrics[name]]
    }
    run = with_methods(
        usual,
        grad_cam=MethodEntry(reference="selvaraju2017gradcam", title="Grad-CAM"),
        xgrad_cam=MethodEntry(reference="zhou2016cam", title="XGrad-CAM"),
    )
    update = {"metrics": {**usual.manifest.metrics, **metrics}}
    run = replace(run, manifest=run.manifest.model_copy(update=update))
    rows = ((Cell("XGrad-CAM = HiResCAM"), Cell("0.5"), Cell("0.2")),)
    iou = run.metadata.value("box_iou").title
    header = ("Method", f"{iou}\nmean [95 %] ↑", "Other")
    keys = table_keys(run, Table("overview", "Overview", header, (Group("net", rows),)))
    assert keys == [PAPER, "zhou2016cam", "choe2020wsol", SOFTWARE]
    group = Group(f"{iou} [IoU], higher is better", ((Cell("Grad-CAM"),),))
    keys = table_keys(run, Table("places_1", "Places", ("Method",), (group,)))
    assert keys == [PAPER, "selvaraju2017gradcam", "choe2020wsol", SOFTWARE]
    assert {"selvaraju2017gradcam", "zhou2016cam", "choe2020wsol"} <= {*cited_keys(run)}


def test_an_unknown_work_is_listed_and_not_invented(usual):
    run = with_methods(
        usual,
        grad_cam=MethodEntry(reference="doe2031mine"),
        xgrad_cam=MethodEntry(reference="}\n@misc{evil,"),
    )
    text = to_bibtex(run)
    assert "% doe2031mine is cited by this run, but conf/references.bib lacks it.\n" in text
    assert [*parsed(text)] == [PAPER, SOFTWARE]
    assert not re.search(r"^@misc\{evil", text, re.M)


def test_the_software_has_the_version_and_commit_of_the_run(usual):
    update = {"versions": {"axiom-bench": "0.3.1"}, "git_commit": "a" * 40}
    run = replace(usual, manifest=usual.manifest.model_copy(update=update))
    assert "note = {Version 0.3.1, commit aaaaaaaaaaaa}" in to_bibtex(run)
    update = {"versions": {"axiom-bench": "}"}, "git_commit": None}
    run = replace(usual, manifest=usual.manifest.model_copy(update=update))
    assert "note" not in to_bibtex(run).partition(SOFTWARE)[2].partition("% ")[0]


@pytest.mark.slow
def test_the_file_is_next_to_the_tables(usual, tmp_path):
    write_tables(usual, tmp_path)
    assert (tmp_path / "references.bib").read_text() == to_bibtex(usual)


def test_every_key_exists_and_is_read_alike():
    assert {PAPER, *DATA.values(), *LIBRARIES.values()} <= set(entries())
    assert list(entries()) == list(bibliography())


def test_the_citation_file_agrees_with_the_package():
    """Check that what GitHub and Zenodo read is the package's own metadata."""
    import tomllib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert citation["authors"] == project["authors"]
    assert citation["title"] == re.sub(r"[{}]", "", TITLE)
    assert len(citation["abstract"].split()) > 30
    (paper,) = citation["references"]
    assert paper["title"] == bibliography()[PAPER].title
