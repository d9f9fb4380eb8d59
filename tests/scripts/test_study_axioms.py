"""docs/studies/axioms-and-truth.md: a move changes one axiom alone, heads interact, and what counts as which answer."""

import numpy as np
import pytest
import torch
from study_axioms import AXIOMS, IMAGES, MOVES, OUTCOMES, Measured, answer, moved, planted, table

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.testing import CASES


def errors(trace, weights):
    totals, drops = (weights * trace.activations).sum((2, 3)), trace.ablation_drops
    sensitivity = (drops - totals).abs().sum(1) / drops.abs().sum(1)
    return {
        "sensitivity_error": sensitivity,
        "conservation_error": (totals.sum(1) - trace.scores).abs() / trace.scores.abs(),
    }


@pytest.mark.parametrize("move", MOVES, ids="-".join)
@pytest.mark.parametrize("name", ["grad_cam", "eigen_grad_cam", "shuffled_channels"])
def test_a_move_changes_one_axiom_alone(name, move):
    trace, (axiom, way) = CASES["dense"].trace(), move
    method = methods.get(name)
    weights = moved(method, *move)(trace)
    before, after = errors(trace, method(trace)), errors(trace, weights)
    is_moved = weights.isfinite().flatten(1).all(1)
    assert is_moved.any()
    for each, values in after.items():
        gain = (values - before[each])[is_moved]
        if each == axiom:
            assert (gain > 1e-9).all() if way == "worse" else (gain < -1e-9).all()
        else:
            torch.testing.assert_close(gain, torch.zeros_like(gain), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [100, 101])
def test_channels_of_the_planted_heads_interact_and_the_truth_adds_up(seed):
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 4 - 2
    trace = ab.trace(planted(seed).double(), "features", images.double(), torch.zeros(3, dtype=torch.long))
    values = trace.true_contributions.sum((2, 3))
    of_nothing = trace.head(torch.zeros_like(trace.activations))[:, 0]
    torch.testing.assert_close(values.sum(1), trace.scores - of_nothing)
    assert ((values - trace.ablation_drops).abs().sum(1) > 0.01 * values.abs().sum(1)).all()


@pytest.mark.parametrize(
    ("among", "worse", "better", "words"),
    [
        ((0.5, 0.2, 0.8), (-1, -2, -0.5), (1, 0.5, 2), "yes"),
        ((0.5, 0.2, 0.8), (-1, -2, 0.5), (1, 0.5, 2), "in part: between methods"),
        ((0.1, -0.2, 0.8), (-1, -2, -0.5), (1, 0.5, 2), "in part: moved maps"),
        ((-0.5, -0.8, -0.2), (1, 0.5, 2), (-1, -2, -0.5), "no"),
        ((0.1, -0.2, 0.8), (1, 0.5, 2), (-1, -2, -0.5), "not shown"),
    ],
)
def test_what_counts_as_which_answer(among, worse, better, words):
    assert answer(among, worse, better) == words


def test_a_table_of_made_values(monkeypatch):
    """Errors that rank methods as the outcomes do, which moves make worse and better: each row says yes; the opposite
    of both says no."""
    monkeypatch.setattr("study_axioms.DRAWS", 50)
    errors = np.tile(np.arange(1.0, 7), (IMAGES, 1)) + np.random.default_rng(0).uniform(0, 0.1, (IMAGES, 6))

    def network(way):
        values = {axiom: dict.fromkeys((None, *MOVES), errors) for axiom in AXIOMS}
        for outcome in OUTCOMES["planted"]:
            better = -1 if metrics.get(outcome).spec.better == "lower" else 1
            worse = {move: -1 if move and move[1] == "worse" else 1 if move else 0 for move in (None, *MOVES)}
            values[outcome] = {move: better * way * (worse[move] - errors) for move in worse}
        return Measured("planted", [*"abcdef"], values)

    for way, word in ((1, "**yes**"), (-1, "**no**")):
        rows = [*table([network(way), network(way)])]
        assert {row[-1] for row in rows} == {word}
        assert len(rows) == len(AXIOMS) * len(OUTCOMES["planted"])
    assert rows[0][:3] == ["planted", "Sensitivity error", metrics.get("truth_channel_error").spec.title]
