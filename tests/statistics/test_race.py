"""A race drops the best candidate in at most 5 %, and counts none above an equal control."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from axiom_bench.statistics.choice import Contest, fields, levels_of
from axiom_bench.statistics.labels import rows_at
from axiom_bench.statistics.race import (
    Candidate,
    Race,
    looks,
    p_above,
    p_of_best,
    sign_patterns,
)
from axiom_bench.statistics.run_folder import RunFolder

REFERENCE = Path(__file__).parents[2] / "results/reference"
RACES = 2_000
FIRST = Candidate("layer", "method 0")
LEVEL = 0.05
# three standard errors of a proportion of 5 % in 2,000 races
ALLOWED = LEVEL + 3 * (LEVEL * (1 - LEVEL) / RACES) ** 0.5


def _p_by_hand(values, column):
    """Return the p value of `p_of_best` from loops over all signs."""
    images, candidates = values.shape
    others = [other for other in range(candidates) if other != column]

    def largest(signs):
        statistics = []
        for other in others:
            differences = values[:, other] - values[:, column]
            statistics.append(sum(signs * differences) / np.sqrt(sum(differences**2)))
        return max(statistics)

    observed = largest(np.ones(images))
    patterns = itertools.product([-1, 1], repeat=images)
    return np.mean([largest(np.array(signs)) >= observed - 1e-9 for signs in patterns])


def test_p_values_are_those_of_all_signs():
    values = np.random.default_rng(0).normal(size=(7, 3)) + np.array([0, 0.5, 1])
    signs = sign_patterns(7)
    assert len(signs) == 2**7
    for column in range(3):
        assert p_of_best(values, column, signs)[1] == _p_by_hand(values, column)


def test_the_candidates_are_one_family_for_each_control():
    values = np.random.default_rng(1).normal(size=(8, 2)) + np.array([2, 0])
    controls = np.zeros((8, 1))
    signs = sign_patterns(8)
    p_values = p_above(values, controls, signs)
    flipped = signs @ (values / np.sqrt((values**2).sum(0)))
    largest = flipped.max(axis=1)
    assert p_values[0, 0] == np.mean(largest >= flipped[0, 0] - 1e-9)
    assert p_values[1, 0] == np.mean(largest >= flipped[0, 1] - 1e-9)
    assert p_values[0, 0] < 0.02 < 0.05 < p_values[1, 0]
    worse_control = controls - 5
    with_other = p_above(values, np.hstack([controls, worse_control]), signs)
    np.testing.assert_array_equal(with_other[:, :1], p_values)


def _published_field():
    """Return the values of single deletion on VOC's photographs, as they are published."""
    run = RunFolder.of_suite(REFERENCE / "photographs-1/masks")
    setting = next(setting for setting in run.settings if run.ranks_methods(setting))
    records = rows_at(run.records.rows(["single_deletion"]), setting)
    return fields(Contest.of(records, run.metadata, ["single_deletion"]))["single_deletion"]


def _flipped(differences, signs):
    """Return the statistic of a pair's differences under each pattern of signs, term by term."""
    total = np.zeros(len(signs))
    for image, difference in enumerate(differences):
        total += signs[:, image] * difference
    scale = sum(difference**2 for difference in differences) ** 0.5
    return total / scale if scale else total


@pytest.mark.slow
@pytest.mark.parametrize("images", [12, 40])
def test_a_race_of_published_values_is_a_plain_loop(images):
    """All 4,096 signs of twelve images; the race's own random signs of 40."""
    field = _published_field()
    gains = {name: values[:images] for name, values in field.gains.items()}
    candidates = [group[0] for group in field.groups]
    race = Race(tuple(candidates), field.controls, LEVEL, num_looks=1).look(gains)
    if images == 12:
        signs = np.array([*itertools.product([1.0, -1.0], repeat=images)])
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(4095, images))
        signs = np.vstack([np.ones(images), drawn])

    expected = {}
    for name in candidates:
        others = [other for other in candidates if other != name]
        statistics = np.array([_flipped(gains[other] - gains[name], signs) for other in others])
        largest = statistics.max(axis=0)
        p = np.mean(largest >= largest[0] - 1e-9)
        if p <= LEVEL / 2:
            expected[name] = (others[statistics[:, 0].argmax()], p)
    assert expected
    defeats = {name: (defeat.better, defeat.p) for name, defeat in race.dropped.items()}
    assert defeats == expected

    beaten = dict.fromkeys(candidates, frozenset())
    for control in field.controls:
        statistics = np.array(
            [_flipped(gains[name] - gains[control], signs) for name in candidates]
        )
        largest = statistics.max(axis=0)
        for name, row in zip(candidates, statistics, strict=True):
            if np.mean(largest >= row[0] - 1e-9) <= LEVEL / 2:
                beaten[name] |= {control}
    assert any(beaten.values())
    assert race.above == beaten


def test_equal_candidates_are_never_dropped():
    values = np.repeat(np.random.default_rng(2).normal(size=(10, 1)), 3, axis=1)
    for column in range(3):
        assert p_of_best(values, column, sign_patterns(10))[1] == 1
    assert p_of_best(values[:, :1], 0, sign_patterns(10)) == (0, 1.0)


@pytest.mark.parametrize("images", [1, 8, 12, 31, 32, 100, 500])
def test_looks_end_with_all_images(images):
    sizes = looks(images)
    assert sizes[-1] == images
    assert all(first < second for first, second in itertools.pairwise(sizes))
    assert sizes[0] == images or sizes[0] >= 16


def _normal(generator, shape):
    return generator.normal(size=shape)


def _common(generator, shape):
    return 0.3 * generator.normal(size=shape) + generator.normal(size=(shape[0], 1))


def _skewed(generator, shape):
    return generator.exponential(size=shape) - 1


def _unequal(generator, shape):
    return generator.normal(size=shape) * np.linspace(0.1, 3, shape[1])


def _heavy(generator, shape):
    return generator.standard_t(2, size=shape)


def _bounded(generator, shape):
    return generator.beta(0.5, 0.5, size=shape)


def _raced(values, candidates, level=LEVEL):
    """Return a race by (images, candidates and controls) in all looks, with all names."""
    names = [Candidate("layer", f"method {number}") for number in range(candidates)]
    controls = [
        Candidate("layer", f"control {number}") for number in range(values.shape[1] - candidates)
    ]
    sizes = looks(len(values))
    race = Race(tuple(names), tuple(controls), level, len(sizes))
    for size in sizes:
        columns = zip([*names, *controls], values[:size].T, strict=True)
        race = race.look(dict(columns))
    return race


@pytest.mark.slow
@pytest.mark.parametrize("images", [12, 40])
@pytest.mark.parametrize("draw", [_normal, _common, _skewed, _unequal, _heavy, _bounded])
def test_equal_candidates_are_dropped_in_at_most_five_percent(draw, images):
    generator = np.random.default_rng(images)
    wrong = 0
    for _ in range(RACES):
        race = _raced(draw(generator, (images, 6)), candidates=5)
        # each of equal candidates is a best one, so the first one stands for it
        wrong += FIRST in race.dropped or FIRST in race.above_all_controls
    assert wrong / RACES <= ALLOWED


@pytest.mark.slow
def test_all_criteria_together_are_wrong_in_at_most_five_percent():
    """Two of three criteria, like sensitivity and conservation, have no controls."""
    levels = levels_of(["deletion", "sensitivity", "conservation"]).values()
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(RACES):
        is_wrong = False
        for level, columns in zip(levels, (6, 5, 5), strict=True):
            race = _raced(generator.normal(size=(12, columns)), candidates=5, level=level)
            counts_as_better = columns == 6 and FIRST in race.above_all_controls
            is_wrong |= FIRST in race.dropped or counts_as_better
        wrong += is_wrong
    assert wrong / RACES <= ALLOWED


@pytest.mark.slow
def test_skipped_controls_and_candidates_leave_the_error_at_five_percent():
    """Look after look measures only what `still_racing` names."""
    generator = np.random.default_rng(6)
    names = [Candidate("layer", f"method {number}") for number in range(3)]
    controls = [Candidate("layer", f"control {number}") for number in range(2)]
    wrong = 0
    for _ in range(RACES):
        values = generator.normal(size=(40, 5))
        values[:, 1:3] -= [0, 1]
        values[:, 4] -= 1  # the first control is as good as the best candidates
        race = Race(tuple(names), tuple(controls), LEVEL, 2)
        measured = {*names, *controls}
        for size in (20, 40):
            columns = zip([*names, *controls], values[:size].T, strict=True)
            race = race.look({name: column for name, column in columns if name in measured})
            measured = {*race.contenders, *controls} - race.beaten_by_all_contenders
        wrong += FIRST in race.dropped or bool(race.above_all_controls)
    assert wrong / RACES <= ALLOWED


@pytest.mark.slow
def test_a_clear_winner_is_found_and_never_dropped():
    generator = np.random.default_rng(3)
    found = wrong = 0
    for _ in range(RACES):
        values = generator.normal(size=(40, 6))
        values[:, 0] += 1.5
        race = _raced(values, candidates=5)
        found += race.is_decided and race.contenders == (FIRST,)
        wrong += FIRST in race.dropped
    assert found / RACES > 0.95
    assert wrong / RACES <= ALLOWED


@pytest.mark.slow
def test_a_candidate_as_good_as_the_best_of_several_controls_seldom_counts_as_better():
    generator = np.random.default_rng(4)
    wrong = 0
    for _ in range(RACES):
        values = generator.normal(size=(40, 9))
        values[:, 6:] -= [0.5, 1, 2]  # the first control is as good as the candidates
        wrong += bool(_raced(values, candidates=5).above_all_controls)
    assert wrong / RACES <= ALLOWED
