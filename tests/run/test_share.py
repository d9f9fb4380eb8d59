"""`axiom-bench run --share`: shards beside other processes, and neither manifest nor report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from axiom_bench.cli.benchmark import share
from axiom_bench.records import claims
from axiom_bench.run.sweep import sweep

from .conftest import rows_of, tiny

SETTINGS = tiny(("metric=[sensitivity_error]", "method=[grad_cam]"))


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path):
    alone = sweep([*SETTINGS, f"results={tmp_path / 'alone'}"])[1]
    keys = sorted(path.name.partition("-")[0] for path in tmp_path.glob("alone/quick/default/records/*.parquet"))
    words = [*SETTINGS, f"results={tmp_path / 'shared'}"]
    folder = tmp_path / "shared/quick/default"
    with claims.shard_lock(keys[1], folder):
        assert share(words) == (0, ["scenes_vgg at features.13 on scenes: computed 2 of 3 shards"])
    assert [path.name for path in folder.iterdir()] == ["records"]
    outcomes = sweep(words)[1]
    assert [outcome.shards_computed for outcome in (*alone, *outcomes)] == [3, 1]
    pd.testing.assert_frame_equal(rows_of(tmp_path / "shared", outcomes), rows_of(tmp_path / "alone", alone))


def test_folders_of_machines_without_a_common_file_system(tmp_path: Path):
    """Of one the third shard is missing, of the other the first: the records of both in one folder are a whole run."""
    parts = [(tmp_path / name, f"results={tmp_path / name}") for name in ("first", "second")]
    whole = [sweep([*SETTINGS, word])[1] for _, word in parts]
    files = [sorted(part.glob("quick/default/records/*.parquet")) for part, _ in parts]
    files[0][2].unlink()
    for path in files[1][1:]:
        shutil.copy(path, files[0][0].parent)
    merged = sweep([*SETTINGS, parts[0][1]])[1]
    assert [outcome.shards_computed for outcome in merged] == [0]
    pd.testing.assert_frame_equal(rows_of(parts[0][0], merged), rows_of(parts[1][0], whole[1]))


def test_a_failure_is_the_exit_code(tmp_path: Path):
    code, lines = share([*SETTINGS, "model.layer=nowhere", f"results={tmp_path}"])
    assert code == 2
    assert lines[0].startswith("failed: scenes_vgg: ")
