"""Tests of published values: a smaller copy of a run folder with equal values to 4e-6 of each."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import axiom_bench as ab
from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.records import combining, reading, record_files, store
from axiom_bench.records.entries import AddedEntry
from axiom_bench.records.publishing import add, commits_text, publish
from axiom_bench.report import leaderboard
from axiom_bench.report.leaderboard.making import made_part, part_tasks
from axiom_bench.report.options import options_of
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import entries_of, write_entries

KEY = ["model", "image_id", "method", "metric"]


def rows(folder):
    frame = reading.read_records(folder, reading.read_manifest(folder))
    return (
        frame.astype(dict.fromkeys([*KEY, "status"], str)).sort_values(KEY).reset_index(drop=True)
    )


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_values_are_the_same_to_17_bits_and_statuses_too(usual_run, tmp_path):
    names = {about.metric for about in reading.read_manifest(usual_run).metrics.values()}
    publish(usual_run, tmp_path, names)
    before = rows(usual_run)
    after = rows(tmp_path)
    assert (before[[*KEY, "status"]] == after[[*KEY, "status"]]).all(axis=None)
    np.testing.assert_allclose(after["value"], before["value"], rtol=2**-17, atol=0)
    ok = before["status"] == OK
    assert (before["value"][ok] != after["value"][ok]).any()
    assert sum(map(len, files(tmp_path).values())) < 0.5 * sum(
        map(len, files(usual_run / "records").values())
    )


def test_a_second_time_writes_the_same_bytes_and_other_metrics_replace_the_files(
    usual_run, tmp_path
):
    publish(usual_run, tmp_path, {"box_iou", "conservation_error"})
    first = files(tmp_path)
    assert (tmp_path / "manifest.json").read_text().count("\n") == 1  # the shortest JSON
    publish(usual_run, tmp_path, {"box_iou", "conservation_error"})
    assert files(tmp_path) == first
    publish(usual_run, tmp_path, {"box_iou"})
    assert {*rows(tmp_path)["metric"]} == {*reading.read_manifest(tmp_path).metrics} == {"box_iou"}
    assert len(files(tmp_path)) == len(first)
    published = record_files.counted_files(tmp_path, reading.read_manifest(tmp_path))
    assert [file.names for file, *_ in published] == [{"box_iou": ["box_iou"]}] * 2


PUBLISHED = {  # in format 4: the rows, their greatest value, and their median
    "photographs-2/outside": (3080, 21.532958984375, 0.3911781311035156),
    "scenes-costly-1/scenes": (48880, 21.31103515625, 0.3407554626464844),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_values_of_format_4_are_read_whatever_the_format_is_now(name):
    """The report's settings are read too, although a later version may have others."""
    folder = Path(__file__).parents[2] / "results/reference" / name
    values = ab.read_run(folder)
    absolute = values.loc[values["status"] == OK, "value"].abs()
    assert (len(values), absolute.max(), absolute.median()) == PUBLISHED[name]
    assert set(options_of(RunFolder.read(folder)).headline) <= {*values["metric"]}


def test_no_path_of_the_machine_is_published_and_a_file_elsewhere_is_the_same(usual_run, tmp_path):
    manifest = entries_of(usual_run)
    mine = shutil.copytree(usual_run, tmp_path / "mine")
    model = {"name": "net", "architecture": "/home/me/net.py:build", "weights": "/home/me/net.pth"}
    local = {"model": model, "data": {"name": "scenes", "root": "/home/me/images"}}
    manifest["config"] |= local
    for job in manifest["jobs"]:
        job["config"] = local
    write_entries(mine, manifest)
    publish(mine, tmp_path / "published", {"box_iou"})
    assert "/home" not in (tmp_path / "published/manifest.json").read_text()
    assert '"net.py:build"' in (tmp_path / "published/manifest.json").read_text()
    combining.combine([mine, tmp_path / "published"], tmp_path / "both")


@pytest.mark.slow
def test_what_is_said_of_the_images_stands_under_every_table(usual_run, tmp_path):
    publish(
        usual_run,
        tmp_path / "published",
        {"box_iou", "confidence_drop"},
        "Altered subset of 24 photographs",
    )
    (task,) = part_tasks({"suite": {"part": tmp_path / "published"}})
    leaderboard.write([made_part(task)], tmp_path / "site")
    page = (tmp_path / "site/suite-part.html").read_text()
    assert page.count("Images: Altered subset of 24 photographs.") == 2
    assert "Altered subset of 24 photographs" in (tmp_path / "site/index.html").read_text()


@pytest.mark.slow
def test_a_method_is_added_as_if_it_had_been_published_with_the_others(usual_run, tmp_path):
    """Publish without XGrad-CAM, then with it, from a run of another commit. The files are those of
    both at once.
    """
    manifest = entries_of(usual_run)
    names = {about["metric"] for about in manifest["metrics"].values()}
    less = shutil.copytree(usual_run, tmp_path / "less")
    jobs = [
        {**job, "values": {name: of for name, of in job["values"].items() if name != "xgrad_cam"}}
        for job in manifest["jobs"]
    ]
    known = {name: about for name, about in manifest["methods"].items() if name != "xgrad_cam"}
    write_entries(less, {**manifest, "jobs": jobs, "methods": known, "git_commit": "earlier01234"})
    publish(less, tmp_path / "published", names)
    add(usual_run, tmp_path / "published", "xgrad_cam")
    publish(usual_run, tmp_path / "at_once", names)
    assert files(tmp_path / "published/records") == files(tmp_path / "at_once/records")
    later = reading.read_manifest(tmp_path / "published")
    assert (
        commits_text(later)
        == f"commit earlier0, of xgrad_cam {manifest['git_commit'][:8]} (2026-01-02)"
    )
    combining.combine([usual_run, tmp_path / "published"], tmp_path / "both")
    with pytest.raises(BenchError, match="has values of xgrad_cam already"):
        add(usual_run, tmp_path / "published", "xgrad_cam")


def test_methods_that_were_added_together_share_their_commit(usual_run):
    manifest = reading.read_manifest(usual_run)
    together = AddedEntry(created="2026-01-02T03:04:05", git_commit="12345678")
    later = AddedEntry(created="2026-01-03T03:04:05", git_commit="87654321")
    names = ["a", "b", "c", "d"]
    added = {**dict.fromkeys(names, together), "e": later}
    text = commits_text(manifest.model_copy(update={"added": added}))
    assert text.endswith(
        ", of a, b, c and 1 more 12345678 (2026-01-02), of e 87654321 (2026-01-03)"
    )


def test_a_file_that_is_not_the_run_s_own_is_not_published(usual_run, tmp_path):
    mine = shutil.copytree(usual_run, tmp_path / "mine")
    path = mine / reading.read_manifest(mine).records[0]
    table = store.read_table(path)
    store.write(path, table.slice(1), schema=None, metadata=store.metadata_of(path.read_bytes()))
    with pytest.raises(BenchError, match="its checksum doesn't match"):
        publish(mine, tmp_path / "published", {"box_iou"})
