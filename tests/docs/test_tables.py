"""The tables in docs/ are up to date with conf/."""

import re
import shutil
from pathlib import Path

import pytest
import write_docs

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.run import manifest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_tables_are_up_to_date():
    stale = [path.name for path in write_docs.out_of_date()]
    assert not stale, f"{stale}: run `python scripts/write_docs.py`"


@pytest.mark.slow
def test_changed_document_is_out_of_date(tmp_path):
    folder = shutil.copytree(write_docs.DOCS, tmp_path / "docs")
    shutil.copy(write_docs.README, tmp_path)
    text = (folder / "methods.md").read_text()
    (folder / "methods.md").write_text(text.replace("\n| `grad_cam` |", "\n| `gradcam` |"))
    assert write_docs.out_of_date(folder) == {folder / "methods.md": text}
    (folder / "methods.md").write_text("no markers")
    with pytest.raises(BenchError, match=r"methods\.md needs the lines"):
        write_docs.out_of_date(folder)


@pytest.mark.slow
def test_a_missing_page_of_a_family_is_out_of_date(tmp_path):
    folder = shutil.copytree(write_docs.DOCS, tmp_path / "docs")
    shutil.copy(write_docs.README, tmp_path)
    text = (folder / "metrics/axioms.md").read_text()
    (folder / "metrics/axioms.md").unlink()
    assert write_docs.out_of_date(folder) == {folder / "metrics/axioms.md": text}


@pytest.mark.slow
def test_a_wrong_count_is_out_of_date(tmp_path):
    folder = shutil.copytree(write_docs.DOCS, tmp_path / "docs")
    readme = tmp_path / "README.md"
    text = write_docs.README.read_text(encoding="utf-8")
    readme.write_text(text.replace(f"{write_docs.method_counts()['methods']} methods", "1 methods"))
    assert write_docs.out_of_date(folder) == {readme: text}
    readme.write_text("no counts")
    with pytest.raises(BenchError, match=r"README\.md needs a sentence"):
        write_docs.out_of_date(folder)


def test_methods_are_counted_in_one_sentence():
    """Others in README and on the page of methods would become wrong with the next method."""
    counted = re.compile(r"(?<!with )(?<!\+ )\b([4-9][0-9]) methods")
    readme = write_docs.README.read_text(encoding="utf-8")
    assert counted.findall(readme) == [str(write_docs.method_counts()["methods"])]
    assert not counted.findall((write_docs.DOCS / "methods.md").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_readme_has_the_table_that_its_command_writes(monkeypatch, tmp_path):
    """Within the last printed digit, since processors round differently."""
    monkeypatch.chdir(tmp_path)
    text = write_docs.README.read_text(encoding="utf-8")
    assert write_docs.with_measured_table(text) == text
    wrong = text.replace("| Grad-CAM | 0.682 ", "| Grad-CAM | 0.582 ")
    assert wrong != text
    assert write_docs.with_measured_table(wrong) == text


def test_a_table_differs_from_another_by_more_than_the_last_digit():
    assert write_docs.is_close("| a | 0.507 [0.484, <1e-6] |", "| a | 0.508 [0.483, <1e-6] |")
    assert not write_docs.is_close("| a | 0.507 |", "| a | 0.527 |")
    assert not write_docs.is_close("| a | 0.507 |", "| a | -0.507 |")
    assert not write_docs.is_close("| a | **0.507** |", "| a | 0.507 |")


def test_unknown_reference_key():
    with pytest.raises(BenchError, match="did you mean 'fu2020axiom'"):
        write_docs._source("fu2020axioms")


@pytest.mark.parametrize("kind", ["method", "metric"])
def test_references_have_links(kind):
    references = {plugins.load(kind, name).spec.reference for name in plugins.names(kind)} - {None}
    assert references
    assert all("](https://" in write_docs._source(reference) for reference in references)


def test_every_metric_has_one_section_or_is_the_fast_form_of_one():
    pages = [page() for page in write_docs.FAMILY_PAGES.values()]
    headings = re.findall(r"^## (.+)$", "".join(pages), re.M)
    fast_forms = re.findall(r"^- Fast form: `(\w+)`", "".join(pages), re.M)
    assert sorted(headings + fast_forms) == plugins.names("metric")


def test_the_table_of_metrics_links_each_value_to_its_section():
    _, *rows = write_docs.metrics_table()
    links = [re.fullmatch(r"\[`(\w+)`\]\((\S+)#(\w+)\)", row[0]).groups() for row in rows]
    for name, page, section in links:
        assert f"\n## {section}\n" in write_docs.FAMILY_PAGES[page](), name
    assert links == sorted(links)
    section_by_name = {name: section for name, _, section in links}
    assert section_by_name.keys() >= {*plugins.names("metric")}
    assert section_by_name["deletion_auc_fast"] == "deletion_auc"
    assert section_by_name["coherency"] == "adcc"


def test_no_page_of_docs_metrics_lacks_its_family_and_none_is_long():
    pages = [path.relative_to(write_docs.DOCS) for path in write_docs.DOCS.glob("metrics/*")]
    assert {*map(Path.as_posix, pages)} == {*write_docs.FAMILY_PAGES}
    for page in [*pages, "metrics.md"]:
        assert len((write_docs.DOCS / page).read_text(encoding="utf-8").split()) <= 6000


def test_sections_of_metrics_have_at_most_150_words():
    for page in write_docs.FAMILY_PAGES.values():
        sections = re.split(r"^##.*$", page(), flags=re.M)
        assert max(len(section.split()) for section in sections) <= 150


@pytest.mark.parametrize(
    ("metric", "family"),
    [
        ("truth_correlation", "Known truth"),
        ("target_shift", "Interventions"),
        ("guarded_channels", "Axioms"),
        ("class_correlation", "Robustness, classes and randomisation"),
        ("deletion_auc", "Deletion and insertion by the heatmap"),
        ("single_deletion", "Deletion by the signed map"),
        ("box_iou", "Localization"),
        ("gini", "Complexity"),
    ],
)
def test_a_metric_s_metadata_decide_its_family(metric, family):
    pages = [page() for page in write_docs.FAMILY_PAGES.values()]
    (page,) = [page for page in pages if f"\n## {metric}\n" in page]
    assert page.startswith(f"# {family}\n")


def test_a_section_has_the_facts_of_the_metric():
    text = write_docs.FAMILY_PAGES["metrics/robustness.md"]()
    section = text[text.index("## adcc\n") :].split("\n\n")
    assert section[1].startswith("Compute ADCC")
    facts, source = section[2].split("\n")
    assert facts == (
        "- Score, 0 to 1, higher is better; 1 pass. Parameters `fill=zero blur=0.05`. Needs "
        "`nonzero_map`, `probability`. Recorded as `adcc`, `coherency`, `complexity` (lower is "
        "better)."
    )
    assert source.startswith("- Poppi et al. 2021, [arXiv:2104.10252](https://arxiv.org")
    assert " Here: " in source


def test_every_entry_of_the_bibliography_is_read():
    """An entry without its closing brace would swallow the next one."""
    entries = re.findall(r"^@", (ROOT / "conf" / "references.bib").read_text(), re.M)
    assert len(manifest.bibliography()) == len(entries)


def test_a_metric_has_a_sign_for_each_test_and_a_line_of_the_csv():
    header, *rows = write_docs.verdicts_table()
    signs = {}
    for link, *cells in rows:
        name = re.match(r"\[`(\w+)`", link)[1]
        signs[name] = dict(zip(header[1:], cells, strict=True))
    # 7 of 9 networks are too few; a truth that is computed from the same data can't judge
    assert signs["sensitivity_error"]["Truth ahead"] == write_docs.SIGNS[False]
    assert signs["sensitivity_error"]["Controls"] == write_docs.SIGNS[True]
    assert signs["truth_correlation"]["Truth ahead"] == write_docs.SIGNS[None]
    lines = write_docs.scorecard_csv().splitlines()
    assert lines[0].startswith("metric,Truth ahead,")
    assert [line.partition(",")[0] for line in lines[1:]] == [*signs]
