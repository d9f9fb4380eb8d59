"""The simulation of the judging of metrics: benchmarks and rows are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_judging as simulation

from axiom_bench.judging.agreement import Alpha


def test_a_third_of_the_variance_belongs_to_the_image() -> None:
    values = simulation.values_of(np.zeros(2), 20_000, 2.0, "normal", np.random.default_rng(0))
    assert values.std(axis=0) == pytest.approx([2, 2], abs=0.05)
    assert np.corrcoef(values.T)[0, 1] == pytest.approx(1 / 3, abs=0.03)


def test_coverage_of_alpha_is_that_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, mean, held = simulation.alpha_row("normal", 2.0, 16, 3)
    assert 0 < float(mean) < 1
    assert float(held) > 30
    monkeypatch.setattr(simulation, "agreement", lambda _: Alpha(2.0, 2.0, 2.0))
    assert simulation.alpha_row("normal", 2.0, 16, 3)[-2:] == ["2.00", "0.0"]


def test_halves_of_sure_methods_have_no_error() -> None:
    *_, of_halves, extrapolated, needed = simulation.halves_row("equal steps", 0.01, 16, 2)
    assert of_halves.startswith("+0.000 ± 0.000")
    assert extrapolated.startswith("+0.000 ± 0.000")
    assert needed.startswith("1 ")


def test_recovery_of_more_images_than_there_are_is_not_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "POPULATION", 2000)
    assert simulation.recovery_row("normal", 1.0, 32, 1)[-1] == ""


def test_disagreement_is_against_the_true_means() -> None:
    *_, error, held = simulation.disagreement_row(0.001, 16, 2)
    assert (error, held) == ("+0.000 ± 0.000", "100.0")
