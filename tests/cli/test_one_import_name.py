"""An installed wheel, used in a folder with `metrics.py`, `methods/` and `bench.py` of the user's own.

The wheel is installed without its dependencies, which come from this environment; the checkout can't be imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ["model=scenes_vgg", "data.size=4", "data.batch_size=4", "data.workers=2", "runtime.repeats=0", "device=cpu"]
METRICS_AND_METHODS = ["metric=[confidence_drop,zeta]", "method=[grad_cam,guided_xgrad_cam]", "pictures.rows=0"]
METRICS_AND_METHODS += ["pictures.gallery=0", "report.figures.formats=[png]"]
SITE = """\
import os, sys
# A folder is on the path through a .pth file where axiom-bench is installed for editing: take the checkout out of it.
sys.path[:] = [folder for folder in sys.path if not folder.startswith(os.environ["CHECKOUT"] + "/build")]
"""
OWN = {
    "metrics.py": "OWNER = 'user'\n",
    "methods/__init__.py": "OWNER = 'user'\n",
    "bench.py": "OWNER = 'user'\n",
    "my_module.py": "import bench, methods, metrics\n"
    "assert {bench.OWNER, methods.OWNER, metrics.OWNER} == {'user'}\n\n\n"
    "def my_cam(trace):\n    return trace.gradients.relu()\n",
}
CHECK = """
import sys
own = {name: sys.modules.get(name) for name in ("bench", "methods", "metrics")}
assert all(module is None or module.OWNER == "user" for module in own.values()), own
"""
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs its wheel."""
    folder = tmp_path_factory.mktemp("installed")
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    _done(subprocess.run([sys.executable, *build], cwd=ROOT, text=True, capture_output=True, check=False))
    (wheel,) = (folder / "dist").glob("*.whl")
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)]
    _done(subprocess.run([sys.executable, *install], text=True, capture_output=True, check=False))
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    return folder / "site"


@pytest.fixture
def python(installed: Path, tmp_path: Path) -> Python:
    """Runs Python in the user's folder, as a script of the user's would: that folder first on the path."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(installed), "CHECKOUT": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        process = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
        return _done(process)

    return run


def _done(process: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert process.returncode == 0, process.stderr + process.stdout
    return process


@pytest.mark.slow
def test_the_command_runs(python: Python, tmp_path: Path):
    """As the console script does: the default experiment, small, with processes that load the data."""
    script = "import sys\nfrom axiom_bench.cli.main import main\ncode = main(sys.argv[1:])\n" + CHECK + "sys.exit(code)"
    (tmp_path / "command.py").write_text(script)
    out = python("command.py", *TINY, *METRICS_AND_METHODS).stdout
    assert "report: results/quick/default/report.html" in out


@pytest.mark.slow
def test_an_own_method_that_imports_the_folder_s_modules(python: Python, tmp_path: Path):
    """A console script lacks the current folder on sys.path; -P takes it out here."""
    script = "import sys; from axiom_bench.cli.main import main; sys.exit(main(sys.argv[1:]))"
    own = "+method.mine._target_=my_module.my_cam"
    out = python("-P", "-c", script, *TINY, *METRICS_AND_METHODS, own).stdout
    assert "report: " in out
    assert any("mine" in path.read_text() for path in (tmp_path / "results/quick/default/tables").glob("*.csv"))


def test_own_configuration_files(python: Python, tmp_path: Path):
    (tmp_path / "conf/experiment").mkdir(parents=True)
    mine = "# @package _global_\n# My study.\ndefaults:\n  - override /method: [uniform]\nexperiment: mine\n"
    (tmp_path / "conf/experiment/mine.yaml").write_text(mine)
    script = """
import sys
from axiom_bench.cli.main import main
for folder in (["--config-dir", "conf"], [f"hydra.searchpath=['file://{sys.argv[1]}/conf']"]):
    assert main([*folder, "experiment=mine", "--cfg", "job"]) == 0
assert main(["list", "experiments", "--config-dir", "conf"]) == 0
"""
    out = python("-c", script, str(tmp_path)).stdout
    assert out.count("experiment: mine\n") == 2
    assert out.count("  uniform:\n") == 2
    assert re.search(r"^  mine +My study\.$", out, re.MULTILINE)


def test_a_notebook_s_calls(python: Python, installed: Path):
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
    assert python("-c", code + CHECK).stdout.strip() == str(installed / "axiom_bench" / "__init__.py")


@pytest.mark.slow
def test_worker_processes(python: Python, tmp_path: Path):
    """Spawned, so that each imports everything again by name."""
    (tmp_path / "spawn.py").write_text(
        "import multiprocessing\n"
        "import torch\n"
        "import axiom_bench as ab\n"
        "from my_module import my_cam\n\n\n"
        "def shape(name):\n"
        "    from axiom_bench.embedded.networks import scenes_vgg\n"
        "    trace = ab.trace(scenes_vgg().eval(), 'features.13', torch.rand(1, 3, 96, 96))\n"
        "    return tuple((ab.methods.get(name) if isinstance(name, str) else name)(trace).shape)[:1]\n\n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        assert pool.map(shape, ['grad_cam', ab.methods.get('xgrad_cam'), my_cam]) == [(1,)] * 3\n"
        "    from joblib import Parallel, delayed\n"
        "    assert Parallel(n_jobs=2)(delayed(shape)(name) for name in ['grad_cam', 'hires_cam']) == [(1,)] * 2\n"
        + CHECK
    )
    python("spawn.py")


def test_baselines_and_types_are_installed(installed: Path):
    assert (installed / "axiom_bench" / "baselines" / "quick.csv").is_file()
    assert (installed / "axiom_bench" / "py.typed").is_file()
    assert Path(sysconfig.get_paths()["purelib"]) not in installed.parents
