"""The source code that decides a value, and the code that doesn't."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from axiom_bench.records import sources


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module that imports a helper beside it."""
    (tmp_path / "users_cam.py").write_text("import users_helper\nimport json\n\ndef cam(trace): ...\n")
    (tmp_path / "users_helper.py").write_text("FACTOR = 1\n")
    (tmp_path / "users_other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def digest(name: str) -> str:
    for module in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[module]
    sources.module.cache_clear()
    return sources.module(name)


def test_a_helper_is_part_of_a_plugin(package: Path):
    before = digest("users_cam")
    (package / "users_helper.py").write_text("FACTOR = 2\n")
    assert digest("users_cam") != before


def test_an_unrelated_module_is_not(package: Path):
    before = digest("users_cam")
    (package / "users_other.py").write_text("FACTOR = 2\n")
    assert digest("users_cam") == before


def test_installed_libraries_count_by_version_not_by_source():
    assert sources.module("torch.nn.modules.conv") == sources.module("json")


def test_what_a_metric_imports_from_its_neighbours_counts():
    found: dict[str, Path] = {}
    sources._collect("axiom_bench.metrics.confidence_drop", found)
    assert {
        "axiom_bench.metrics.confidence_drop",
        "axiom_bench.metrics.shared.perturbation",
        "axiom_bench.metrics.shared.rounding",
    } <= set(found)
    assert not any(name.startswith(("bench", "torch")) for name in found)


def test_the_engine_is_what_computes():
    computes = ["trace.py", "run/compute.py", "run/records.py", "data/loading.py", "models/weights.py"]
    shows = ["cli.py", "gate.py", "runtime.py", "report/table.py", "run/progress.py", "run/finish.py", "run/explain.py"]
    assert all(sources._computes(Path(path)) for path in computes)
    assert not any(sources._computes(Path(path)) for path in shows)
    package = Path(sources.__file__).parents[1]
    assert all((package / path).exists() for path in [*computes, *sources.SHOWS - {"conf"}])
    assert all((package / "run" / f"{name}.py").exists() for name in sources.SHOWS_IN_RUN)
