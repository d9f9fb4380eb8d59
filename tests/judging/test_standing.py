"""Places among a suite's published methods.

A method gains nothing from images that it doesn't answer, and takes none from the others.
"""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.judging.standing import Standing, Standings, standings
from axiom_bench.statistics.comparison import Answers
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import edit_manifest, make_run, rows_of  # noqa: F401

NAN = float("nan")
METRICS = {
    "hit": {"title": "Hit", "unit": "share", "kind": "bounded", "better": "higher", "metric": "hit"}
}
IMAGES = np.arange(50)
GOOD = 0.5 + 0.02 * np.sin(IMAGES)


@pytest.fixture
def part(make_run, edit_manifest):  # noqa: F811
    """A function (values by method on each network, **entries of methods) -> the part of a suite.

    All methods except `sent` are published.
    """

    def make(*networks, **entries):
        frames = []
        layers = {}
        methods = {}
        for number, values_by_method in enumerate(networks):
            model = f"net{number}"
            frames.append(rows_of("hit", values_by_method, model=model))
            layers[model] = ("last",)
            for method in values_by_method:
                methods[method] = entries.get(method, {})
        folder = make_run(
            pd.concat(frames),
            "-".join(methods),
            methods=methods,
            layers=layers,
            runtime=False,
            pictures=False,
        )
        published = [method for method in methods if method != "sent"]
        edit_manifest(folder, metrics=METRICS, published=published)
        return RunFolder.of_suite(folder)

    return make


def test_silence_on_hard_images_gains_nothing_and_takes_none_from_the_others(part):
    """Check `sent`, which equals `first` but doesn't answer the tenth of the images it gets wrong.

    On the images that `sent` answers, it is the best method.
    """
    is_hard = IMAGES % 10 == 3
    first_values = np.where(is_hard, 0.0, 0.9) + 0.01 * np.sin(IMAGES)
    published = {
        "first": first_values,
        "second": first_values[::-1] - 0.05,
        "blind": 0.3 + 0.02 * np.cos(IMAGES),
    }
    without_sent = part(published)
    with_sent = part(published | {"sent": np.where(is_hard, NAN, first_values)})

    def standing(run, method):
        return standings(run, "hit", method).networks["net0"]

    sent = standing(with_sent, "sent")
    first = standing(with_sent, "first")
    assert (sent.answered, sent.rows) == (45, 50)
    assert sent.value == pytest.approx(first_values[~is_hard].mean())
    assert sent.value > first.value >= sent.compared
    assert (sent.place_low, sent.place_high) >= (first.place_low, first.place_high)
    for method in published:
        before = standing(without_sent, method)
        after = standing(with_sent, method)
        assert before.images == after.images == 50
        # The sums of another number of columns may be rounded in another way.
        assert before.compared == pytest.approx(after.compared, rel=1e-12)


def test_what_is_taken_is_the_worst_of_the_published_methods_alone(part):
    values_with_gap = np.where(IMAGES == 7, NAN, GOOD)
    run = part({"a": GOOD, "b": values_with_gap, "c": GOOD - 0.1, "sent": GOOD - 0.3})
    compared = standings(run, "hit", "b").networks["net0"].compared
    assert compared == pytest.approx(GOOD.mean() - 0.1 / 50)


@pytest.mark.slow
def test_a_network_without_values_is_the_last_place_and_a_tenth_of_all_is_too_much(part):
    """Check ten networks, of which `lacks` has nine, which is enough, and `half` has five."""
    networks = []
    for number in range(10):
        network = {"a": GOOD, "b": GOOD - 0.2, "control": GOOD - 0.4, "map": np.full(50, NAN)}
        if number >= 1:
            network["lacks"] = GOOD + 0.1
        if number < 5:
            network["half"] = GOOD + 0.2
        networks.append(network)
    run = part(*networks, control={"control": True})

    lacks = standings(run, "hit", "lacks")
    half = standings(run, "hit", "half")

    assert lacks.answers.text == "9 of 10, 450 of 500"
    assert lacks.answers.has_place
    assert lacks.as_dict()["networks"][0]["value"] is None
    missing = lacks.networks.pop("net0")
    assert (missing.place_low, missing.place_high, missing.groups, missing.answered) == (4, 4, 4, 0)
    # `half` is better, but it doesn't count.
    assert {network.place_high for network in lacks.networks.values()} == {1}
    assert not half.answers.has_place
    assert half.places_text == "(1 to 1 of 5)"
    assert len(half.networks) == 5
    assert standings(run, "hit", "map") is None  # a metric that doesn't apply to it


@pytest.mark.parametrize(
    ("places", "text", "words"),
    [
        ([(1, 3)], "1 to 3 of 8", "places 1 to 3 of 8"),
        ([(1, 4)], "1 to 4 of 8", "places 1 to 4 of 8"),
        # 5 of 8 places: the method doesn't differ from 4 of 7 others
        ([(1, 5)], "differs from 3 of 7", "differs from 3 of 7 methods"),
        # the network with the fewest
        ([(2, 3), (1, 7)], "differs from 1 of 7", "differs from 1 of 7 methods"),
        ([(1, 8)], "differs from 0 of 7", "differs from 0 of 7 methods"),
    ],
)
def test_a_range_of_most_places_is_not_printed(places, text, words):
    networks = {
        f"net{number}": Standing(f"net{number}", place_low=low, place_high=high, groups=8)
        for number, (low, high) in enumerate(places)
    }
    one = Standings(Answers(1, 1, 1, 1), networks)
    assert one.places_text == text
    assert one.places_in_words == words
