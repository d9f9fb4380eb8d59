"""Files of answers: what is read, what is refused, and who doesn't count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.report.game_score import read_answers


def test_a_folder_of_answers_is_read(save_answers: Callable, tmp_path: Path):
    for player in range(3):
        save_answers(player, is_right=lambda player, image, method: image % 2 == 0)
    answers = read_answers([tmp_path])
    assert answers.players == 3
    assert len(answers.table) == 3 * 6  # the checks aren't among them
    assert answers.table["correct"].mean() == 0.5
    assert answers.notes == ()


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


def test_two_players_with_one_number_are_refused(save_answers: Callable):
    files = [save_answers(1, name="a.json"), save_answers(1, name="b.json", is_right=lambda *_: False)]
    with pytest.raises(BenchError, match=r"a\.json and .*b\.json have different answers of player 1"):
        read_answers(files)


def test_answers_of_two_games_are_refused(save_answers: Callable, make_other_game: Callable):
    files = [save_answers(1), save_answers(2, game=make_other_game())]
    with pytest.raises(BenchError, match="of 2 games, which can't be scored together"):
        read_answers(files)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "[]"), ("a.json", '{"format": 2}'), ("a.json", "\0")],
)
def test_another_file_is_refused(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(BenchError, match="isn't a file of answers"):
        read_answers([tmp_path / name])


def test_missing_files_and_empty_folders_are_named(tmp_path: Path):
    with pytest.raises(BenchError, match=r"There is no file .*gone"):
        read_answers([tmp_path / "gone"])
    with pytest.raises(BenchError, match="no file of answers"):
        read_answers([tmp_path])


def test_a_player_who_stopped_at_once_has_no_answers(save_answers: Callable):
    with pytest.raises(BenchError, match="hold no answers"):
        read_answers([save_answers(1, count=0)])


def test_no_player_passes(save_answers: Callable):
    with pytest.raises(BenchError, match="No answer counts"):
        read_answers([save_answers(1, checks_right=0)])
