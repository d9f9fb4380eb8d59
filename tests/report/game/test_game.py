"""A game: the square and what a player sees, its page in a browser, files of answers, and the score
in closed form.
"""

from __future__ import annotations

import base64
import io
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
    """(number of images, names of the two classes) -> the page of a game whose maps are ramps."""

    def make(images: int = 6, names: tuple[str, str] = ("seven", "nine")) -> Path:
        generator = np.random.default_rng(0)
        ramp = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
        maps = {"left_cam": np.stack([ramp, ramp.T]), "right_cam": np.stack([ramp.T, ramp])}

        def pictures(kind: str, count: int, maps: Mapping[str, Any]) -> list[Picture]:
            pixels = generator.integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8)
            return [
                Picture(f"{kind}-{i}", ((7, names[0]), (9, names[1])), pixels[i], maps)
                for i in range(count)
            ]

        setting = {
            "model": "scenes_fc",
            "layer": "features.9",
            "data": "scenes",
            "weights": "ab" * 6,
        }
        game = game_page.Game(
            pictures("image", images, maps), pictures("check", CHECKS, {}), METHODS, setting, seed=0
        )
        (tmp_path / "game.html").write_text(game_page.page(game), encoding="utf-8")
        return tmp_path / "game.html"

    return make


@pytest.fixture
def save_answers(tmp_path: Path) -> Callable[..., Path]:
    """A JSON file as the page saves it. is_right: (player, image, method) -> whether the answer is.
    count: of the answers that were given.
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
        def answer(shown: int, is_right: bool) -> dict[str, Any]:
            given = shown if is_right else 1 - shown
            classes = {
                "class_index": shown,
                "class": f"{shown}",
                "answer_index": given,
                "answer": f"{given}",
            }
            return {**classes, "correct": int(is_right), "milliseconds": 900}

        methods = {**titles, game_page.FLOOR: game_page.FLOOR_TITLE}
        rows = []
        square = latin_square(images, 2 * len(methods), seed=0)
        for image, cell in enumerate(square[player % len(square)].tolist()):
            place, shown = method_and_class(cell, len(methods))
            method, title = list(methods.items())[place]
            about = {"kind": "part", "image": f"image-{image}", "method": method, "title": title}
            rows.append(about | answer(shown, is_right(player, image, method)))
        about = {"kind": "check", "method": "", "title": ""}
        rows += [
            about | {"image": f"check-{i}"} | answer(0, i < checks_right) for i in range(CHECKS)
        ]
        shared = {
            "game": game,
            "model": "m",
            "layer": "l",
            "data": "d",
            "weights": "w",
            "share": "0.2",
        }
        answers = [{"trial": trial, **row} for trial, row in enumerate(rows[:count], start=1)]
        path = tmp_path / (name or f"player-{player}.json")
        path.write_text(
            json.dumps(
                {"format": 1, **shared, "checks_needed": 5, "player": player, "answers": answers}
            )
        )
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
    """Each image is seen in every cell by as many players; each player sees cells and methods
    equally often. A cell is each pair of method and class once.
    """
    square = latin_square(images, 2 * methods, seed=3)
    assert square.shape == (2 * methods, images)
    assert (np.arange(2 * methods) == np.sort(square, axis=0).T).all()
    for row in square:
        of_methods = [method_and_class(int(cell), methods)[0] for cell in row]
        assert np.ptp(np.bincount(row, minlength=2 * methods)) <= 1
        assert np.ptp(np.bincount(of_methods, minlength=methods)) <= 1
    pairs = {method_and_class(cell, methods) for cell in range(2 * methods)}
    assert pairs == {(method, of_class) for method in range(methods) for of_class in range(2)}
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
    def other(text: str) -> Path:
        (tmp_path / "other.json").write_text(text)
        return tmp_path / "other.json"

    both = r"a\.json and .*b\.json have different answers of player 1"
    for message, files in (
        (r"There is no file .*gone", lambda: [tmp_path / "gone"]),
        ("no file of answers", lambda: [tmp_path]),
        ("hold no answers", lambda: [save_answers(1, count=0)]),
        ("No answer counts", lambda: [save_answers(1, checks_right=0)]),
        ("of 2 games, which can't be scored", lambda: [save_answers(1), save_answers(2, game="b")]),
        (
            both,
            lambda: [
                save_answers(1, name="a.json"),
                save_answers(1, name="b.json", is_right=lambda *_: False),
            ],
        ),
        *(
            ("isn't a file of answers", lambda text=text: [other(text)])
            for text in ("{", "[]", '{"format": 2}', "\0")
        ),
    ):
        with pytest.raises(BenchError, match=message):
            read_answers(files())


def table(player: object, image: object, method: object, correct: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"player": player, "image": image, "method": method, "correct": correct, "answer_index": 0}
    )


def width_to_wilson(result: Score) -> float:
    """Of the first method: how much wider its interval is than that of independent answers."""
    row = result.accuracies.iloc[0]
    low, high = wilson(row["correct"], row["n"], Z)
    return float((row["high"] - row["low"]) / (high - low))


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 10), (8, 10), (10, 10), (145, 290), (81, 263), (15, 148)]
)
def test_wilson_agrees_with_scipy(correct, n):
    assert wilson(correct, n, Z) == pytest.approx(
        binomtest(correct, n).proportion_ci(method="wilson"), abs=1e-6
    )


def test_clusters_of_one_answer_are_independent_and_players_who_answer_all_alike_count_once():
    correct = np.repeat([1, 0], [70, 30])
    covariance = game_score.cluster_covariance(
        table(range(100), 0, "A", correct), "player", ["A"], seed=0
    )
    # Monte-Carlo error of 2,000 resamples: 3 %
    assert covariance[0, 0] == pytest.approx(0.7 * 0.3 / 99, rel=0.1)
    assert width_to_wilson(score(table(range(100), range(100), "A", correct))) == pytest.approx(
        1, abs=0.1
    )
    # 30 players with 5 equal answers each: as much as 30 answers, so the design effect is 5.
    result = score(
        table(np.repeat(np.arange(30), 5), np.arange(150), "A", np.repeat([1, 0], [100, 50]))
    )
    assert width_to_wilson(result) == pytest.approx(math.sqrt(5), rel=0.1)


def test_the_variance_of_few_clusters_is_that_of_their_shares_without_bias():
    """Of four players with as many answers each: the sample variance of their shares, over four."""
    correct = [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0]
    covariance = game_score.cluster_covariance(
        table(np.repeat(range(4), 4), 0, "A", correct), "player", ["A"], seed=0
    )
    # 2,000 resamples: 3 %
    assert covariance[0, 0] == pytest.approx(np.var([1, 0.75, 0.5, 0.25], ddof=1) / 4, rel=0.1)


def test_a_difference_within_players_is_paired():
    """Each player answers once under each method: the variance is that of the mean of the players'
    differences.
    """
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 200)
    second = np.where(generator.random(200) < 0.8, first, 1 - first)
    rows = table(
        np.tile(np.arange(200), 2), 0, np.repeat(["A", "B"], 200), np.concatenate([first, second])
    )
    pair = score(rows).pairs.iloc[0]
    sign = 1 if pair["method"] == "A" else -1
    assert pair["difference"] == pytest.approx(sign * (first - second).mean())
    error = (first - second).std(ddof=1) / math.sqrt(200)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(1.97 * error, rel=0.06)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [((1, 3, 2), 4), ((2, 2.5, 1), 2.5), ((1, NAN, 2), 2), ((1, NAN, NAN), 1)],
    ids=["sum", "sum that is smaller by chance", "of images alone", "of answers alone"],
)
def test_the_two_ways_are_joined(variances, expected):
    assert game_score.joined(*variances) == expected


def test_one_player_is_scored_by_images_and_cant_tell_is_counted_and_not_right():
    result = score(table(0, range(40), np.tile(["A", "B"], 20), np.tile([1, 1, 0, 1], 10)))
    assert np.isfinite(result.pairs[["low", "high", "p"]].to_numpy()).all()
    rows = table(range(4), range(4), "A", [1, 0, 0, 1]).assign(answer_index=[7, -1, 9, 7])
    assert score(rows).accuracies[["cant_tell", "accuracy"]].iloc[0].tolist() == [1, 0.5]


def test_a_method_that_is_always_right_has_an_interval():
    method = np.tile(["A", "B"], 100)
    correct = (np.random.default_rng(0).random(200) < 0.6) | (method == "A")
    rows = table(
        np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), method, correct.astype(int)
    )
    best = score(rows).accuracies.iloc[0]
    assert best["accuracy"] == 1
    assert 0.8 < best["low"] < best["high"] == 1


def test_holm_is_over_all_pairs():
    methods = np.tile(["A", "B", "C"], 100)
    correct = np.random.default_rng(0).random(300) < np.tile([0.9, 0.5, 0.5], 100)
    pairs = score(
        table(
            np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30), methods, correct.astype(int)
        )
    ).pairs
    assert len(pairs) == 3
    assert pairs["adjusted"].min() == pytest.approx(3 * pairs["p"].min())


@pytest.fixture
def folder(save_answers: Callable, tmp_path: Path) -> Path:
    game = {"images": 8, "titles": {"left_cam": EVIL, "right_cam": "Right-CAM"}}
    for player in range(6):
        save_answers(
            player, is_right=lambda player, image, method: (player + image) % 3 > 0, **game
        )
    save_answers(6, checks_right=1, **game)
    return tmp_path


def test_the_command_names_methods_and_players(folder, capsys):
    assert main(["game-score", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("48 answers of 6 players, game ")
    assert (
        lines[1] == "Left out: player 6, who named 1 of 6 whole pictures correctly (5 are needed)."
    )
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
    for seed in (0, 1):
        report_score([folder], tmp_path / f"{seed}.csv", seed=seed)
    default, *others = (
        (tmp_path / name).read_bytes()
        for name in ("out/score_pairs.csv", "0_pairs.csv", "1_pairs.csv")
    )
    assert [default == other for other in others] == [True, False]
    report_score([folder], tmp_path / "score.md")
    assert f"\\{EVIL}" in (tmp_path / "score.md").read_text()  # markup in a title stays text
    with pytest.raises(BenchError, match=r"--output score\.xlsx ends with none of \.csv, \.md"):
        report_score([tmp_path / "gone"], Path("score.xlsx"))  # before anything is read


def data_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.findall(r'id="game-data">(.*?)</script>', text, re.DOTALL)[0])


def answer(page: Any, key: str) -> None:
    """Presses a key once the picture can be answered, and waits for what follows."""
    page.wait_for_selector(PAINTED)
    page.wait_for_timeout(200)  # the page ignores what comes faster than anyone sees
    place = page.locator("#game-place").inner_text()
    page.keyboard.press(key)
    page.wait_for_selector(
        f"#game-trial[hidden], #game-place:not(:text-is('{place}'))", state="attached"
    )


def started(open_page: Any, path: Path) -> Any:
    """The open page, whose first picture can be seen."""
    page = open_page(path, accept_downloads=True)
    page.locator("#game-player").press("Enter")
    page.wait_for_selector(PAINTED)
    return page


def saved(page: Any, folder: Path) -> Path:
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
    file = saved(page, tmp_path)
    data = data_of(game)
    assert file.name == f"game-{data['id']}-player-5.json"
    content = json.loads(file.read_text())
    answers = content["answers"]
    assert (content["player"], len(answers)) == (5, 10)
    assert all(row["correct"] == int(row["answer_index"] == row["class_index"]) for row in answers)
    assert [row["answer"] for row in answers[4:9]] == ["can't tell"] * 5
    assert all(200 <= row["milliseconds"] < 60_000 for row in answers)
    shown = {
        f"image-{number}": data["methods"][cell % 3]["name"]
        for number, cell in enumerate(data["square"][5 % 6])
    }
    assert sorted(
        (row["image"], row["method"]) for row in answers if row["kind"] == PART
    ) == sorted(shown.items())
    # six of the pictures were not told: checks failed
    with pytest.raises(BenchError, match="No answer counts"):
        read_answers([file])


def test_strange_names_survive_the_file_and_markup_stays_text(make_page, open_page, tmp_path):
    game = make_page(images=1, names=('a "quoted", name\u2028', f"\u00fcn\u00ef\ncode {EVIL}"))
    page = started(open_page, game)
    assert any(EVIL in text for text in page.locator("[data-choice] span").all_inner_texts())
    assert page.title() == "What do you see?"
    for _ in range(7):
        page.wait_for_selector(PAINTED)
        page.wait_for_timeout(200)
        # the first class is right in every check
        shown = data_of(game)["checks"][0]["classes"][0]["name"]
        texts = page.locator("[data-choice] span").evaluate_all(
            "spans => spans.map((span) => span.textContent)"
        )
        page.keyboard.press(str(texts.index(shown) + 1))
        page.wait_for_timeout(200)
    page.wait_for_selector("#game-end:not([hidden])")
    answers = read_answers([saved(page, tmp_path)]).table
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


def test_a_page_that_would_be_too_large_is_refused(make_page, monkeypatch):
    monkeypatch.setattr(game_page, "MAX_BYTES", 30_000)
    with pytest.raises(BenchError, match=r"more than .* choose fewer images \(--images \d+\)"):
        make_page(images=4)
