"""Tests of the statistics behind every table, by hand and against a loop."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from axiom_bench.statistics.labels import Setting, rows_at
from axiom_bench.statistics.summary import (
    KEYS,
    SPLIT_KEYS,
    Accuracy,
    accuracy,
    aggregated,
    bootstrap_error,
    classified,
    counts_of,
    summarise,
)

NAN = float("nan")


def rows(**columns):
    """Return records of one model, method and metric, with these columns replaced."""
    n = max(len(column) for column in columns.values())
    keys = {
        "model": "m",
        "layer": "l",
        "data": "d",
        "method": "a",
        "metric": "e",
        "status": "ok",
    }
    classes = {"target_class": 1, "predicted_class": 1, "image_id": [str(i) for i in range(n)]}
    return pd.DataFrame({**keys, **classes, **columns})


@pytest.mark.parametrize(
    ("correct", "images", "chance", "expected"),
    [
        (13, 64, 0.19, True),
        (20, 64, 0.19, False),  # Wilson's lower limit is 23 %
        (5, 25, 0.1, False),  # the limit is 10.1 %
        (4, 25, 0.1, True),
        (0, 30, 0.001, True),
        (1, 4, 0.25, False),  # too few to tell
        (3, 5, 0.25, False),
        (0, 5, 0.25, True),
        (0, 30, 0.0, True),  # a network with an unknown number of classes
        (1, 30, 0.0, False),
    ],
)
def test_accuracy_that_is_no_more_than_chance(correct, images, chance, expected):
    assert Accuracy(correct, images, chance).is_chance == expected


@pytest.mark.parametrize(
    ("correct", "images", "published", "expected"),
    [
        (26, 60, 0.698, True),
        (38, 60, 0.698, False),  # Wilson's upper limit is 72.8 %
        (0, 1, 0.698, False),  # and here 73 %
        (0, 60, 0.0, False),  # nothing is published
    ],
)
def test_accuracy_below_the_published_one(correct, images, published, expected):
    assert Accuracy(correct, images, 0.001, published).is_below_published == expected


def test_an_image_counts_once_and_any_of_its_labels_will_do():
    """The network names one of the two labels of image 0 and a wrong class for image 1. Image 2 has
    no label.
    """
    labelled = rows(
        image_id=["0", "0", "1", "2"], target_class=[1, 2, 3, -1], predicted_class=[2, 2, 2, 2]
    )
    assert accuracy(labelled, 0, 6) == Accuracy(1, 2, 3 / 2 / 6)
    assert str(accuracy(labelled, 1, 0)) == "1 of 3 (33 %)"
    assert accuracy(labelled.assign(predicted_class=-1), 0, 6) is None


@pytest.mark.parametrize(
    ("values", "status", "expected", "statuses"),
    [
        # The sample variance is ((1-3)^2 + (2-3)^2 + (6-3)^2) / 2 = 7, and so the error of the mean
        # is sqrt(7 / 3).
        (
            [1.0, 2.0, 6.0, 50.0],
            ["ok"] * 3 + ["zero_map"],
            (3, 4, 3.0, 2.0, math.sqrt(7 / 3)),
            "ok:3 zero_map:1",
        ),
        ([2.5], ["ok"], (1, 1, 2.5, 2.5, NAN), "ok:1"),
        ([NAN] * 2, ["zero_score"] * 2, (0, 2, NAN, NAN, NAN), "zero_score:2"),
        ([1.0, 99.0], ["ok", "zero_score"], (1, 2, 1.0, 1.0, NAN), "ok:1 zero_score:1"),
    ],
)
def test_statistics_by_hand(values, status, expected, statuses):
    summary = summarise(rows(value=values, status=status)).iloc[0]
    numbers = [summary[name] for name in ("n", "rows", "mean", "median", "standard_error")]
    assert numbers == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert summary["statuses"] == statuses


def test_every_group_as_a_loop_has_it_in_any_order(make_records):
    records = make_records(15)
    summary = summarise(records)
    of_shuffled = summarise(records.sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(summary, of_shuffled, rtol=1e-12)

    table = summary.set_index(list(KEYS))
    groups = dict(iter(records.groupby(list(KEYS[:-1]), observed=True)))
    assert len(table) == len(groups)
    for key, row in table.iterrows():
        group = groups[key[:-1]]
        values = group.loc[group["status"] == "ok", "value"].tolist()
        assert (row["n"], row["rows"]) == (len(values), len(group))
        if values:
            assert row["mean"] == pytest.approx(sum(values) / len(values), rel=1e-12)
            assert row["median"] == pytest.approx(statistics.median(values), rel=1e-12)


def test_values_of_the_whole_set_are_separate_and_are_in_no_split():
    table = rows(value=[1.0, 3.0, 100.0], image_id=["a", "b", "*"])
    assert summarise(table).sort_values("whole_set")["mean"].tolist() == [2.0, 100.0]
    assert summarise(table, SPLIT_KEYS)["mean"].tolist() == [2.0]


def test_classes_split_rows():
    records = rows(
        value=[1.0, 2.0, 4.0, 8.0], target_class=[1, 1, 2, -1], predicted_class=[1, 2, 2, 3]
    )
    assert classified(records).tolist() == ["correct", "wrong", "correct", "unknown"]
    means = summarise(records, SPLIT_KEYS).set_index("split")["mean"]
    assert means.to_dict() == {"correct": 2.5, "wrong": 2.0, "unknown": 8.0}


def test_counts_of_a_status_text_and_rows_of_a_setting():
    assert counts_of("ok:120 zero_map:3") == {"ok": 120, "zero_map": 3}
    assert counts_of("") == {}
    table = pd.concat(
        [rows(value=[1.0]), rows(value=[2.0], layer="k"), rows(value=[3.0], data="c")]
    )
    assert rows_at(table, Setting("m", "k", "d"))["value"].tolist() == [2.0]


def clustered(n, generator, spread=1.0):
    """Return rows of n images, one to four per image. The rows of an image share a random part."""
    counts = generator.integers(1, 5, n)
    image = np.repeat(np.arange(n), counts)
    values = spread * generator.normal(size=n)[image] + generator.normal(size=len(image))
    return rows(value=values, image_id=[str(i) for i in image], target_class=np.arange(len(image)))


def error_by_loop(table):
    """Return the linearised standard error of the ratio sum T_i / sum n_i, image by image."""
    mean = sum(table["value"]) / len(table)
    count = len(table)
    images = [group["value"].tolist() for _, group in table.groupby("image_id")]
    squares = sum((sum(values) - mean * len(values)) ** 2 for values in images)
    return math.sqrt(len(images) / (len(images) - 1) * squares) / count


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_by_image(seed):
    table = clustered(23, np.random.default_rng(seed))
    summary = summarise(table).iloc[0]
    assert summary["images"] == 23
    assert summary["n"] == len(table) > 23
    assert summary["mean"] == pytest.approx(table["value"].mean(), rel=1e-14)  # over rows
    assert summary["standard_error"] == pytest.approx(error_by_loop(table), rel=1e-12)


def test_the_error_of_a_value_of_the_whole_set_is_the_deviation_of_its_replicates():
    assert bootstrap_error([0.4, 0.6, NAN]) == pytest.approx(np.std([0.4, 0.6], ddof=1))
    for replicates in (None, [], [0.5], [NAN, 0.5]):
        assert math.isnan(bootstrap_error(replicates))


def test_groups_add_up_to_the_last_bit_sorted_or_not():
    values = np.random.default_rng(0).lognormal(0, 3, 124)
    groups = np.zeros(len(values), dtype=np.int64)
    one_group = aggregated(values, groups, total="sum", mean="mean")
    alternating = np.tile([0, 1], len(values))
    two_groups = aggregated(np.repeat(values, 2), alternating, total="sum", mean="mean")
    assert one_group["total"][0] == math.fsum(values)
    assert two_groups["total"][0] == math.fsum(values)
    assert two_groups["total"][1] == math.fsum(values)
    assert one_group["mean"][0] == two_groups["mean"][0]
