"""Places among a suite's published methods: no answer wins nothing, and none takes images from the others."""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.judging.standing import standings
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import edit_manifest, make_run, rows_of  # noqa: F401

NAN = float("nan")
METRICS = {"hit": {"title": "Hit", "unit": "share", "kind": "bounded", "better": "higher", "metric": "hit"}}
IMAGES = np.arange(50)
GOOD = 0.5 + 0.02 * np.sin(IMAGES)
SAME = np.full(50, 0.6)


@pytest.fixture
def part(make_run, edit_manifest):  # noqa: F811
    """(values by method on two networks, **about methods) -> the part, of which `sent` isn't published."""

    def make(*networks, **about):
        records = pd.concat(rows_of("hit", each, model=f"net{place}") for place, each in enumerate(networks))
        names = list(dict.fromkeys(name for each in networks for name in each))
        layers = {f"net{place}": ("last",) for place in range(len(networks))}
        methods = {name: about.get(name, {}) for name in names}
        folder = make_run(records, "-".join(names), methods=methods, layers=layers, runtime=False, pictures=False)
        edit_manifest(folder, metrics=METRICS, published=[name for name in names if name != "sent"])
        return RunFolder.of_suite(folder)

    return make


def test_silence_on_hard_images_gains_nothing_and_takes_none_from_the_others(part):
    """`sent` is `first` where that is right, and has no value on the tenth of the images where it is wrong: over its
    own images it is the best by far."""
    hard = IMAGES % 10 == 3
    first = np.where(hard, 0.0, 0.9) + 0.01 * np.sin(IMAGES)
    published = {"first": first, "second": first[::-1] - 0.05, "blind": 0.3 + 0.02 * np.cos(IMAGES)}
    alone = part(published)
    both = part(published | {"sent": np.where(hard, NAN, first)})
    sent, own = (standings(both, "hit", name) for name in ("sent", "first"))
    assert (sent.answers.rows, sent.answers.all_rows, sent.has_place) == (45, 50, True)
    (of_sent,), (of_first,) = sent.networks.values(), own.networks.values()
    assert of_sent.value == pytest.approx(first[~hard].mean())  # over the answered images
    assert "90" in of_sent.value_text
    assert of_sent.value > of_first.value
    assert of_sent.place_low >= of_first.place_low
    assert of_sent.place_high >= of_first.place_high
    for name in published:
        before, now = (standings(run, "hit", name).networks["net0"] for run in (alone, both))
        assert (before.images, now.images) == (50, 50)
        ends = (now.value, now.low, now.high)  # sums of products, whose last bit depends on the number of columns
        assert (before.value, before.low, before.high) == pytest.approx(ends, rel=1e-12)


def test_what_is_taken_is_the_worst_of_the_published_methods_alone(part):
    silent = np.where(IMAGES == 7, NAN, GOOD)
    run = part({"a": GOOD, "b": silent, "c": GOOD - 0.1, "sent": GOOD - 0.3})
    comparison = run.comparisons.of(run.settings[0], "hit")
    assert comparison.place("b").value == pytest.approx((np.nansum(silent) + GOOD[7] - 0.1) / 50)
    assert comparison.rows == 50


def test_a_network_without_values_is_the_last_place_and_a_tenth_of_all_is_too_much(part):
    """Of ten networks `lacks` has nine, which is enough, and `half` five."""
    rest = {"a": GOOD, "b": GOOD - 0.2, "control": GOOD - 0.4}
    lacks, half = {"lacks": SAME}, {"half": SAME + 0.1}
    networks = [rest | (lacks if place else {}) | (half if place < 5 else {}) for place in range(10)]
    run = part(*networks, control={"control": True})
    found = standings(run, "hit", "lacks")
    assert (found.answers.networks, found.answers.all_networks, found.has_place) == (9, 10, True)
    last = found.networks["net0"]
    assert (last.place_low, last.place_high, last.groups, last.answered) == (4, 4, 4, 0)
    assert {each.place_high for name, each in found.networks.items() if name != "net0"} == {1}  # `half` doesn't count
    assert standings(run, "hit", "a").networks["net0"].groups == 4
    other = standings(run, "hit", "half")
    assert (other.has_place, other.places_text, len(other.networks)) == (False, "(1 to 1 of 5)", 5)
    assert other.num_above_controls == 5
    assert found.as_dict()["networks"][0]["value"] is None


def test_a_metric_that_does_not_apply_to_a_method_is_no_silence(part):
    run = part({"a": GOOD, "b": GOOD - 0.2, "map": np.full(50, NAN)})
    assert standings(run, "hit", "map") is None
    assert standings(run, "hit", "a").networks["net0"].groups == 2
