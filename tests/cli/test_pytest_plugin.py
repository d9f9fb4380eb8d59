"""Tests of the pytest plugin as a team uses it, with their own method and metric."""

import io
import math
import re
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.cli.pytest_plugin import overrides_of
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.run.job import chosen
from axiom_bench.run.spine import configuration

PLUGIN = "axiom_bench.cli.pytest_plugin"
MODULE = """\
def my_cam(trace, factor=1.0):
    return factor * trace.gradients.mean((2, 3), keepdim=True)


def my_metric(explanation):
    return explanation.heatmap.mean((1, 2))
"""
TESTS = """\
MY_METRIC = {"_target_": "my_pkg.my_metric", "tolerance": "mean:0.001", "better": "lower"}
METRICS = ["conservation_error", MY_METRIC]
SMALL = {"model": "scenes_vgg", "metrics": METRICS, "settings": ["data.size=2"]}


def test_holds(axiom_gate):
    result = axiom_gate("my_pkg.my_cam", baseline="baselines/holds.csv", **SMALL)
    assert len(result.rows) == 3  # and one of the network's accuracy


def test_moves(axiom_gate):
    axiom_gate({"my_cam": {"_target_": "my_pkg.my_cam", "params": {"factor": FACTOR}}},
               baseline="baselines/moves.csv", **SMALL)


def test_absent(axiom_gate):
    axiom_gate("my_pkg.my_cam", baseline="baselines/ABSENT.csv", **SMALL)


def test_mistaken(axiom_gate):
    axiom_gate("my_pkg.my_cma", baseline="baselines/holds.csv", **SMALL)
"""


def options() -> list[str]:
    """Return pytest's options.

    An environment that was installed before the plugin had an entry point needs `-p PLUGIN`.
    """
    has_entry_point = "axiom_bench" in entry_points(group="pytest11").names
    plugin = [] if has_entry_point else ["-p", PLUGIN]
    return ["-q", *plugin, "-p", "no:randomly"]


def a_worker(folder: Path, *arguments: str) -> str:
    """Run pytest in a new process with one worker, and return its output.

    The worker passes its results on to the new process. Each further worker would import torch.
    """
    command = [sys.executable, "-m", "pytest", *options(), "-n", "1", *arguments]
    process = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    assert process.returncode in (0, 1), process.stdout + process.stderr
    return process.stdout


def in_this_process(folder: Path, *arguments: str) -> str:
    """Run pytest in this process, which has already imported torch, and return its output.

    The next call imports the modules of `folder` again.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        chdir(folder),
        redirect_stdout(io.StringIO()) as printed,
    ):
        patch.setattr(sys, "path", [*sys.path])
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        code = pytest.main([*options(), "-p", "no:xdist", *arguments])
    for name in ("my_pkg", "test_my_cam"):
        sys.modules.pop(name, None)
    assert code in (0, 1), printed.getvalue()
    return printed.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "run_pytest", [in_this_process, pytest.param(a_worker, marks=pytest.mark.slow)]
)
def test_a_team_s_gate(run_pytest, tmp_path):
    """Check four gates: one that passes, one that fails, one without baseline, and a mistake.

    The method's factor changes after --axiom-update has written the baselines.
    """
    (tmp_path / "my_pkg.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n")
    file = tmp_path / "test_my_cam.py"
    file.write_text(TESTS.replace("FACTOR", "1.0"))
    (tmp_path / "sub").mkdir()

    update = ["--axiom-update", "--axiom-reason", "first", "-k", "holds or moves"]
    printed = run_pytest(tmp_path, *update)
    assert "2 passed" in printed
    baselines = set(re.findall(r"baseline written: .*/(\w+\.csv)", printed))
    assert baselines == {"holds.csv", "moves.csv"}
    text = (tmp_path / "baselines" / "holds.csv").read_text()
    assert re.search(r"^# history: \S+( at commit \w+)?: first$", text, re.MULTILINE)

    file.write_text(TESTS.replace("FACTOR", "1.01"))
    printed = run_pytest(tmp_path)
    assert "3 failed, 1 passed" in printed
    assert "scenes_vgg features.13 scenes my_cam conservation_error: median was" in printed
    assert (
        "commit, with pytest --axiom-update --axiom-reason 'why' 'test_my_cam.py::test_moves'."
        in printed
    )
    assert "--write" not in printed
    advice = r"There is no baseline \S+ABSENT\.csv; write it with: pytest --axiom-update"
    assert re.search(advice, printed)
    assert "my_cma" in printed
    assert "Traceback" not in printed
    assert (tmp_path / "baselines" / "holds.csv").read_text() == text, "only --axiom-update writes"


@pytest.mark.slow
def test_the_entry_point_of_the_project():
    """Check the entry point by which pytest finds the plugin of an installed wheel.

    No other module needs pytest, and the plugin imports no large package before a test uses it.
    """
    root = Path(__file__).parents[2]
    project = (root / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\naxiom_bench = "{PLUGIN}"' in project

    importing = []
    for path in (root / "bench").rglob("*.py"):
        if re.search(r"^\s*(import|from) pytest\b", path.read_text(), re.MULTILINE):
            importing.append(path.name)
    assert importing == ["pytest_plugin.py"]

    large_packages = "{'torch', 'pandas', 'numpy', 'hydra'}"
    code = f"import sys, {PLUGIN}; print({large_packages} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, text=True, capture_output=True, check=True)
    assert process.stdout.strip() == "set()"


PLUGINS: dict[str, Any] = {  # the argument, and the target of each method in the configuration
    "a name": ("grad_cam", {"grad_cam": plugins.load("method", "grad_cam").target}),
    "a path": ("my_pkg.my_cam", {"my_cam": "my_pkg.my_cam"}),
    "several": (["xgrad_cam", "my_pkg.my_cam"], {"xgrad_cam": None, "my_cam": "my_pkg.my_cam"}),
    "named": ({"mine": "my_pkg.my_cam"}, {"mine": "my_pkg.my_cam"}),
    "with quotes": (
        {"mine": {"_target_": "my_pkg.my_cam", "title": "it's {mine}: 'a', b"}},
        {"mine": "my_pkg.my_cam"},
    ),
}


@pytest.mark.parametrize("name", PLUGINS)
def test_the_settings_of_a_run(name, tmp_path, monkeypatch):
    (tmp_path / "my_pkg.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    methods, expected = PLUGINS[name]

    overrides = overrides_of(
        methods,
        metrics=["box_iou"],
        model="scenes_vgg",
        settings=["data.size=2"],
    )
    config = configuration(overrides)

    assert set(config["method"]) == set(expected)
    assert [metric.name for metric in chosen("metric", config["metric"])] == ["box_iou"]
    assert config["data"]["size"] == 2
    for method, target in expected.items():
        assert target is None or config["method"][method]["_target_"] == target
    if name == "with quotes":
        assert config["method"]["mine"]["title"] == "it's {mine}: 'a', b"


NUMBERS = [0, 1, -1, 10**20, 0.0, 1.0, -2.5, 1e22, 1e-7, math.inf, -math.inf, math.nan]
TEXTS_WITH_SIGNS = [
    "",
    "a'b",
    "a\\'b",
    "a\\\\'b",
    "ends in \\",
    "a\\b",
    "'",
    "two\nlines",
    " a ",
    'a"b',
    "{a: [b, 1]}",
    "$x # {y}",
    "caf\u00e9",
]
TEXTS_OF_VALUES = ["null", "true", "1", "1.0", "nan"]
NESTED = [
    [],
    {},
    [1, True],
    [[0, False], None],
    {"power": 1},
    {"on": True, "deep": {"a.b-c": [1.0, "1"]}},
    {1: 0, 2.5: True, False: 0},
]
PARAMETERS = [*NUMBERS, True, False, None, *TEXTS_WITH_SIGNS, *TEXTS_OF_VALUES, *NESTED]


def test_parameters_keep_their_values():
    """Check each parameter's type and value.

    A `power` of 1 was once read as `true`, since 1 == True.
    """
    parameters = {f"p{number}": value for number, value in enumerate(PARAMETERS)}
    entry = {"_target_": "my_pkg.my_cam", "params": parameters}

    config = configuration(overrides_of({"mine": entry}, model="scenes_vgg"))

    configured = config["method"]["mine"]["params"]
    # `repr` distinguishes 1, 1.0 and True, which are equal, and finds NaN equal to NaN.
    assert [repr(value) for value in configured.values()] == [repr(value) for value in PARAMETERS]


UNSUPPORTED_PARAMETERS = [
    {"1": 0},
    {"true": 0},
    {"\u00e9": 0},
    {"": 0},
    {"a": {"null": 1}},
    {"a:b": 0},
    {None: 0},
    {(1, 2): 3},
    {"p": {1}},
]


def test_a_parameter_that_no_setting_can_hold_and_what_names_no_method():
    for params in UNSUPPORTED_PARAMETERS:
        with pytest.raises(BenchError, match=r"can't be given to a run"):
            overrides_of({"mine": {"_target_": "my_pkg.my_cam", "params": params}})

    with pytest.raises(BenchError, match="Give a method by its path"):
        overrides_of(lambda trace: trace)
    with pytest.raises(BenchError, match="Two methods are called 'cam'"):
        overrides_of(["a.cam", "b.cam"])
    for wrong in (5, [{"params": {}}], {"mine": None}):
        with pytest.raises(BenchError, match="A method can't be "):
            overrides_of(wrong)
