"""Tests of several runs combined into one.

The result has the rows of one run of all, each equal value once. Runs that contradict each other
are refused.
"""

import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import combining, files, reading, record_files, store
from axiom_bench.records.artefacts import merge_facts
from axiom_bench.records.entries import (
    CombinedRun,
    ConfigEntry,
    DataEntry,
    Facts,
    JobEntry,
    Manifest,
)
from axiom_bench.records.store import CURVES
from tests.made_runs import write_entries

SHARD = "0123456789abcdef" * 2
METRICS = {"error": {"better": "lower"}, "drop": {"better": "higher"}, "zeta": {"of": "layer"}}
JOB = ("jobs", 0, "config")


def make(
    folder,
    methods=("a",),
    metrics=("error",),
    model="net",
    value=0.0,
    images=("x", "y"),
    shard=SHARD,
    **changes,
):
    """Write a run of one job, with a curve for each row of the metric "drop"."""
    values = {}
    for method in methods:
        values[method] = {metric: f"{shard[:4]} {method} {metric}" for metric in metrics}
    rows = []
    for method, metric, image in itertools.product(methods, metrics, images):
        own_value = value + "xyz".index(image) + 10 * list(METRICS).index(metric)
        rows.append({"image_id": image, "method": method, "metric": metric, "value": own_value})
    table = pd.DataFrame(rows).assign(
        experiment="test",
        model=model,
        layer="last",
        data="scenes",
        status="ok",
        target_class=1,
        predicted_class=1,
    )
    drops = table[table["metric"] == "drop"]
    curves = drops.assign(curve="drop_curve", points=[[1.0]] * len(drops))
    notes = {"names": {metric: [metric] for metric in metrics}, "axes": {}}
    notes["curves"] = {"drop": ["drop_curve"]} if "drop" in metrics else {}
    file = record_files.write(folder, shard, values, table, curves[CURVES.names], notes)
    config = {"target": "label", "normalise": "maximum"}
    of_job = {"model": {"name": model}, "data": {"name": "scenes"}}
    of_job["metric"] = {
        metric: {"_target_": f"module.{metric}", "params": {}} for metric in metrics
    }
    job = {
        "job": f"{model} at last on scenes",
        "records": [file.name],
        "values": values,
        "config": config | of_job,
    }
    manifest = {
        "experiment": "test",
        "run": folder.name,
        "created": "2026-01-02",
        "overrides": [f"run={folder.name}"],
        "methods": {
            name: {"target": f"module.{name}", "params": {}, "title": name.upper()}
            for name in methods
        },
        "metrics": {metric: {"metric": metric, **METRICS[metric]} for metric in metrics},
        "models": {
            model: {
                "layer": "last",
                "weights_sha256": "ab",
                "output": "logits",
                "depths": {"last": 3},
            }
        },
        "data": {"scenes": {"ids": list(images), "fingerprint": "cd"}},
        "device": "cpu",
        "precision": {"trunk": "fp32"},
        "versions": {"torch": "2.0", "numpy": folder.name},
        "records": [file.name],
        "curves": [file.curve_file] if file.curve_file else [],
        "failures": [],
        "config": config,
        "jobs": [job],
    }
    write_entries(folder, manifest | changes)
    return folder


def combined(folder, *runs):
    return reading.read_records(folder, combining.combine(runs, folder))


def test_networks_and_methods_side_by_side(tmp_path):
    runs = [
        make(tmp_path / "one"),
        make(tmp_path / "two", methods=("b",), value=9),
        make(tmp_path / "three", model="other", metrics=("error", "drop"), shard="e" * 32),
    ]
    table = combined(tmp_path / "all", *runs)
    single = [reading.read_records(run, reading.read_manifest(run)) for run in runs]
    assert len(table) == sum(map(len, single))
    assert table["value"].tolist() == [value for part in single for value in part["value"]]
    manifest = reading.read_manifest(tmp_path / "all")
    assert list(manifest.methods) == ["a", "b"]
    assert list(manifest.models) == ["net", "other"]
    assert manifest.run == "test/one, test/two, test/three"
    assert [part.folder for part in manifest.runs] == ["../one", "../two", "../three"]
    assert manifest.versions == {"torch": "2.0"}  # shared by all runs; each run keeps its own too
    assert [part.versions["numpy"] for part in manifest.runs] == ["one", "two", "three"]
    curves = list(reading.read_curves(tmp_path / "all", manifest))
    assert [(part.model, len(part.table)) for part in curves] == [("other", 2)]


def test_a_combination_says_of_its_runs_what_they_share_and_keeps_apart_what_they_took(tmp_path):
    one = make(
        tmp_path / "one",
        git_commit="a",
        seconds={"net": {"load": 1.0}},
        work={"net": {"images": 2}},
    )
    two = make(tmp_path / "two", model="other", git_commit="a", seconds={"other": {"load": 2.0}})
    three = make(tmp_path / "three", model="third", git_commit="b")
    manifest = combining.combine([one, two], tmp_path / "all")
    assert manifest.config == reading.read_manifest(one).config != ConfigEntry()
    assert manifest.git_commit == "a"
    assert manifest.seconds == {"net (test/one)": {"load": 1.0}, "other (test/two)": {"load": 2.0}}
    assert manifest.work == {"net (test/one)": {"images": 2}}
    assert combining.combine([one, two, three], tmp_path / "more").git_commit is None


def test_pictures_of_one_network_are_those_of_the_first_run(tmp_path):
    runs = []
    names = {}
    for name, model, shard in (
        ("one", "net", "a" * 32),
        ("two", "net", "a" * 32),
        ("three", "other", "b" * 32),
    ):
        names[name] = f"../{name}/gallery/{model}.parquet"
        runs.append(
            make(tmp_path / name, model=model, shard=shard, gallery=[f"gallery/{model}.parquet"])
        )
        entry = {"model": model, "layer": "last", "data": "scenes"}
        rows = pa.Table.from_pylist([entry, entry], store.GALLERY)
        store.write(runs[-1] / "gallery" / f"{model}.parquet", rows, store.GALLERY)
    assert combining.combine(runs, tmp_path / "all").gallery == [names["one"], names["three"]]


def test_values_of_whole_sets_count_once_and_none_is_there_twice(tmp_path):
    row = {
        "model": "net",
        "layer": "last",
        "data": "scenes",
        "method": "a",
        "metric": "auc",
        "value": 0.5,
    }
    row |= {"status": "ok", "images": 2, "rows": 2, "common_images": 2, "common_rows": 2}
    other = {**row, "method": "b", "replicates": [0.4, 0.6]}
    for name, rows in (("one", [row]), ("two", [row, other]), ("twice", [row, row])):
        store.write(tmp_path / name, pa.Table.from_pylist(rows, store.WHOLE_SET), store.WHOLE_SET)
    jobs = [JobEntry(job="net", values={"a": {}, "b": {}})]
    table = reading.read_whole_set(
        tmp_path, Manifest(jobs=jobs, whole_set=["one", "two"], runs=[CombinedRun()])
    )
    assert table["method"].tolist() == ["a", "b"]
    assert table["replicates"][1].tolist() == [0.4, 0.6]
    both = Manifest(jobs=jobs, whole_set=["one", "two"])
    assert len(reading.read_whole_set(tmp_path, both)) == 3
    of_b = both.model_copy(update={"jobs": [JobEntry(job="net", values={"b": {}})]})
    assert reading.read_whole_set(tmp_path, of_b)["method"].tolist() == ["b"]
    assert tuple(reading.read_whole_set(tmp_path, Manifest())) == reading.WHOLE_SET_COLUMNS
    with pytest.raises(BenchError, match="twice holds a value twice"):
        reading.read_whole_set(tmp_path, Manifest.model_validate({"whole_set": ["twice"]}))


def test_a_folder_named_records_is_no_trap(tmp_path):
    run = make(tmp_path / "records" / "one", metrics=("drop",))
    combining.combine([run], tmp_path / "all")
    curves = list(reading.read_curves(tmp_path / "all", reading.read_manifest(tmp_path / "all")))
    assert [len(part.table) for part in curves] == [2]
    assert (
        record_files.curve_file("../records/one/records/a.parquet")
        == "../records/one/curves/a.parquet"
    )


@pytest.mark.parametrize("shard", [SHARD, "f" * 32])
def test_an_equal_value_counts_once(tmp_path, shard):
    """This also holds if the runs were cut into other shards, so that no key shows that the values
    are the same.
    """
    one = make(tmp_path / "one", metrics=("error", "drop"))
    two = make(tmp_path / "two", methods=("a", "b"), metrics=("error", "drop"), shard=shard)
    table = combined(tmp_path / "all", one, two)
    keys = table[["image_id", "method", "metric"]].astype(str)
    assert len(table) == len(keys.drop_duplicates()) == 8
    (first, second) = reading.read_curves(tmp_path / "all", reading.read_manifest(tmp_path / "all"))
    assert (len(first.table), len(second.table)) == (2, 2)


def test_the_rounding_of_another_machine_is_no_conflict(tmp_path):
    one = make(tmp_path / "one", value=100.0)
    two = make(tmp_path / "two", value=100.0 + 1e-4, shard="f" * 32)
    assert combined(tmp_path / "all", one, two)["value"].tolist() == [100.0, 101.0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"value": 0.5},
            "image x, class 1: 0 (ok) in {one} and 0.5 (ok) in {two}, and 1 more differ; leave "
            "one of the",
        ),
        ({"images": ("x",)}, "image y, class 1: 1 (ok) in {one} and no value in {two}"),
    ],
)
def test_two_values_of_one_measurement_are_named(tmp_path, changes, expected):
    one = make(tmp_path / "one")
    two = make(tmp_path / "two", shard="f" * 32, **changes)
    expected = (
        f"Two values of error of a, net at last on scenes, {expected.format(one=one, two=two)}"
    )
    with pytest.raises(BenchError, match=f"^{re.escape(expected)}"):
        combining.combine([one, two], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    of_first = reading.read_records(
        tmp_path / "all", combining.combine([one, two], tmp_path / "all", compared=False)
    )
    assert of_first["value"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("models", "net", "weights_sha256"), "ef", "The model net has another weights_sha256 in"),
        (
            ("data", "scenes", "fingerprint"),
            "ef",
            r"The data set scenes has another fingerprint in .*two \(ef\)",
        ),
        (("methods", "a", "params"), {"n": 2}, "The method a has another params in"),
        ((*JOB, "target"), "predicted", "The data set scenes has another target"),
        ((*JOB, "normalise"), "minmax", "The data set scenes has another normalise"),
        (
            (*JOB, "model", "architecture"),
            "folder/other.py:build",
            "The model net has another architecture",
        ),
        ((*JOB, "model", "resize"), 300, "The model net has another resize"),
        ((*JOB, "metric", "error", "params"), {"n": 9}, "The metric error has another params"),
    ],
)
def test_one_name_with_two_meanings_is_refused(tmp_path, path, value, sentence):
    one = make(tmp_path / "one")
    two = make(tmp_path / "two", methods=("a", "b"))
    part = manifest = files.read_json(two / "manifest.json")
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    write_entries(two, manifest)
    with pytest.raises(BenchError, match=sentence):
        combining.combine([one, two], tmp_path / "all")


def test_a_combination_may_be_made_again_and_is_no_run_of_another(tmp_path):
    one = make(tmp_path / "one")
    two = make(tmp_path / "two", model="other")
    combining.combine([one, two], tmp_path / "all")
    combining.combine([two], tmp_path / "all")  # a combination may be written again
    with pytest.raises(BenchError, match="is itself a combination"):
        combining.combine([tmp_path / "all", one], tmp_path / "more")


def test_a_run_that_goes_on_and_one_with_a_failed_job(tmp_path):
    for changes, sentence in (
        ({"state": "running"}, "one is still being computed; wait until"),
        ({"jobs": [{"job": "net", "config": {}}]}, "lacks the records of a job"),
    ):
        with pytest.raises(BenchError, match=sentence):
            combining.combine([make(tmp_path / "one", **changes)], tmp_path / "all")


def test_a_run_that_is_named_twice_is_one(tmp_path):
    one = make(tmp_path / "one")
    assert len(combined(tmp_path / "all", one, tmp_path / "one" / ".." / "one")) == 2


def test_the_tree_may_be_moved(tmp_path):
    runs = [
        make(tmp_path / "results" / name, model=name, shard=digit * 32)
        for name, digit in (("one", "a"), ("two", "b"))
    ]
    folder = combining.default_folder(runs)
    assert folder == (tmp_path / "results" / "combined").resolve()
    combining.combine(runs, folder)
    shutil.move(tmp_path / "results", tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "combined"
    assert np.isfinite(reading.read_records(folder, reading.read_manifest(folder))["value"]).all()


def test_networks_that_find_other_objects_in_the_same_images_have_one_fingerprint():
    first = Facts(data={"a": DataEntry(ids=["1//0"], fingerprint="same", notes=["1 of 2"])})
    second = Facts(
        data={"a": DataEntry(ids=["1//0", "1//1"], fingerprint="same", notes=["2 of 2"])}
    )
    merged = merge_facts([first, second]).data["a"]
    assert merged == DataEntry(ids=["1//0", "1//1"], fingerprint="same", notes=["1 of 2", "2 of 2"])
    other = Facts(data={"a": second.data["a"].model_copy(update={"fingerprint": "other"})})
    assert merge_facts([first, other]).data["a"].fingerprint not in ("same", "other")
