"""The pytest plugin as a team uses it: their own method and metric in a folder of their own, run by
pytest.
"""

import io
import math
import re
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from importlib.metadata import entry_points
from itertools import count
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
METRICS = ["conservation_error", {"_target_": "my_pkg.my_metric", "tolerance": "mean:0.001", "better": "lower"}]
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
    """pytest's. The plugin is named where this environment was installed before it had an entry
    point.
    """
    named = (
        []
        if "axiom_bench" in {entry.name for entry in entry_points(group="pytest11")}
        else ["-p", PLUGIN]
    )
    return ["-q", *named, "-p", "no:randomly"]


def two_workers(folder: Path, *arguments: str) -> str:
    """What pytest prints in a process of its own, with two workers."""
    command = [sys.executable, "-m", "pytest", *options(), "-n", "2", *arguments]
    process = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    assert process.returncode in (0, 1), process.stdout + process.stderr
    return process.stdout


def in_this_process(folder: Path, *arguments: str) -> str:
    """What pytest prints here, where torch is imported already; the folder's modules are imported
    anew.
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


@pytest.mark.parametrize(
    "run_pytest", [in_this_process, pytest.param(two_workers, marks=pytest.mark.slow)]
)
def test_a_team_s_gate(run_pytest, tmp_path):
    """Written by --axiom-update, held, moved by a change of the method, missing, mistaken; by two
    workers at once.
    """
    (tmp_path / "my_pkg.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n")
    file = tmp_path / "test_my_cam.py"
    file.write_text(TESTS.replace("FACTOR", "1.0"))
    (tmp_path / "sub").mkdir()
    written = run_pytest(
        tmp_path, "--axiom-update", "--axiom-reason", "first", "-k", "holds or moves"
    )
    assert "2 passed" in written
    assert set(re.findall(r"baseline written: .*/(\w+\.csv)", written)) == {
        "holds.csv",
        "moves.csv",
    }
    text = (tmp_path / "baselines" / "holds.csv").read_text()
    assert re.search(r"^# history: \S+( at commit \w+)?: first$", text, re.MULTILINE)

    file.write_text(TESTS.replace("FACTOR", "1.01"))
    again = run_pytest(tmp_path)
    assert "3 failed, 1 passed" in again
    assert "scenes_vgg features.13 scenes my_cam conservation_error: median was" in again
    assert "pytest --axiom-update --axiom-reason 'why' 'test_my_cam.py::test_moves'" in again
    assert re.search(
        r"There is no baseline \S+ABSENT\.csv; write it with: pytest --axiom-update", again
    )
    assert "my_cma" in again
    assert "Traceback" not in again
    assert (tmp_path / "baselines" / "holds.csv").read_text() == text, "only --axiom-update writes"


def test_the_entry_point_of_the_project():
    """pytest finds the plugin of an installed wheel by it, nobody else needs pytest, and no pytest
    imports much.
    """
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\naxiom_bench = "{PLUGIN}"' in project
    modules = {
        path.name: path.read_text() for path in (Path(__file__).parents[2] / "bench").rglob("*.py")
    }
    importing = [
        name
        for name, text in modules.items()
        if re.search(r"^\s*(import|from) pytest\b", text, re.MULTILINE)
    ]
    assert importing == ["pytest_plugin.py"]
    code = (
        f"import sys, {PLUGIN}; print({{'torch', 'pandas', 'numpy', 'hydra'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "set()"


PLUGINS: dict[str, Any] = {
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
    config = configuration(
        overrides_of(methods, metrics=["box_iou"], model="scenes_vgg", settings=["data.size=2"])
    )
    assert set(config["method"]) == set(expected)
    assert [metric.name for metric in chosen("metric", config["metric"])] == ["box_iou"]
    assert config["data"]["size"] == 2
    for method, target in expected.items():
        assert target is None or config["method"][method]["_target_"] == target
    if name == "with quotes":
        assert config["method"]["mine"]["title"] == "it's {mine}: 'a', b"


PARAMETERS = [
    *(
        0,
        1,
        -1,
        10**20,
        0.0,
        1.0,
        -2.5,
        1e22,
        1e-7,
        math.inf,
        -math.inf,
        math.nan,
        True,
        False,
        None,
    ),
    *(
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
    ),
    *(
        "caf\u00e9",
        "null",
        "true",
        "1",
        "1.0",
        "nan",
        [],
        {},
        [1, True],
        [[0, False], None],
        {"power": 1},
    ),
    *({"on": True, "deep": {"a.b-c": [1.0, "1"]}}, {1: 0, 2.5: True, False: 0}),
]


def test_parameters_keep_their_values():
    """A `power` of 1 was `true`, since 1 == True."""
    entry = {
        "_target_": "my_pkg.my_cam",
        "params": dict(zip(map("p{}".format, count()), PARAMETERS, strict=False)),
    }
    config = configuration(overrides_of({"mine": entry}, model="scenes_vgg"))
    read = config["method"]["mine"]["params"]
    # 1, 1.0 and True are equal, and so is no NaN
    assert list(map(repr, read.values())) == list(map(repr, PARAMETERS))


WRONG = [
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
    for params in WRONG:
        with pytest.raises(BenchError, match=r"can't be given to a run"):
            overrides_of({"mine": {"_target_": "my_pkg.my_cam", "params": params}})
    for methods, sentence in (
        *(
            (lambda trace: trace, "A method is named"),
            (["a.cam", "b.cam"], "Two methods are called 'cam'"),
        ),
        *((wrong, "A method can't be ") for wrong in (5, [{"params": {}}], {"mine": None})),
    ):
        with pytest.raises(BenchError, match=sentence):
            overrides_of(methods)
