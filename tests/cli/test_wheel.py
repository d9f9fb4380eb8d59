"""Tests of the wheel: its files, and its use in a folder with modules of the same names.

The user's folder contains `metrics.py`, `methods/` and `bench.py`. The wheel is installed without
its dependencies, which come from this environment. The checkout can't be imported.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.cli.test_explain import error_lines

ROOT = Path(__file__).parents[2]
PACKAGE_FOLDERS = {  # a folder of the checkout, and its place in the package
    "bench": "",
    "methods": "methods/",
    "metrics": "metrics/",
    "conf": "conf/",
    "results/baselines": "baselines/",
}
TINY = [
    "run=default",
    "model=scenes_vgg",
    "data.size=4",
    "data.batch_size=4",
    "data.workers=2",
    "runtime.repeats=0",
    "metric=[confidence_drop,zeta]",
    "method=[grad_cam,guided_xgrad_cam]",
    "pictures.rows=0",
    "pictures.gallery=0",
    "report.figures.formats=[png]",
    "device=cpu",
]
# If axiom-bench is installed for editing, a .pth file adds the checkout to the path.
SITE_CUSTOMIZE = """\
import os, sys
checkout = os.environ["CHECKOUT"] + "/build"
sys.path[:] = [folder for folder in sys.path if not folder.startswith(checkout)]
"""
MY_MODULE = """\
import bench, methods, metrics
assert {bench.OWNER, methods.OWNER, metrics.OWNER} == {'user'}


def my_cam(trace):
    return trace.gradients.relu()
"""
USER_FILES = {
    "metrics.py": "OWNER = 'user'\n",
    "methods/__init__.py": "OWNER = 'user'\n",
    "bench.py": "OWNER = 'user'\n",
    "my_module.py": MY_MODULE,
}
# Code at the end of a user's script: the modules that it has imported are the user's.
CHECK = """
import sys
modules = {name: sys.modules.get(name) for name in ("bench", "methods", "metrics")}
assert all(module is None or module.OWNER == "user" for module in modules.values()), modules
"""
Python = Callable[..., str]


def run_python(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run Python, check that it succeeds and prints no error, and return its output."""
    process = subprocess.run(
        [sys.executable, *arguments],
        text=True,
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment,
    )
    assert process.returncode == 0, process.stderr + process.stdout
    assert not error_lines(process.stderr), process.stderr
    return process.stdout


def build(target: str, source: Path, folder: Path) -> Path:
    """Build the wheel or sdist of a source tree.

    The project's build backend runs in this environment, so that nothing is downloaded.
    """
    command = [sys.executable, "-m", "hatchling", "build"]
    command += ["--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    return next(path for path in folder.iterdir() if path.name.startswith("axiom_bench-"))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(file) -> ZipFile:
    return ZipFile(file)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the package, unpacked from the wheel as an installer does."""
    site = tmp_path_factory.mktemp("installed") / "site"
    wheel.extractall(site)
    (site / "sitecustomize.py").write_text(SITE_CUSTOMIZE)
    return site


@pytest.fixture
def python(installed, tmp_path) -> Python:
    """A function that runs Python in the user's folder, which comes first on the path."""
    for name, text in USER_FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "CHECKOUT": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    return lambda arguments: run_python(arguments, tmp_path, environment)


@pytest.mark.slow
@pytest.mark.parametrize("folder", PACKAGE_FOLDERS)
def test_every_file_of_a_folder(wheel, folder):
    """Check that each file is in the wheel, in the place where `axiom_bench` looks for it."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [path for path in paths if "__pycache__" not in path.parts]
    prefix = f"axiom_bench/{PACKAGE_FOLDERS[folder]}"
    expected = {f"{prefix}{path.relative_to(ROOT / folder).as_posix()}" for path in sources}
    assert sources
    assert expected <= set(wheel.namelist())


def test_one_import_name_the_command_and_the_links(wheel):
    """Check that `bench`, `methods` and `metrics` can't collide with a user's modules."""
    top_folders = {name.split("/")[0] for name in wheel.namelist()}
    packages = {folder for folder in top_folders if not folder.endswith(".dist-info")}
    assert packages == {"axiom_bench"}
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "axiom-bench = axiom_bench.cli.main:main" in wheel.read(entry_points).decode()


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    """Check a checkout with the links of an editable install, which hatch follows."""
    subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, check=True)
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    wheel_of_sdist = ZipFile(build("wheel", source, tmp_path / "wheel"))
    assert set(wheel_of_sdist.namelist()) == set(wheel.namelist())


@pytest.mark.slow
def test_the_command_runs_a_user_s_method_that_imports_the_folder_s_modules(python, tmp_path):
    """Check a small default experiment whose data is loaded in processes.

    It runs as a script and like the console script, which lacks the current folder on sys.path: -P
    removes it here.
    """
    script = "import sys\nfrom axiom_bench.cli.main import main\ncode = main(sys.argv[1:])\n"
    (tmp_path / "command.py").write_text(f"{script}{CHECK}sys.exit(code)")
    assert "report: results/quick/default/report.html" in python(["command.py", *TINY])

    console = ("-P", "-c", f"{script}sys.exit(code)")
    assert "report: " in python([*console, *TINY, "+method.mine._target_=my_module.my_cam"])
    tables = (tmp_path / "results/quick/default/tables").glob("*.csv")
    assert any("mine" in path.read_text() for path in tables)


@pytest.mark.slow
def test_a_notebook_s_calls(python, installed):
    code = """
import bench, methods, metrics  # the user's own
import torch
import axiom_bench as ab
from axiom_bench.embedded.networks import scenes_resnet

model = scenes_resnet().eval()
images = torch.rand(2, 3, 96, 96)
modules = model.named_modules()
*_, layer = [name for name, module in modules if isinstance(module, torch.nn.Conv2d)]
maps = ab.explain(model, layer, images, methods=["grad_cam", "guided_xgrad_cam"])
for name, heatmap in maps.items():
    assert tuple(heatmap.shape) == (2, 96, 96), name
metrics = ["conservation_error", "zeta"]
table = ab.evaluate(model, layer, [(images, None)], methods=["grad_cam"], metrics=metrics)
assert set(table["metric"]) == {"conservation_error", "zeta"}
assert ab.methods.get("grad_cam")(ab.trace(model, layer, images)).shape[0] == 2
print(ab.__file__)
"""
    assert python(["-c", code + CHECK]).strip() == str(installed / "axiom_bench" / "__init__.py")


SPAWN = """
import multiprocessing
import torch
import axiom_bench as ab
from my_module import my_cam

def shape(name):
    from axiom_bench.embedded.networks import scenes_vgg
    trace = ab.trace(scenes_vgg().eval(), 'features.13', torch.rand(1, 3, 96, 96))
    return tuple((ab.methods.get(name) if isinstance(name, str) else name)(trace).shape)[:1]

if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert pool.map(shape, ['grad_cam', ab.methods.get('xgrad_cam'), my_cam]) == [(1,)] * 3
    from joblib import Parallel, delayed
    shapes = Parallel(n_jobs=2)(delayed(shape)(name) for name in ['grad_cam', 'hires_cam'])
    assert shapes == [(1,)] * 2
"""


@pytest.mark.slow
def test_worker_processes(python, tmp_path):
    """Check spawned processes, each of which imports everything again by name."""
    (tmp_path / "spawn.py").write_text(SPAWN + CHECK)
    python(["spawn.py"])
