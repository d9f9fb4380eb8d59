"""Tests that the paths, links and rooms in README.md and docs/ exist."""

import re
from pathlib import Path

import pytest
from line_links import LINE_LINK, with_lines

from axiom_bench.errors import BenchError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
CITING = [
    f"docs/{name}.md"
    for name in ("architecture", "game", "reliability", "scale", "security", "targets")
]
CITING += ["docs/studies/performance.md", "docs/studies/planted.md"]
LINK = re.compile(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)")
PATH = re.compile(r"`([\w./-]+(?:\.py|\.md|\.yaml|/))`")
SCRIPT = re.compile(r"(scripts/\w+\.(?:py|sh))([^`|\n]*)")
COMMIT = re.compile(r"(?:git checkout|commit) [0-9a-f]{7,}")
# a short name is the end of one's path
MODULES = [path.relative_to(ROOT) for path in (ROOT / "bench").rglob("*.py")]
WRITTEN_BY_RUNS = {"curves/", "records/", "tables/", "figures/", "running/", "tables/runtime.md"}


@pytest.mark.parametrize("page", CITING)
def test_cited_paths_exist(page):
    paths = set(PATH.findall((ROOT / page).read_text())) - WRITTEN_BY_RUNS
    missing = [
        path
        for path in sorted(paths)
        if not (ROOT / path).exists() and not (ROOT / "bench" / path).exists()
    ]
    assert not [path for path in missing if not any(module.match(path) for module in MODULES)]


def test_cited_paths_are_found_in_a_page():
    text = (ROOT / "docs/architecture.md").read_text()
    assert {"tokens.py", "bench/records/"} <= set(PATH.findall(text))


def commands_that_are_gone(text: str) -> list[str]:
    """Return the commands whose script or option is gone, and whose commit the page doesn't name.

    A commit in the section, or above the page's first section, is where such a command works.
    """
    gone = []
    first, *sections = re.split(r"^## ", text, flags=re.M)
    for section in [first, *sections]:
        if COMMIT.search(section) or COMMIT.search(first):
            continue
        for script, arguments in SCRIPT.findall(section):
            code = (ROOT / script).read_text() if (ROOT / script).exists() else ""
            options = re.findall(r" (--[a-z][a-z-]*)", arguments)
            if not code or any(option not in code for option in options):
                gone.append(script + arguments)
    return gone


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_commands_of_scripts_work_or_name_their_commit(page):
    assert not commands_that_are_gone((ROOT / page).read_text())


def test_commands_that_are_gone_are_found():
    missing = "`python scripts/no_such.py`"
    other_option = "`python scripts/bench_speed.py --batch 2 --no-such 3`"
    assert commands_that_are_gone(f"## Title\n{missing}") == ["scripts/no_such.py"]
    assert commands_that_are_gone(f"{other_option}\n## Title\n") == [
        "scripts/bench_speed.py --batch 2 --no-such 3"
    ]
    assert not commands_that_are_gone(f"(`git checkout b3b729e4`)\n## Title\n{missing}")
    assert not commands_that_are_gone("## Title\n`python scripts/bench_speed.py --batch 2`")


def test_table_of_rooms_is_complete():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [
        path.name
        for path in (ROOT / "bench").iterdir()
        if path.is_dir() and (path / "__init__.py").is_file()
    ]
    assert not [room for room in rooms if f"| `bench/{room}/` |" not in text]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_links_lead_to_a_page_and_a_heading(page):
    # code isn't read for links
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
    for target, anchor in LINK.findall(text):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page} links {target}"
        if path.suffix != ".py":
            assert not anchor or anchor in headings(path), f"{page} links {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_the_line_of_a_definition(page):
    text = (ROOT / page).read_text()
    assert with_lines(ROOT / page, text) == text, "run python scripts/write_docs.py"
    assert len(LINE_LINK.findall(text)) == len(re.findall(r"\.py#", text))


def test_a_link_to_a_name_that_a_file_lacks_is_refused(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "code.py").write_text("class Run:\n    def read(self): ...\n")
    page = tmp_path / "docs/page.md"
    text = "[`Run.read`](../code.py#L0) and [`Run`](../code.py#L9)"
    assert with_lines(page, text) == "[`Run.read`](../code.py#L2) and [`Run`](../code.py#L1)"
    with pytest.raises(BenchError, match=r"page\.md links write in \.\./code\.py"):
        with_lines(page, "[`write`](../code.py#L1)")


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def test_index_lists_every_page():
    listed = {f"docs/{target}" for target, _ in LINK.findall((ROOT / "docs/index.md").read_text())}
    assert {*PAGES} - {"docs/index.md"} <= listed
