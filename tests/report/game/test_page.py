"""The game in a browser: played by keyboard, saved, and read again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.report import game_page as page_module
from axiom_bench.report.game_score import PART, read_answers

pytest.importorskip("playwright")
PAINTED = "() => !document.getElementById('game-image').classList.contains('game-hidden')"
EVIL = "<script>document.title='broken'</script>"


def data_of(path: Path) -> dict[str, Any]:
    found = re.search(r'id="game-data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def answer(page: Any, key: str) -> None:
    """Presses a key once the picture can be answered, and waits for what follows."""
    page.wait_for_function(PAINTED)
    page.wait_for_timeout(200)  # the page ignores what comes faster than anyone sees
    place = page.locator("#game-place").inner_text()
    page.keyboard.press(key)
    page.wait_for_function(
        """(place) => document.getElementById('game-trial').hidden
            || document.getElementById('game-place').textContent !== place""",
        arg=place,
    )


def saved(page: Any, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator("#game-save").press("Enter")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_game_played_by_keyboard_is_saved_and_read(make_page: Callable, open_page: Callable, tmp_path: Path):
    game = make_page(images=4)
    page = open_page(f"{game}#player=5", accept_downloads=True)
    assert page.locator("#game-player").input_value() == "5"
    page.keyboard.press("Enter")  # the number has the focus
    for number in range(4):
        answer(page, "12"[number % 2])
    for _ in range(5):
        answer(page, "3")
    page.wait_for_function(PAINTED)
    page.wait_for_timeout(200)
    page.keyboard.press("Tab")  # from the question to the first choice
    page.keyboard.press("Enter")
    page.wait_for_selector("#game-end:not([hidden])")
    file = saved(page, tmp_path)
    assert file.name == f"game-{data_of(game)['id']}-player-5.json"

    content = json.loads(file.read_text())
    assert content["player"] == 5
    assert len(content["answers"]) == 10
    parts = [row for row in content["answers"] if row["kind"] == PART]
    assert sorted(row["image"] for row in parts) == [f"image-{number}" for number in range(4)]
    assert all(row["correct"] == int(row["answer_index"] == row["class_index"]) for row in content["answers"])
    assert [row["answer"] for row in content["answers"][4:9]] == ["can't tell"] * 5
    assert all(200 <= row["milliseconds"] < 60_000 for row in content["answers"])
    expected = data_of(game)["square"][5 % 6]
    names = [method["name"] for method in data_of(game)["methods"]]
    assert {row["image"]: row["method"] for row in parts} == {
        f"image-{number}": names[cell % 3] for number, cell in enumerate(expected)
    }
    with pytest.raises(BenchError, match="No answer counts"):  # six of the pictures were not told: checks failed
        read_answers([file])


def test_class_names_that_are_markup_stay_text(make_page: Callable, open_page: Callable):
    page = open_page(make_page(images=2, names=(EVIL, 'quote " and, comma')), accept_downloads=True)
    page.locator("#game-player").press("Enter")
    page.wait_for_function(PAINTED)
    choices = page.locator("[data-choice] span").all_inner_texts()
    assert {EVIL, 'quote " and, comma'} < set(choices)
    assert page.title() == "What do you see?"


def test_strange_names_survive_the_file(make_page: Callable, open_page: Callable, tmp_path: Path):
    game = make_page(images=1, names=('a "quoted", name\u2028', "\u00fcn\u00ef\ncode"))
    page = open_page(game, accept_downloads=True)
    page.locator("#game-player").press("Enter")
    for _ in range(7):
        page.wait_for_function(PAINTED)
        page.wait_for_timeout(200)
        shown = data_of(game)["checks"][0]["classes"][0]["name"]  # the first class is right in every check
        texts = page.locator("[data-choice] span").evaluate_all("spans => spans.map((span) => span.textContent)")
        page.keyboard.press(str(texts.index(shown) + 1))
        page.wait_for_timeout(200)
    page.wait_for_selector("#game-end:not([hidden])")
    answers = read_answers([saved(page, tmp_path)]).table
    assert answers["answer"].tolist() == [shown]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_without_a_barrier(make_page: Callable, open_page: Callable, barriers: Any, scheme: str):
    page = open_page(make_page(images=2), viewport={"width": 400, "height": 700}, color_scheme=scheme, bypass_csp=True)
    for screen in ("start", "trial"):
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert barriers(page) == [], screen
        if screen == "start":
            page.locator("#game-player").press("Enter")
            page.wait_for_function(PAINTED)
            page.wait_for_timeout(300)


def test_a_page_that_would_be_too_large_is_refused(make_page: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module, "MAX_BYTES", 30_000)
    with pytest.raises(BenchError, match=r"more than .* choose fewer images \(--images \d+\)"):
        make_page(images=4)
