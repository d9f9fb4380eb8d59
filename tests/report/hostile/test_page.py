"""The page of a run folder that a stranger wrote: its texts stay texts, in an HTML parser's eyes and in a browser's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Structure

Runs = dict[str, tuple[Path, list[str]]]
LINKS = re.compile(r"(#|data:image/(png|webp);base64,|figures/)[^\s]*", re.ASCII)


@pytest.fixture(scope="module")
def structures(runs: Runs) -> dict[str, Structure]:
    return {kind: Structure((folder / "report.html").read_text("utf-8")) for kind, (folder, _) in runs.items()}


def test_names_make_no_element_and_no_attribute(structures: dict[str, Structure]) -> None:
    """A page of attacks has the elements of the same page with plain names; a break in a text is one of them."""
    elements = {
        kind: [(tag, tuple(values)) for tag, values in own.elements if tag != "br"] for kind, own in structures.items()
    }
    assert len(elements["plain"]) > 500
    assert elements["hostile"] == elements["plain"]


def test_addresses_lead_nowhere_else(structures: dict[str, Structure]) -> None:
    """`http-equiv` could load another page, a link could be a script."""
    attributes = [pair for _, values in structures["hostile"].elements for pair in values.items()]
    assert len([value for _, value in attributes if value.startswith("default-src")]) == 1
    others = [value for name, value in attributes if name in ("href", "src", "action")]
    assert [value for value in others if not LINKS.fullmatch(value)] == []
    assert ("http-equiv", "refresh") not in attributes


def test_code_and_style_are_the_same(structures: dict[str, Structure]) -> None:
    """Of script and style elements, the data alone differ; they are JSON, in which no text can end the element."""
    plain, hostile = (structures[kind].data for kind in ("plain", "hostile"))
    assert plain.keys() == hostile.keys()
    assert {name for name in plain if plain[name] != hostile[name]} == {"chart-data", "gallery-data"}
    for name in ("chart-data", "gallery-data"):
        assert "attacker.invalid" in json.dumps(json.loads(hostile[name]))
        assert not set("<>\u2028\u2029\r") & set(hostile[name])


def test_every_text_that_is_shown_is_shown_whole(structures: dict[str, Structure], runs: Runs) -> None:
    """The page shows of the attacks what it shows of plain names: nothing was cut off where markup would begin."""
    shown = {}
    for kind, (_, given) in runs.items():
        values = [value for _, values in structures[kind].elements for value in values.values()]
        text = _letters("".join((*structures[kind].words, *values)))
        shown[kind] = [place for place, name in enumerate(given) if _letters(name) in text]
    assert len(shown["plain"]) > 60
    missing = set(shown["plain"]) - set(shown["hostile"])
    cut = {"sha256", "commit"}  # to 12 letters
    in_yaml = {"key", "value", "target", "number"}  # of the configuration, where texts have quotes and escapes
    assert {runs["plain"][1][place][:-2] for place in missing} <= cut | in_yaml | {"status"}  # which is a word


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def test_a_browser_runs_and_asks_for_nothing(open_page: Any, runs: Runs) -> None:
    """Every menu opened, every choice made, every button pressed: `open_page` fails for an error or a request."""
    page = open_page(runs["hostile"][0] / "report.html")
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    for select in page.locator("select:enabled:visible").all()[:8]:
        for value in range(min(2, select.locator("option").count())):
            select.select_option(index=value)
    page.evaluate("document.querySelectorAll('.chart').forEach((chart) => chart.scrollIntoView())")
    page.locator(".chart svg.marks").first.wait_for()
    page.evaluate("document.querySelectorAll('.page-term').forEach((term) => term.focus())")
    page.locator(".gallery-grid").first.click()
    page.locator(".gallery-next").click()
    page.keyboard.press("Escape")
    assert page.evaluate("window.attacked") is None
    assert page.locator("[onload], [onerror], [href^='javascript:' i], iframe, object, embed, base").count() == 0
    assert page.locator("body script[src], link[href]").count() == 0
