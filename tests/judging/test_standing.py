"""Places among a suite's published methods: no answer wins nothing, and none takes images from the
others.
"""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.judging.standing import standings
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
    """(values by method on two networks, **about methods) -> the part, of which `sent` isn't
    published.
    """

    def make(*networks, **about):
        records = pd.concat(
            rows_of("hit", each, model=f"net{place}") for place, each in enumerate(networks)
        )
        names = list(dict.fromkeys(name for each in networks for name in each))
        layers = {f"net{place}": ("last",) for place in range(len(networks))}
        methods = {name: about.get(name, {}) for name in names}
        folder = make_run(
            records, "-".join(names), methods=methods, layers=layers, runtime=False, pictures=False
        )
        edit_manifest(folder, metrics=METRICS, published=[name for name in names if name != "sent"])
        return RunFolder.of_suite(folder)

    return make


def test_silence_on_hard_images_gains_nothing_and_takes_none_from_the_others(part):
    """`sent` is `first` but for the tenth of the images where that is wrong: on its own images it
    is best.
    """
    hard = IMAGES % 10 == 3
    first = np.where(hard, 0.0, 0.9) + 0.01 * np.sin(IMAGES)
    published = {"first": first, "second": first[::-1] - 0.05, "blind": 0.3 + 0.02 * np.cos(IMAGES)}
    alone, both = part(published), part(published | {"sent": np.where(hard, NAN, first)})
    sent, own = (standings(both, "hit", name).networks["net0"] for name in ("sent", "first"))
    assert (sent.answered, sent.rows, sent.value) == (45, 50, pytest.approx(first[~hard].mean()))
    assert sent.value > own.value >= sent.compared
    assert (sent.place_low, sent.place_high) >= (own.place_low, own.place_high)
    for name in published:
        before, now = (standings(run, "hit", name).networks["net0"] for run in (alone, both))
        assert (before.images, now.images) == (50, 50)
        # sums of another number of columns
        assert before.compared == pytest.approx(now.compared, rel=1e-12)


def test_what_is_taken_is_the_worst_of_the_published_methods_alone(part):
    run = part(
        {"a": GOOD, "b": np.where(IMAGES == 7, NAN, GOOD), "c": GOOD - 0.1, "sent": GOOD - 0.3}
    )
    assert standings(run, "hit", "b").networks["net0"].compared == pytest.approx(
        GOOD.mean() - 0.1 / 50
    )


def test_a_network_without_values_is_the_last_place_and_a_tenth_of_all_is_too_much(part):
    """Of ten networks `lacks` has nine, which is enough, and `half`, the best, five."""
    rest = {"a": GOOD, "b": GOOD - 0.2, "control": GOOD - 0.4, "map": np.full(50, NAN)}
    lacks, half = {"lacks": GOOD + 0.1}, {"half": GOOD + 0.2}
    networks = [
        rest | (lacks if place else {}) | (half if place < 5 else {}) for place in range(10)
    ]
    run = part(*networks, control={"control": True})
    found, other = (standings(run, "hit", name) for name in ("lacks", "half"))
    assert (found.answers.text, found.answers.has_place) == ("9 of 10, 450 of 500", True)
    last = found.networks["net0"]
    assert (last.place_low, last.place_high, last.groups, last.answered) == (4, 4, 4, 0)
    # `half` doesn't count
    assert {each.place_high for name, each in found.networks.items() if name != "net0"} == {1}
    assert found.as_dict()["networks"][0]["value"] is None
    assert (other.answers.has_place, other.places_text, len(other.networks)) == (
        False,
        "(1 to 1 of 5)",
        5,
    )
    assert standings(run, "hit", "map") is None  # a metric that doesn't apply to it
