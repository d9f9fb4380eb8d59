"""Tests of scripts/publish_suite.py, which copies unchanged parts from an older suite."""

import publish_suite
import pytest

from axiom_bench.evaluation import plugins
from axiom_bench.records import reading
from axiom_bench.run.composing.suites import Part, Suite

SIZES = {"new": 2, "same": 2, "other": 3}


@pytest.mark.parametrize(
    ("older", "part", "is_there"),
    [
        ("photographs-1", "own", True),
        ("photographs-1", "slices", False),
        ("scenes-1", "own", False),
        (None, "own", False),
    ],
)
def test_a_part_is_reused_if_the_older_suite_has_it_with_the_same_settings(older, part, is_there):
    assert publish_suite.has_part(older, "photographs-2", part) == is_there


def test_a_part_of_other_settings_is_not_reused(monkeypatch):
    suites = {
        name: Suite(name, "", {"first": Part((f"data.size={size}",), {}, "")})
        for name, size in SIZES.items()
    }
    monkeypatch.setattr(publish_suite.Suite, "of", suites.__getitem__)
    assert publish_suite.has_part("same", "new", "first")
    assert not publish_suite.has_part("other", "new", "first")


def test_a_copied_part_differs_by_its_suite_only(tmp_path, monkeypatch):
    committed = publish_suite.REFERENCE / "photographs-1" / "own"
    source = tmp_path / "photographs-1" / "own"
    publish_suite.shutil.copytree(committed, source)
    monkeypatch.setattr(publish_suite, "REFERENCE", tmp_path)
    publish_suite.copy_part("photographs-1", "photographs-2", "own")
    target = tmp_path / "photographs-2" / "own"
    before = reading.read_manifest(source).model_dump()
    after = reading.read_manifest(target).model_dump()
    suite_hash = Suite.of("photographs-2").sha256[:12]
    assert after["config"]["suite_part"] == f"photographs-2/own@{suite_hash}"
    assert after["run"] == "photographs-2-own"
    for manifest in (before, after):
        for config in (manifest["config"], *(job["config"] for job in manifest["jobs"])):
            config.pop("suite_part")
        manifest.pop("run")
        manifest.pop("axiom_bench_sha256", None)
    assert after == before
    assert reading.read_run(target).equals(reading.read_run(source))


def test_methods_that_are_left_out_or_chosen_exist():
    named = {*publish_suite.COSTLY, *publish_suite.COSTLY_IF_WIDE, *publish_suite.COSTLY_IF_LARGE}
    named |= {*publish_suite.BASELINE_METHODS, *publish_suite.WORD_METHODS}
    assert named <= {*plugins.names("method")}
    assert {*publish_suite.LARGE_PARTS} <= {*Suite.of("photographs-2").parts}
