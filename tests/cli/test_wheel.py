"""What an installed wheel holds: everything that a user without the checkout runs, found in new folders by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
DATA = {".safetensors", ".json", ".j2"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built by the project's own build backend, with nothing fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return ZipFile(next(folder.glob("*.whl")))


@pytest.mark.parametrize("package", ["bench", "methods", "metrics"])
def test_every_module_and_its_data(wheel: ZipFile, package: str):
    here = [path for path in (ROOT / package).rglob("*") if path.suffix in {".py"} | DATA]
    assert {str(path.relative_to(ROOT)) for path in here} <= set(wheel.namelist())


def test_the_configuration(wheel: ZipFile):
    """Inside of bench, where plugins.conf_folder() looks first; every subfolder of it."""
    here = {f"bench/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name for name in wheel.namelist() if name.startswith("bench/conf/")} == here


def test_nothing_else_is_installed(wheel: ZipFile):
    """No tests and no results, which would be top-level packages of their own."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bench", "methods", "metrics"}


def test_the_command(wheel: ZipFile):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "axiom-bench = bench.cli:main" in wheel.read(entry).decode()
