"""The simulation of the sampled gate: its runs are what they are said to be, and what it counts is what the gate
finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simulate_gate as simulation
from measuring import END, markdown, percent, publish, start_of, with_part
from simulate_gate import KINDS, false_alarms, gated, power, sides

from axiom_bench.errors import BenchError

NORMAL, OTHER = KINDS[0], KINDS[3]


def numbers(kind: simulation.Kind, images: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(images, rows) of both sides."""
    both = sides(kind, images, np.random.default_rng(0), shift)
    before, after = (side.values["value"].to_numpy().reshape(images, -1) for side in both)
    return before, after


def test_values_are_standard_normal_and_half_of_their_variance_is_the_image_s() -> None:
    before, after = numbers(NORMAL, 4000)
    assert before.std() == pytest.approx(1, abs=0.02)
    assert after.std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(before[:, 0], before[:, 1])[0, 1]) < 0.05  # rows don't go together


def test_other_images_share_nothing() -> None:
    before, after = numbers(OTHER, 4000)
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.02
    old, new = (set(side.values["image_id"]) for side in sides(OTHER, 8, np.random.default_rng(0)))
    assert len(old) == len(new) == 8
    assert not old & new


@pytest.mark.parametrize("kind", [NORMAL, OTHER], ids=lambda kind: kind.title)
def test_the_first_row_moves_by_so_many_standard_deviations_of_a_difference(kind: simulation.Kind) -> None:
    before, after = numbers(kind, 4000, shift=0.5)
    moved = (after - before).mean(axis=0) / (after - before).std(axis=0)
    assert moved[0] == pytest.approx(0.5, abs=0.05)
    assert np.abs(moved[1:]).max() < 0.08


def test_gate_finds_the_row_that_moved_and_no_other_place() -> None:
    findings = gated(NORMAL, 64, np.random.default_rng(0), shift=3.0)
    assert ("one", "one", "one", "method 0", "metric 0") in [finding.row for finding in findings]


def test_shares_count_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    assert power(NORMAL, 32, 3.0, 2, np.random.default_rng(0)) == 1
    found = iter([[], ["any"], [], []])
    monkeypatch.setattr(simulation, "gated", lambda *_: next(found))
    assert false_alarms(NORMAL, 32, 4, np.random.default_rng(0)) == 0.25


def test_cells_have_seeds_of_their_own() -> None:
    seeds: list[float] = []

    def recorded(kind: simulation.Kind, images: int, gates: int, generator: np.random.Generator) -> float:
        seeds.append(generator.random())
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "false_alarms", recorded)
        patch.setattr(simulation, "SHIFTS", ())
        for place, images in ((0, 32), (0, 256), (1, 32), (0, 32)):
            simulation.shares(place, images, 1)
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3


def test_page_says_the_overall_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        simulation, "parallel", lambda row, cases: [[0.04, 0.1, 0.5, 1.0]] * (len(list(cases)) - 1) + [[0.14] * 4]
    )
    text, table = simulation.tables(1000)
    assert "1,000 simulated gates" in text
    assert "goal: at most 5.0, known to 1.4; 5.0 over all, known to 0.4" in text
    assert "per cent of 250 gates" in text
    assert "| the same images, normal | 32 | 4.0 | 10.0 | 50.0 | 100.0 |" in table


def test_page_is_written_where_all_was_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "ci.md"
    page.write_text(f"# Title\n\n{start_of('simulate_gate')}\nold\n{END}\n\nafter\n")
    assert publish(iter(["one", "two"]), "simulate_gate", page, is_whole=False) == 0
    assert "old" in page.read_text()
    publish(iter(["one", "two"]), "simulate_gate", page, is_whole=True)
    assert page.read_text() == f"# Title\n\n{start_of('simulate_gate')}\n\none\n\ntwo\n\n{END}\n\nafter\n"
    assert capsys.readouterr().out.startswith("one\n\ntwo\n")
    with pytest.raises(BenchError, match="needs the lines"):
        with_part("# Title\n", start_of("simulate_gate"), END, "one")


def test_tables_align_numbers_to_the_right() -> None:
    assert markdown([("a", "b"), ("c", percent(0.5))]).splitlines() == ["| a | b |", "|:---|---:|", "| c | 50.0 |"]
