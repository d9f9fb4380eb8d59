"""The wheel: what it holds, and its use in a folder with `metrics.py`, `methods/` and `bench.py` of
the user's own.

It is installed without its dependencies, which come from this environment; the checkout can't be
imported.
"""

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = {
    "bench": "",
    "methods": "methods/",
    "metrics": "metrics/",
    "conf": "conf/",
    "results/baselines": "baselines/",
}
TINY = [
    *(
        "run=default",
        "model=scenes_vgg",
        "data.size=4",
        "data.batch_size=4",
        "data.workers=2",
        "runtime.repeats=0",
    ),
    *(
        "metric=[confidence_drop,zeta]",
        "method=[grad_cam,guided_xgrad_cam]",
        "pictures.rows=0",
        "pictures.gallery=0",
    ),
    *("report.figures.formats=[png]", "device=cpu"),
]
SITE = """\
import os, sys
# A folder is on the path through a .pth file where axiom-bench is installed for editing: take the checkout out of it.
sys.path[:] = [folder for folder in sys.path if not folder.startswith(os.environ["CHECKOUT"] + "/build")]
"""
USERS = {
    **dict.fromkeys(("metrics.py", "methods/__init__.py", "bench.py"), "OWNER = 'user'\n"),
    "my_module.py": "import bench, methods, metrics\n"
    "assert {bench.OWNER, methods.OWNER, metrics.OWNER} == {'user'}\n\n\n"
    "def my_cam(trace):\n    return trace.gradients.relu()\n",
}
CHECK = """
import sys
modules = {name: sys.modules.get(name) for name in ("bench", "methods", "metrics")}
assert all(module is None or module.OWNER == "user" for module in modules.values()), modules
"""
PROGRESS = re.compile(r".+: (.+, )?[0-9.]+ (s|s/image|images/s)")
Python = Callable[..., str]


def done(*command: str, **options: object) -> str:
    """The output of a Python command that ends well, and whose stderr holds nothing but
    progress.
    """
    process = subprocess.run(
        [sys.executable, *command], text=True, capture_output=True, check=False, **options
    )
    assert process.returncode == 0, process.stderr + process.stdout
    assert not [line for line in process.stderr.splitlines() if not PROGRESS.fullmatch(line)], (
        process.stderr
    )
    return process.stdout


def build(target: str, source: Path, folder: Path) -> Path:
    """The wheel or sdist of a source tree, by the project's own build backend, with nothing
    fetched.
    """
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        target,
        "--directory",
        str(folder),
    ]
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
    """A folder with the package, as an installer unpacks its wheel."""
    site = tmp_path_factory.mktemp("installed") / "site"
    wheel.extractall(site)
    (site / "sitecustomize.py").write_text(SITE)
    return site


@pytest.fixture
def python(installed, tmp_path) -> Python:
    """Runs Python in the user's folder, as a script of the user's would: that folder first on the
    path.
    """
    for name, text in USERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "CHECKOUT": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    return lambda *arguments: done(*arguments, cwd=tmp_path, env=environment)


@pytest.mark.parametrize("folder", INSIDE)
def test_every_file_of_a_folder(wheel, folder):
    """Modules, their data, the configuration, the baselines: where `axiom_bench` looks for them."""
    here = [
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    expected = {
        f"axiom_bench/{INSIDE[folder]}{path.relative_to(ROOT / folder).as_posix()}" for path in here
    }
    assert here
    assert expected <= set(wheel.namelist())


def test_one_import_name_the_command_and_the_links(wheel):
    """Neither `bench` nor `methods` nor `metrics` can collide with a user's own."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"axiom_bench"}
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "axiom-bench = axiom_bench.cli.main:main" in wheel.read(entry_points).decode()


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    """Also beside the links of an editable install, which hatch follows."""
    subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, check=True)
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert set(ZipFile(build("wheel", source, tmp_path / "wheel")).namelist()) == set(
        wheel.namelist()
    )


@pytest.mark.slow
def test_the_command_runs_a_user_s_method_that_imports_the_folder_s_modules(python, tmp_path):
    """The default experiment, small, with processes that load the data, as a script and as the
    console script does, which lacks the current folder on sys.path; -P takes it out here.
    """
    script = "import sys\nfrom axiom_bench.cli.main import main\ncode = main(sys.argv[1:])\n"
    (tmp_path / "command.py").write_text(f"{script}{CHECK}sys.exit(code)")
    assert "report: results/quick/default/report.html" in python("command.py", *TINY)
    console = ("-P", "-c", f"{script}sys.exit(code)")
    assert "report: " in python(*console, *TINY, "+method.mine._target_=my_module.my_cam")
    assert any(
        "mine" in path.read_text()
        for path in (tmp_path / "results/quick/default/tables").glob("*.csv")
    )


@pytest.mark.slow
def test_a_notebook_s_calls(python, installed):
    code = """
import bench, methods, metrics  # the user's own
import torch
import axiom_bench as ab
from axiom_bench.embedded.networks import scenes_resnet

model, images = scenes_resnet().eval(), torch.rand(2, 3, 96, 96)
layer = next(name for name, part in reversed(list(model.named_modules())) if isinstance(part, torch.nn.Conv2d))
maps = ab.explain(model, layer, images, methods=["grad_cam", "guided_xgrad_cam"])
assert {name: tuple(heatmap.shape) for name, heatmap in maps.items()} == dict.fromkeys(maps, (2, 96, 96))
table = ab.evaluate(model, layer, [(images, None)], methods=["grad_cam"], metrics=["conservation_error", "zeta"])
assert set(table["metric"]) == {"conservation_error", "zeta"}
assert ab.methods.get("grad_cam")(ab.trace(model, layer, images)).shape[0] == 2
print(ab.__file__)
"""
    assert python("-c", code + CHECK).strip() == str(installed / "axiom_bench" / "__init__.py")


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
    assert Parallel(n_jobs=2)(delayed(shape)(name) for name in ['grad_cam', 'hires_cam']) == [(1,)] * 2
"""


@pytest.mark.slow
def test_worker_processes(python, tmp_path):
    """Spawned, so that each imports everything again by name."""
    (tmp_path / "spawn.py").write_text(SPAWN + CHECK)
    python("spawn.py")
