"""`axiom-bench game-score` as its lines and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.report.game.score import score

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(save_answers: Callable, make_other_game: Callable, tmp_path: Path) -> Path:
    game = make_other_game(titles={"left_cam": EVIL, "right_cam": "Right-CAM"}, images=8)
    for player in range(6):
        save_answers(player, game=game, is_right=lambda player, image, method: (player + image) % 3 > 0)
    save_answers(6, game=game, checks_right=1)
    return tmp_path


def test_the_lines_name_methods_players_and_what_is_needed(folder: Path):
    lines = score([folder])
    assert lines[0].startswith("48 answers of 6 players, game ")
    assert lines[1] == "Left out: player 6, who named 1 of 6 whole pictures correctly (5 are needed)."
    assert "80 % power to tell 0.70 from 0.80, each method needs" in lines[2]
    assert any(line.startswith("  Right-CAM") for line in lines)
    assert any(line.startswith("  Centred blob") for line in lines)


def test_csv_is_a_file_for_each_table(folder: Path, tmp_path: Path):
    lines = score([folder], output=tmp_path / "out" / "score.csv")
    assert lines[-2:] == [f"written: {tmp_path}/out/score.csv", f"written: {tmp_path}/out/score_pairs.csv"]
    table = pd.read_csv(tmp_path / "out" / "score.csv")
    assert set(table["method"]) == {"left_cam", "right_cam", "centred_blob"}
    assert table["n"].sum() == 48


def test_markup_in_a_title_stays_text(folder: Path, tmp_path: Path):
    score([folder], output=tmp_path / "score.html")
    text = (tmp_path / "score.html").read_text()
    assert EVIL not in text
    assert "&lt;img src=x" in text
    score([folder], output=tmp_path / "score.md")
    assert f"\\{EVIL}" in (tmp_path / "score.md").read_text()


def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(BenchError, match=r"--output score\.xlsx ends with none of \.csv, \.html, \.md"):
        score([tmp_path / "gone"], output=Path("score.xlsx"))


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["game-score", str(folder)]) == 0
    assert "What people see" in capsys.readouterr().out
    assert main(["game-score", str(folder / "gone")]) == 2
    assert capsys.readouterr().err.startswith("axiom-bench: There is no file")
