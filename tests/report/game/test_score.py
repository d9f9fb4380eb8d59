"""A game without its page: the square and what a player sees, files of answers, and the score in closed form."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest, norm

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.report.game_page import centred_blob, data_uri, latin_square, method_and_class, visible
from axiom_bench.report.game_score import (
    Score,
    cluster_covariance,
    joined,
    read_answers,
    report_score,
    score,
    wilson,
)

EVIL = "<img src=x onerror=alert(1)>"
Z = float(norm.ppf(0.975))


def test_the_highest_fifth_is_visible_and_of_equals_the_first_pixels():
    heat = np.arange(100.0).reshape(10, 10)
    assert (visible(heat, 0.2) == (heat >= 80)).all()
    assert (np.flatnonzero(visible(np.ones((10, 10)), 0.2)) == np.arange(20)).all()


def test_what_has_no_heat_stays_hidden():
    heat = np.zeros((10, 10))
    heat[3, 4] = 1
    heat[5, 5] = 1e-7  # rounding
    assert np.argwhere(visible(heat, 0.2)).tolist() == [[3, 4]]
    assert not visible(np.full((10, 10), np.nan), 0.2).any()


def test_the_blob_is_in_the_middle():
    mask = visible(centred_blob(40, 60), 0.2)
    assert mask.mean() == pytest.approx(0.2)
    assert (mask == mask[::-1]).mean() > 0.99
    assert (mask == mask[:, ::-1]).mean() > 0.99
    assert mask[20, 30]
    assert not mask[0].any()


def test_hidden_pixels_are_transparent():
    mask = np.zeros((32, 32), bool)
    mask[:, 16:] = True
    uri = data_uri(np.full((32, 32, 3), 200, np.uint8), mask)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    alpha = np.asarray(picture)[..., 3]
    assert picture.size == (320, 320)
    assert (alpha[:, :150] == 0).all()
    assert (alpha[:, 170:] == 255).all()


@pytest.mark.parametrize(("images", "methods"), [(20, 8), (16, 8), (5, 3), (1, 2), (40, 1)])
def test_the_square_is_balanced(images: int, methods: int):
    """Each image is seen in every cell by as many players; each player sees cells and methods equally often."""
    square = latin_square(images, 2 * methods, seed=3)
    assert square.shape == (2 * methods, images)
    assert (np.arange(2 * methods) == np.sort(square, axis=0).T).all()
    for row in square:
        of_methods = [method_and_class(int(cell), methods)[0] for cell in row]
        assert np.ptp(np.bincount(row, minlength=2 * methods)) <= 1
        assert np.ptp(np.bincount(of_methods, minlength=methods)) <= 1


def test_a_cell_is_each_pair_of_method_and_class_once_and_the_seed_decides_the_square():
    pairs = [method_and_class(cell, 3) for cell in range(6)]
    assert sorted(pairs) == [(method, of_class) for method in range(3) for of_class in range(2)]
    assert (latin_square(20, 8, 1) == latin_square(20, 8, 1)).all()
    assert (latin_square(20, 8, 1) != latin_square(20, 8, 2)).any()


def test_a_folder_of_answers_is_read(save_answers: Callable, tmp_path: Path):
    for player in range(3):
        save_answers(player, is_right=lambda player, image, method: image % 2 == 0)
    answers = read_answers([tmp_path])
    assert (answers.players, answers.notes) == (3, ())
    assert len(answers.table) == 3 * 6  # the checks aren't among them
    assert answers.table["correct"].mean() == 0.5


def test_players_who_fail_the_checks_are_named(save_answers: Callable, tmp_path: Path):
    save_answers(1, checks_right=5)
    save_answers(2, checks_right=4)
    save_answers(3, count=8)  # stopped after six pictures and two checks
    answers = read_answers([tmp_path])
    assert set(answers.table["player"]) == {1}
    assert answers.notes == (
        "Left out: player 2, who named 4 of 6 whole pictures correctly (5 are needed).",
        "Left out: player 3, who named 2 of 2 whole pictures correctly (5 are needed) and stopped after 8 pictures.",
    )


def test_answers_saved_twice_count_once(save_answers: Callable):
    early, late = save_answers(1, count=4, name="early.json"), save_answers(1, name="late.json")
    for order in ([early, late], [late, early]):
        answers = read_answers(order)
        assert len(answers.table) == 6
        assert answers.notes[0].startswith("Counted once: the answers of player 1")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', "\0"])
def test_another_file_is_refused(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BenchError, match="isn't a file of answers"):
        read_answers([tmp_path / "a.json"])


def test_answers_that_cannot_be_scored_are_refused(save_answers: Callable, make_other_game: Callable, tmp_path: Path):
    cases: dict[str, Callable[[], list[Path]]] = {
        r"There is no file .*gone": lambda: [tmp_path / "gone"],
        "no file of answers": lambda: [tmp_path],
        "hold no answers": lambda: [save_answers(1, count=0)],
        "No answer counts": lambda: [save_answers(1, checks_right=0)],
        "of 2 games, which can't be scored together": lambda: [
            save_answers(1),
            save_answers(2, game=make_other_game()),
        ],
        r"a\.json and .*b\.json have different answers of player 1": lambda: [
            save_answers(1, name="a.json"),
            save_answers(1, name="b.json", is_right=lambda *_: False),
        ],
    }
    for message, files in cases.items():
        with pytest.raises(BenchError, match=message):
            read_answers(files())


def table(player: object, image: object, method: object, correct: object) -> pd.DataFrame:
    return pd.DataFrame({"player": player, "image": image, "method": method, "correct": correct, "answer_index": 0})


def width_to_wilson(result: Score) -> float:
    """Of the first method: how much wider its interval is than that of independent answers."""
    row = result.accuracies.iloc[0]
    low, high = wilson(row["correct"], row["n"], Z)
    return float((row["high"] - row["low"]) / (high - low))


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (8, 10), (10, 10), (145, 290), (81, 263), (15, 148)])
def test_wilson_agrees_with_scipy(correct: int, n: int):
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n, Z) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_clusters_of_one_answer_are_independent_answers():
    correct = np.repeat([1, 0], [70, 30])
    covariance = cluster_covariance(table(range(100), 0, "A", correct), "player", ["A"], seed=0)
    assert covariance[0, 0] == pytest.approx(0.7 * 0.3 / 99, rel=0.1)  # Monte-Carlo error of 2,000 resamples: 3 %
    assert width_to_wilson(score(table(range(100), range(100), "A", correct))) == pytest.approx(1, abs=0.1)


def test_players_who_answer_all_alike_count_once():
    """30 players with 5 equal answers each: as much as 30 answers, so the design effect is 5."""
    result = score(table(np.repeat(np.arange(30), 5), np.arange(150), "A", np.repeat(np.repeat([1, 0], [20, 10]), 5)))
    assert width_to_wilson(result) == pytest.approx(math.sqrt(5), rel=0.1)


def test_a_difference_within_players_is_paired():
    """Each player answers once under each method: the variance is that of the mean of the players' differences."""
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 200)
    second = np.where(generator.random(200) < 0.8, first, 1 - first)
    rows = table(np.tile(np.arange(200), 2), 0, np.repeat(["A", "B"], 200), np.concatenate([first, second]))
    pair = score(rows).pairs.iloc[0]
    sign = 1 if pair["method"] == "A" else -1
    assert pair["difference"] == pytest.approx(sign * (first - second).mean())
    error = (first - second).std(ddof=1) / math.sqrt(200)
    assert (pair["high"] - pair["low"]) / 2 == pytest.approx(1.97 * error, rel=0.06)


def test_the_two_ways_are_joined():
    assert joined(1.0, 3.0, 2.0) == 4.0
    assert joined(2.0, 2.5, 1.0) == 2.5  # the sum is smaller by chance
    assert joined(1.0, float("nan"), 2.0) == 2.0
    assert joined(1.0, float("nan"), float("nan")) == 1.0


def test_one_player_is_scored_by_images():
    result = score(table(0, range(40), np.tile(["A", "B"], 20), np.tile([1, 1, 0, 1], 10)))
    assert np.isfinite(result.pairs[["low", "high", "p"]].to_numpy()).all()


def test_a_method_that_is_always_right_has_an_interval():
    method = np.tile(["A", "B"], 100)
    correct = (np.random.default_rng(0).random(200) < 0.6) | (method == "A")
    rows = table(np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), method, correct.astype(int))
    best = score(rows).accuracies.iloc[0]
    assert best["accuracy"] == 1
    assert 0.8 < best["low"] < best["high"] == 1


def test_cant_tell_is_counted_and_not_right():
    rows = table(range(4), range(4), "A", [1, 0, 0, 1]).assign(answer_index=[7, -1, 9, 7])
    assert score(rows).accuracies[["cant_tell", "accuracy"]].iloc[0].tolist() == [1, 0.5]


def test_holm_is_over_all_pairs():
    generator = np.random.default_rng(0)
    methods = np.tile(["A", "B", "C"], 100)
    correct = generator.random(300) < np.tile([0.9, 0.5, 0.5], 100)
    pairs = score(table(np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30), methods, correct.astype(int))).pairs
    assert len(pairs) == 3
    assert pairs["adjusted"].min() == pytest.approx(3 * pairs["p"].min())


@pytest.fixture
def folder(save_answers: Callable, make_other_game: Callable, tmp_path: Path) -> Path:
    game = make_other_game(titles={"left_cam": EVIL, "right_cam": "Right-CAM"}, images=8)
    for player in range(6):
        save_answers(player, game=game, is_right=lambda player, image, method: (player + image) % 3 > 0)
    save_answers(6, game=game, checks_right=1)
    return tmp_path


def test_the_command_names_methods_and_players(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["game-score", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("48 answers of 6 players, game ")
    assert lines[1] == "Left out: player 6, who named 1 of 6 whole pictures correctly (5 are needed)."
    assert any(line.startswith("  Right-CAM") for line in lines)
    assert any(line.startswith("  Centred blob") for line in lines)
    assert main(["game-score", str(folder / "gone")]) == 2
    assert capsys.readouterr().err.startswith("axiom-bench: There is no file")


def test_files_of_a_score(folder: Path, tmp_path: Path):
    lines = report_score([folder], tmp_path / "out" / "score.csv")
    assert lines[-2:] == [f"written: {tmp_path}/out/score.csv", f"written: {tmp_path}/out/score_pairs.csv"]
    methods = pd.read_csv(tmp_path / "out" / "score.csv")
    assert set(methods["method"]) == {"left_cam", "right_cam", "centred_blob"}
    assert methods["n"].sum() == 48
    report_score([folder], tmp_path / "score.md")
    assert f"\\{EVIL}" in (tmp_path / "score.md").read_text()  # markup in a title stays text
    with pytest.raises(BenchError, match=r"--output score\.xlsx ends with none of \.csv, \.md"):
        report_score([tmp_path / "gone"], Path("score.xlsx"))  # before anything is read
