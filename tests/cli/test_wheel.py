"""What an installed wheel holds: everything that a user without the checkout runs, found in new folders by itself."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built by the project's own build backend, with nothing fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    return ZipFile(build("wheel", ROOT, folder))


def build(target: str, source: Path, folder: Path) -> Path:
    """The wheel or sdist of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    built = subprocess.run(command, cwd=source, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(path for path in folder.iterdir() if path.name.startswith("axiom_bench-"))


INSIDE = {"bench": "", "methods": "methods/", "metrics": "metrics/", "conf": "conf/", "results/baselines": "baselines/"}


@pytest.mark.parametrize("folder", INSIDE)
def test_every_file_of_a_folder(wheel: ZipFile, folder: str):
    """Modules, their data, the configuration, the baselines: where `axiom_bench` looks for them."""
    here = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {f"axiom_bench/{INSIDE[folder]}{path.relative_to(ROOT / folder).as_posix()}" for path in here}
    assert here
    assert expected <= set(wheel.namelist())


def test_nothing_else_is_installed(wheel: ZipFile):
    """One import name: neither `bench` nor `methods` nor `metrics` can collide with a user's own."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"axiom_bench"}


def test_the_command(wheel: ZipFile):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "axiom-bench = axiom_bench.cli.main:main" in wheel.read(entry).decode()


def test_the_sdist_builds_the_same_wheel(wheel: ZipFile, tmp_path: Path):
    """Also beside the links of an editable install, which hatch follows."""
    subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, check=True)
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = ZipFile(build("wheel", source, tmp_path / "wheel"))
    assert set(again.namelist()) == set(wheel.namelist())


def test_the_project_s_links(wheel: ZipFile):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    assert "Project-URL: Issues, https://github.com/axiom-bench/axiom-bench/issues" in wheel.read(metadata).decode()
