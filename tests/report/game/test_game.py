"""The game: which pictures a player sees, the page in a browser, files of answers, and the score.

The scores are compared with values in closed form.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest, norm

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.report import game_page, game_score
from axiom_bench.report.game_page import CHECKS, Picture, latin_square, method_and_class, visible
from axiom_bench.report.game_score import PART, Score, read_answers, report_score, score, wilson

EVIL = "<img src=x onerror=document.title=1>"
Z = float(norm.ppf(0.975))
NAN = float("nan")
PAINTED = "#game-image:not(.game-hidden)"
SIDE = 48
METHODS = {"left_cam": "Left-CAM", "right_cam": "Right-CAM"}


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[..., Path]:
    """A function (number of images, names of the two classes) -> the path of a game's page.

    The game's maps are ramps.
    """

    def make(images: int = 6, names: tuple[str, str] = ("seven", "nine")) -> Path:
        generator = np.random.default_rng(0)
        classes = ((7, names[0]), (9, names[1]))
        ramp = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
        maps = {"left_cam": np.stack([ramp, ramp.T]), "right_cam": np.stack([ramp.T, ramp])}

        def pictures(kind: str, count: int, maps: Mapping[str, Any]) -> list[Picture]:
            pixels = generator.integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8)
            return [Picture(f"{kind}-{i}", classes, pixels[i], maps) for i in range(count)]

        setting = {
            "model": "scenes_fc",
            "layer": "features.9",
            "data": "scenes",
            "weights": "ab" * 6,
        }
        parts = pictures("image", images, maps)
        checks = pictures("check", CHECKS, {})
        game = game_page.Game(parts, checks, METHODS, setting, seed=0)
        path = tmp_path / "game.html"
        path.write_text(game_page.page(game), encoding="utf-8")
        return path

    return make


@pytest.fixture
def save_answers(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a player's answers in a JSON file as the page does.

    `is_right(player, image, method)` decides each answer. If `count` is given, only the first
    `count` answers are saved.
    """

    def save(
        player: int,
        checks_right: int = CHECKS,
        game: str = "a game",
        is_right: Callable[[int, int, str], bool] = lambda player, image, method: True,
        count: int | None = None,
        name: str | None = None,
        images: int = 6,
        titles: Mapping[str, str] = METHODS,
    ) -> Path:
        answers: list[dict[str, Any]] = []

        def add_answer(shown_class: int, is_right: bool, **picture: str) -> None:
            answered_class = shown_class if is_right else 1 - shown_class
            answers.append(
                {
                    "trial": len(answers) + 1,
                    **picture,
                    "class_index": shown_class,
                    "class": f"{shown_class}",
                    "answer_index": answered_class,
                    "answer": f"{answered_class}",
                    "correct": int(is_right),
                    "milliseconds": 900,
                }
            )

        methods = {**titles, game_page.FLOOR: game_page.FLOOR_TITLE}
        square = latin_square(images, 2 * len(methods), seed=0)
        for image, cell in enumerate(square[player % len(square)].tolist()):
            method_number, shown_class = method_and_class(cell, len(methods))
            method, title = list(methods.items())[method_number]
            add_answer(
                shown_class,
                is_right(player, image, method),
                kind="part",
                image=f"image-{image}",
                method=method,
                title=title,
            )
        for i in range(CHECKS):
            add_answer(0, i < checks_right, kind="check", image=f"check-{i}", method="", title="")
        content = {
            "format": 1,
            "game": game,
            "model": "m",
            "layer": "l",
            "data": "d",
            "weights": "w",
            "share": "0.2",
            "checks_needed": 5,
            "player": player,
            "answers": answers[:count],
        }
        path = tmp_path / (name or f"player-{player}.json")
        path.write_text(json.dumps(content))
        return path

    return save


def test_the_highest_fifth_is_visible_of_equals_the_first_pixels_and_nothing_without_heat():
    heat = np.arange(100.0).reshape(10, 10)
    assert (visible(heat, 0.2) == (heat >= 80)).all()
    assert (np.flatnonzero(visible(np.ones((10, 10)), 0.2)) == np.arange(20)).all()
    heat = np.zeros((10, 10))
    heat[3, 4] = 1
    heat[5, 5] = 1e-7  # rounding
    assert np.argwhere(visible(heat, 0.2)).tolist() == [[3, 4]]
    assert not visible(np.full((10, 10), np.nan), 0.2).any()


def test_the_blob_is_in_the_middle():
    mask = visible(game_page.centred_blob(40, 60), 0.2)
    assert mask.mean() == pytest.approx(0.2)
    assert min((mask == mask[::-1]).mean(), (mask == mask[:, ::-1]).mean()) > 0.99
    assert mask[20, 30]
    assert not mask[0].any()


def test_hidden_pixels_are_transparent():
    mask = np.tile(np.arange(32) >= 16, (32, 1))
    uri = game_page.data_uri(np.full((32, 32, 3), 200, np.uint8), mask)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    alpha = np.asarray(picture)[..., 3]
    assert picture.size == (320, 320)
    assert (alpha[:, :150] == 0).all()
    assert (alpha[:, 170:] == 255).all()


@pytest.mark.parametrize(("images", "methods"), [(20, 8), (16, 8), (5, 3), (1, 2), (40, 1)])
def test_the_square_is_balanced(images, methods):
    """Check that players see every cell of an image equally often.

    A player sees cells and methods equally often, up to one picture. The cells are all pairs of a
    method and a class.
    """
    square = latin_square(images, 2 * methods, seed=3)
    assert square.shape == (2 * methods, images)
    assert (np.arange(2 * methods) == np.sort(square, axis=0).T).all()
    for cells in square:
        methods_of_player = [method_and_class(int(cell), methods)[0] for cell in cells]
        assert np.ptp(np.bincount(cells, minlength=2 * methods)) <= 1
        assert np.ptp(np.bincount(methods_of_player, minlength=methods)) <= 1
    pairs = {method_and_class(cell, methods) for cell in range(2 * methods)}
    assert pairs == set(itertools.product(range(methods), range(2)))
    assert (latin_square(20, 8, 1) == latin_square(20, 8, 1)).all()
    assert (latin_square(20, 8, 1) != latin_square(20, 8, 2)).any()


def test_a_folder_of_answers_is_read(save_answers, tmp_path):
    for player in range(3):
        save_answers(player, is_right=lambda player, image, method: image % 2 == 0)
    answers = read_answers([tmp_path])
    assert (answers.players, answers.notes) == (3, ())
    assert len(answers.table) == 3 * 6  # the checks aren't among them
    assert answers.table["correct"].mean() == 0.5


def test_players_who_fail_the_checks_are_named(save_answers, tmp_path):
    save_answers(1, checks_right=5)
    save_answers(2, checks_right=4)
    save_answers(3, count=8)  # stopped after six pictures and two checks
    answers = read_answers([tmp_path])
    assert set(answers.table["player"]) == {1}
    assert answers.notes == (
        "Left out: player 2, who named 4 of 6 whole pictures correctly (5 are needed).",
        "Left out: player 3, who named 2 of 2 whole pictures correctly (5 are needed) and stopped "
        "after 8 pictures.",
    )


def test_answers_saved_twice_count_once(save_answers):
    early = save_answers(1, count=4, name="early.json")
    late = save_answers(1, name="late.json")
    for order in ([early, late], [late, early]):
        answers = read_answers(order)
        assert len(answers.table) == 6
        assert answers.notes[0].startswith("Counted once: the answers of player 1")


def test_answers_that_cannot_be_scored_are_refused(save_answers, tmp_path):
    def check_refused(message: str, *files: Path) -> None:
        with pytest.raises(BenchError, match=message):
            read_answers(files)

    check_refused(r"There is no file .*gone", tmp_path / "gone")
    check_refused("no file of answers", tmp_path)
    check_refused("hold no answers", save_answers(1, count=0))
    check_refused("None of the answers can be used", save_answers(1, checks_right=0))
    check_refused(
        "of 2 games, which can't be scored",
        save_answers(1),
        save_answers(2, game="b"),
    )
    check_refused(
        r"a\.json and .*b\.json have different answers of player 1",
        save_answers(1, name="a.json"),
        save_answers(1, name="b.json", is_right=lambda *_: False),
    )
    for text in ("{", "[]", '{"format": 2}', "\0"):
        file = tmp_path / "other.json"
        file.write_text(text)
        check_refused("isn't a file of answers", file)


def table(player: object, image: object, method: object, correct: object) -> pd.DataFrame:
    """Return a table of answers with these columns, of which any may be one value for all rows."""
    return pd.DataFrame(
        {"player": player, "image": image, "method": method, "correct": correct, "answer_index": 0}
    )


def width_to_wilson(result: Score) -> float:
    """Return the width of the first method's interval, divided by that for independent answers."""
    row = result.accuracies.iloc[0]
    low, high = wilson(row["correct"], row["n"], Z)
    return float((row["high"] - row["low"]) / (high - low))


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 10), (8, 10), (10, 10), (145, 290), (81, 263), (15, 148)]
)
def test_wilson_agrees_with_scipy(correct, n):
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n, Z) == pytest.approx(expected, abs=1e-6)


def test_clusters_of_one_answer_are_independent_and_players_who_answer_all_alike_count_once():
    correct = np.repeat([1, 0], [70, 30])
    rows = table(player=range(100), image=0, method="A", correct=correct)
    covariance = game_score.cluster_covariance(rows, "player", ["A"], seed=0)
    # The Monte-Carlo error of 2,000 resamples is 3 %.
    assert covariance[0, 0] == pytest.approx(0.7 * 0.3 / 99, rel=0.1)

    rows = table(player=range(100), image=range(100), method="A", correct=correct)
    assert width_to_wilson(score(rows)) == pytest.approx(1, abs=0.1)

    # 30 players with 5 equal answers each count as 30 answers, so the design effect is 5.
    rows = table(
        player=np.repeat(np.arange(30), 5),
        image=np.arange(150),
        method="A",
        correct=np.repeat([1, 0], [100, 50]),
    )
    assert width_to_wilson(score(rows)) == pytest.approx(math.sqrt(5), rel=0.1)


def test_the_variance_of_few_clusters_is_that_of_their_shares_without_bias():
    """Check four players with four answers each: the sample variance of their shares, over four."""
    correct = [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0]
    shares = [1, 0.75, 0.5, 0.25]
    rows = table(player=np.repeat(range(4), 4), image=0, method="A", correct=correct)
    covariance = game_score.cluster_covariance(rows, "player", ["A"], seed=0)
    # The Monte-Carlo error of 2,000 resamples is 3 %.
    assert covariance[0, 0] == pytest.approx(np.var(shares, ddof=1) / 4, rel=0.1)


def test_a_difference_within_players_is_paired():
    """Check players who answer once under each method.

    The variance of the difference equals that of the mean of the players' differences.
    """
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 200)
    second = np.where(generator.random(200) < 0.8, first, 1 - first)
    rows = table(
        player=np.tile(np.arange(200), 2),
        image=0,
        method=np.repeat(["A", "B"], 200),
        correct=np.concatenate([first, second]),
    )

    pair = score(rows).pairs.iloc[0]

    sign = 1 if pair["method"] == "A" else -1
    assert pair["difference"] == pytest.approx(sign * (first - second).mean())
    error = (first - second).std(ddof=1) / math.sqrt(200)
    half_width = (pair["high"] - pair["low"]) / 2
    assert half_width == pytest.approx(1.97 * error, rel=0.06)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [((1, 3, 2), 4), ((2, 2.5, 1), 2.5), ((1, NAN, 2), 2), ((1, NAN, NAN), 1)],
    ids=["sum", "sum that is smaller by chance", "of images alone", "of answers alone"],
)
def test_the_two_ways_are_joined(variances, expected):
    assert game_score.two_way_variance(*variances) == expected


def test_one_player_is_scored_by_images_and_cant_tell_is_counted_and_not_right():
    rows = table(
        player=0,
        image=range(40),
        method=np.tile(["A", "B"], 20),
        correct=np.tile([1, 1, 0, 1], 10),
    )
    assert np.isfinite(score(rows).pairs[["low", "high", "p"]].to_numpy()).all()

    rows = table(player=range(4), image=range(4), method="A", correct=[1, 0, 0, 1])
    rows["answer_index"] = [7, -1, 9, 7]
    accuracy = score(rows).accuracies.iloc[0]
    assert accuracy["cant_tell"] == 1
    assert accuracy["accuracy"] == 0.5


def test_a_method_that_is_always_right_has_an_interval():
    method = np.tile(["A", "B"], 100)
    is_correct = (np.random.default_rng(0).random(200) < 0.6) | (method == "A")
    rows = table(
        player=np.repeat(np.arange(20), 10),
        image=np.tile(np.arange(10), 20),
        method=method,
        correct=is_correct.astype(int),
    )
    best = score(rows).accuracies.iloc[0]
    assert best["accuracy"] == 1
    assert 0.8 < best["low"] < best["high"] == 1


def test_holm_is_over_all_pairs():
    methods = np.tile(["A", "B", "C"], 100)
    is_correct = np.random.default_rng(0).random(300) < np.tile([0.9, 0.5, 0.5], 100)
    rows = table(
        player=np.repeat(np.arange(30), 10),
        image=np.tile(np.arange(10), 30),
        method=methods,
        correct=is_correct.astype(int),
    )
    pairs = score(rows).pairs
    assert len(pairs) == 3
    assert pairs["adjusted"].min() == pytest.approx(3 * pairs["p"].min())


@pytest.fixture
def folder(save_answers: Callable, tmp_path: Path) -> Path:
    """A folder of the answers of six players, and of a seventh who fails the checks."""
    titles = {"left_cam": EVIL, "right_cam": "Right-CAM"}

    def is_right(player: int, image: int, method: str) -> bool:
        return (player + image) % 3 > 0

    for player in range(6):
        save_answers(player, is_right=is_right, images=8, titles=titles)
    save_answers(6, checks_right=1, images=8, titles=titles)
    return tmp_path


def test_the_command_names_methods_and_players(folder, capsys):
    assert main(["game-score", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("48 answers of 6 players, game ")
    left_out = "Left out: player 6, who named 1 of 6 whole pictures correctly (5 are needed)."
    assert lines[1] == left_out
    for title in ("Right-CAM", "Centred blob"):
        assert any(line.startswith(f"  {title}") for line in lines), title
    assert main(["game-score", str(folder / "gone")]) == 2
    assert capsys.readouterr().err.startswith("axiom-bench: There is no file")


def test_files_of_a_score(folder, tmp_path):
    lines = report_score([folder], tmp_path / "out" / "score.csv")
    assert lines[-2:] == [
        f"written: {tmp_path}/out/score.csv",
        f"written: {tmp_path}/out/score_pairs.csv",
    ]
    methods = pd.read_csv(tmp_path / "out" / "score.csv")
    assert set(methods["method"]) == {"left_cam", "right_cam", "centred_blob"}
    assert methods["n"].sum() == 48
    report_score([folder], tmp_path / "0.csv", seed=0)
    report_score([folder], tmp_path / "1.csv", seed=1)
    default_pairs = (tmp_path / "out/score_pairs.csv").read_bytes()
    assert default_pairs == (tmp_path / "0_pairs.csv").read_bytes()
    assert default_pairs != (tmp_path / "1_pairs.csv").read_bytes()
    report_score([folder], tmp_path / "score.md")
    assert f"\\{EVIL}" in (tmp_path / "score.md").read_text()  # markup in a title stays text
    with pytest.raises(BenchError, match=r"--output score\.xlsx must end with one of \.csv, \.md"):
        report_score([tmp_path / "gone"], Path("score.xlsx"))  # before anything is read


def data_of(path: Path) -> dict[str, Any]:
    """Return the game's data from its page."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.findall(r'id="game-data">(.*?)</script>', text, re.DOTALL)[0])


def answer(page: Any, key: str) -> None:
    """Press `key` when the picture can be answered, and wait for the next picture or the end."""
    page.wait_for_selector(PAINTED)
    page.wait_for_timeout(200)  # the page ignores keys that are pressed before anyone can see
    progress = page.locator("#game-place").inner_text()
    page.keyboard.press(key)
    next_screen = f"#game-trial[hidden], #game-place:not(:text-is('{progress}'))"
    page.wait_for_selector(next_screen, state="attached")


def start_game(open_page: Any, path: Path) -> Any:
    """Return the open page with the first picture visible."""
    page = open_page(path, accept_downloads=True)
    page.locator("#game-player").press("Enter")
    page.wait_for_selector(PAINTED)
    return page


def save_to(folder: Path, page: Any) -> Path:
    """Save the player's answers in `folder` and return the file."""
    with page.expect_download() as download:
        page.locator("#game-save").press("Enter")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_game_played_by_keyboard_is_saved_and_read(make_page, open_page, tmp_path):
    game = make_page(images=4)
    page = open_page(f"{game}#player=5", accept_downloads=True)
    assert page.locator("#game-player").input_value() == "5"
    page.keyboard.press("Enter")  # the number has the focus
    for number in range(4):
        answer(page, "12"[number % 2])
    for _ in range(5):
        answer(page, "3")
    page.wait_for_selector(PAINTED)
    page.wait_for_timeout(200)
    page.keyboard.press("Tab")  # from the question to the first choice
    page.keyboard.press("Enter")
    page.wait_for_selector("#game-end:not([hidden])")
    file = save_to(tmp_path, page)
    data = data_of(game)
    assert file.name == f"game-{data['id']}-player-5.json"
    content = json.loads(file.read_text())
    answers = content["answers"]
    assert (content["player"], len(answers)) == (5, 10)
    assert all(row["correct"] == int(row["answer_index"] == row["class_index"]) for row in answers)
    assert [row["answer"] for row in answers[4:9]] == ["can't tell"] * 5
    assert all(200 <= row["milliseconds"] < 60_000 for row in answers)
    expected = [
        (f"image-{number}", data["methods"][cell % 3]["name"])
        for number, cell in enumerate(data["square"][5 % 6])
    ]
    shown = [(row["image"], row["method"]) for row in answers if row["kind"] == PART]
    assert sorted(shown) == sorted(expected)
    # The player couldn't tell most whole pictures, so the checks failed.
    with pytest.raises(BenchError, match="None of the answers can be used"):
        read_answers([file])


def test_strange_names_survive_the_file_and_markup_stays_text(make_page, open_page, tmp_path):
    game = make_page(images=1, names=('a "quoted", name\u2028', f"\u00fcn\u00ef\ncode {EVIL}"))
    page = start_game(open_page, game)
    assert any(EVIL in text for text in page.locator("[data-choice] span").all_inner_texts())
    assert page.title() == "What do you see?"
    # The first class is right in every check.
    shown = data_of(game)["checks"][0]["classes"][0]["name"]
    for _ in range(7):
        page.wait_for_selector(PAINTED)
        page.wait_for_timeout(200)
        texts = page.locator("[data-choice] span").evaluate_all(
            "spans => spans.map((span) => span.textContent)"
        )
        page.keyboard.press(str(texts.index(shown) + 1))
        page.wait_for_timeout(200)
    page.wait_for_selector("#game-end:not([hidden])")
    answers = read_answers([save_to(tmp_path, page)]).table
    assert answers["answer"].tolist() == [shown]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_without_a_barrier(make_page, open_page, barriers, scheme):
    page = open_page(
        make_page(images=2),
        viewport={"width": 400, "height": 700},
        color_scheme=scheme,
        bypass_csp=True,
    )
    for screen in ("start", "trial"):
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert barriers(page) == [], screen
        if screen == "start":
            page.locator("#game-player").press("Enter")
            page.wait_for_selector(PAINTED)
            page.wait_for_timeout(300)


@pytest.mark.slow
def test_a_page_that_would_be_too_large_is_refused(make_page, monkeypatch):
    monkeypatch.setattr(game_page, "MAX_BYTES", 30_000)
    with pytest.raises(BenchError, match=r"more than .* choose fewer images \(--images \d+\)"):
        make_page(images=4)
