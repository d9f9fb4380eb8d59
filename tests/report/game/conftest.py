"""A small game of drawn images, and files of answers as its page saves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from axiom_bench.report import game_page
from axiom_bench.report.game_page import CHECKS, Game, TwoClassImage, WholeImage, method_and_class, page, page_data

SIDE = 48
METHODS = {"left_cam": "Left-CAM", "right_cam": "Right-CAM"}


def game_of(images: int = 6, names: tuple[str, str] = ("seven", "nine"), titles: Mapping[str, str] = METHODS) -> Game:
    """A game whose maps are ramps. names: of the two classes."""
    generator = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
    maps = {
        name: np.stack([ramp.T, ramp]) if place % 2 else np.stack([ramp, ramp.T]) for place, name in enumerate(titles)
    }

    def pixels() -> np.ndarray:
        return generator.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)

    classes = ((7, names[0]), (9, names[1]))
    return Game(
        images=[TwoClassImage(f"image-{number}", classes, pixels(), maps) for number in range(images)],
        checks=[WholeImage(f"check-{number}", *classes, pixels()) for number in range(CHECKS)],
        titles=titles,
        setting={"model": "scenes_fc", "layer": "features.9", "data": "scenes", "weights": "ab" * 6},
        seed=0,
    )


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[..., Path]:
    """(**game_of's) -> the page as a file."""

    def make(**options: Any) -> Path:
        path = tmp_path / "game.html"
        path.write_text(page(game_of(**options)), encoding="utf-8")
        return path

    return make


@pytest.fixture
def save_answers(tmp_path: Path) -> Callable[..., Path]:
    """(player, checks_right=6, game=..., is_right=..., count=None, name=None) -> a JSON file as the page saves it.

    is_right: (player, image, method) -> whether the answer is.
    """
    usual = game_of()

    def save(
        player: int,
        checks_right: int = CHECKS,
        game: Game | None = None,
        is_right: Callable[[int, int, str], bool] = lambda player, image, method: True,
        count: int | None = None,
        name: str | None = None,
    ) -> Path:
        with mock.patch.object(game_page, "data_uri", return_value=""):  # of the pictures no answer tells
            data = page_data(game or usual)
        rows = [*_parts(data, player, is_right), *_checks(data, checks_right)][:count]
        rows = [{"trial": number, **row} for number, row in enumerate(rows, start=1)]
        shared = {"game": data["id"], **data["setting"], "share": "0.2", "checks_needed": 5, "player": player}
        path = tmp_path / (name or f"player-{player}.json")
        path.write_text(json.dumps({"format": 1, **shared, "answers": rows}))
        return path

    return save


def _parts(data: Mapping[str, Any], player: int, is_right: Callable[[int, int, str], bool]) -> Iterator[dict[str, Any]]:
    seen = data["square"][player % len(data["square"])]
    for number, (image, cell) in enumerate(zip(data["images"], seen, strict=True)):
        method, shown = method_and_class(cell, len(data["methods"]))
        entry, right = data["methods"][method], is_right(player, number, data["methods"][method]["name"])
        answer = _answer(image["classes"][shown], image["classes"][shown if right else 1 - shown])
        yield {"kind": "part", "image": image["image"], "method": entry["name"], "title": entry["title"], **answer}


def _checks(data: Mapping[str, Any], right: int) -> Iterator[dict[str, Any]]:
    for number, check in enumerate(data["checks"]):
        answer = _answer(check["classes"][0], check["classes"][int(number >= right)])
        yield {"kind": "check", "image": check["image"], "method": "", "title": "", **answer}


def _answer(shown: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    of_shown = {"class_index": shown["index"], "class": shown["name"], "answer_index": answer["index"]}
    return {**of_shown, "answer": answer["name"], "correct": int(shown == answer), "milliseconds": 900}
