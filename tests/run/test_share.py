"""`axiom-bench run --share`: shards beside other processes, and neither manifest nor report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.benchmark import share
from axiom_bench.records import claims
from axiom_bench.run.manifest import Outcome
from axiom_bench.run.sweep import sweep

from .conftest import rows_of, tiny

SETTINGS = tiny(("metric=[sensitivity_error]", "method=[grad_cam]"))
RECORDS = "quick/default/records"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """A run of three shards by one process, and the folder of its results."""
    results = tmp_path_factory.mktemp("alone")
    return results, sweep([*SETTINGS, f"results={results}"])[1]


@pytest.fixture
def shared(tmp_path: Path, alone: tuple[Path, list[Outcome]]) -> tuple[Path, Path]:
    """Results to which `--share` has added what it could while another process was at the second shard, and that
    shard's file of the run above."""
    others = sorted((alone[0] / RECORDS).glob("*.parquet"))[1]
    with claims.shard_lock(others.name.partition("-")[0], tmp_path / "quick/default"):
        lines = ["scenes_vgg at features.13 on scenes: computed 2 of 3 shards"]
        assert share([*SETTINGS, f"results={tmp_path}"]) == (0, lines)
    assert [path.name for path in (tmp_path / "quick/default").iterdir()] == ["records"]
    return tmp_path, others


@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_computed_or_comes_from_another_machine(
    shared: tuple[Path, Path], alone: tuple[Path, list[Outcome]], is_copied: bool
):
    """A machine without a common file system has record files of its own, which are copied into one folder."""
    results, others = shared
    if is_copied:
        shutil.copy(others, results / RECORDS)
    outcomes = sweep([*SETTINGS, f"results={results}"])[1]
    assert [outcome.computed.shards for outcome in (*alone[1], *outcomes)] == [3, 0 if is_copied else 1]
    pd.testing.assert_frame_equal(rows_of(results, outcomes), rows_of(*alone))


def test_a_failure_is_the_exit_code(tmp_path: Path):
    code, lines = share([*SETTINGS, "model.layer=nowhere", f"results={tmp_path}"])
    assert code == 2
    assert lines[0].startswith("failed: scenes_vgg: ")
