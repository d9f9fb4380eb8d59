"""Tests of the site that `make docs` builds.

Its notebooks run, its links are valid, no page needs a network, and every public name is on it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import axiom_bench as ab
from axiom_bench import report

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\" >]+)"
)


def test_only_public_names_are_shown():
    assert dir(ab) == sorted(ab.__all__)


def test_every_public_name_is_on_the_page():
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`\w+`\]\([^)]+\) \| `ab\.(\w+)", text, re.M)
    assert {*listed} == {*ab.__all__}
    listed_in_report = re.findall(r"\) \| `report\.(\w+)", text)
    assert sorted(listed_in_report) == sorted(report.__all__)
    sentences = re.findall(r"^\| \[`\w+`\].*` \| (.*) \|$", text, re.M)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_the_site_and_the_list_for_language_models_have_every_page():
    docs = ROOT / "docs"
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = re.findall(r"^ +- (?:[\w ]+: )?(\S+)\.md$", nav, re.M)
    files = {path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}" for path in docs.glob("notebooks/*.ipynb")}
    assert sorted(pages) == sorted({*files, *notebooks, "start", "contributing", "docstrings"})
    listed = re.findall(r"\]\((\S+)\.html\)", (docs / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(pages)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site.

    Warnings about links, anchors, docstrings and pages without navigation are errors. Every
    notebook runs without a network, and writes no file into its folder.
    """
    notebooks = ROOT / "docs/notebooks"
    notebooks_before = sorted(notebooks.iterdir())
    nowhere = "http://127.0.0.1:9"  # a proxy that refuses every download
    offline = {"http_proxy": nowhere, "https_proxy": nowhere, "NO_MKDOCS_2_WARNING": "1"}
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(folder)]
    process = subprocess.run(
        command, cwd=ROOT, env=os.environ | offline, stderr=subprocess.PIPE, check=False
    )
    assert not process.returncode, process.stderr.decode()
    assert sorted(notebooks.iterdir()) == notebooks_before
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_the_network(site: Path):
    pages = [*site.rglob("*.html")]
    assert len(pages) > len([*(ROOT / "docs").rglob("*.md")])
    assert not {url for page in pages for url in LOADED.findall(page.read_text())}


@pytest.mark.slow
def test_notebooks_are_pages_with_their_outputs(site: Path):
    notebooks = [path.stem for path in (ROOT / "docs/notebooks").glob("*.ipynb")]
    pages = {name: (site / "notebooks" / f"{name}.html").read_text() for name in notebooks}
    assert len(pages) == 6
    for name, page in pages.items():
        assert f'href="{name}.ipynb"' in page
        assert '<table border="1" class="dataframe">' in page  # what a cell shows
    # by a script, as nbconvert's pages load MathJax
    loaded = r"""["'(](?:https?:)?//[^"' )]+\.(?:js|css|mjs)"""
    assert not {url for page in pages.values() for url in re.findall(loaded, page)}


# The tables whose right columns are outside of the window.
CUT_TABLES = """() => [...document.querySelectorAll(".md-typeset__scrollwrap")]
  .filter((wrap) => wrap.scrollWidth > wrap.clientWidth).length"""


def test_the_scorecard_fits_on_a_screen_and_on_paper(site: Path, open_page):
    page = open_page(site / "scorecard.html", viewport={"width": 1280, "height": 800})
    assert page.locator("table th").count() == 9
    assert page.evaluate(CUT_TABLES) == 0
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 970})  # A4 without margins
    assert page.evaluate(CUT_TABLES) == 0
    page.goto((site / "which-metric.html").as_uri())
    assert page.evaluate(CUT_TABLES) == 0


@pytest.mark.slow
def test_the_list_for_language_models_leads_to_pages(site: Path):
    links = re.findall(r"\]\((\S+)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (site / link).is_file()]


@pytest.mark.slow
def test_docstrings_are_there(site: Path):
    documented = set(
        re.findall(r'id="axiom_bench\.([\w.]+)"', (site / "docstrings.html").read_text())
    )
    presets = {f"outputs.{name}" for name in ab.outputs.__all__}
    assert {
        *ab.__all__,
        *presets,
        "CutModel.trace",
        "Trace.ablation_drops",
        "methods.get",
    } <= documented
    assert "outputs.Sigmoid" not in documented
    api = (site / "api.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="docstrings\.html#axiom_bench\.([\w.]+)"', api))
    assert {"explain", "methods.get", "report.write", "outputs.detection"} <= linked <= documented
