"""The architecture of docs/architecture.md: which room may import which, and one import name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"bench": "axiom_bench", "methods": "axiom_bench.methods", "metrics": "axiom_bench.metrics"}

BOTTOM = {"errors", "columns", "configs", "cores", "kinds"}
MAY_IMPORT = {  # a room, or the one module of a room
    "errors": set(),
    "columns": set(),
    "configs": {"errors"},
    "cores": set(),
    "kinds": {"errors"},
    "cutting": BOTTOM,
    "explanation": {*BOTTOM, "cutting"},
    "embedded": BOTTOM,
    "data": {*BOTTOM, "cutting.outputs.output", "cutting.interventions", "embedded"},
    "models": {*BOTTOM, "cutting", "data", "embedded"},
    "methods": {*BOTTOM, "cutting", "explanation"},
    "metrics": {*BOTTOM, "cutting", "explanation", "evaluation.queries", "data.batch"},
    "evaluation": {*BOTTOM, "cutting", "explanation", "data.base", "data.batch"},
    "records": BOTTOM,
    "statistics": {*BOTTOM, "records"},
    "judging": {*BOTTOM, "records", "statistics"},
    "report": {*BOTTOM, "records", "statistics", "judging", "explanation.overlay"},
    "run": {*BOTTOM, "cutting", "explanation", "evaluation", "data", "models", "records"},
    "gate": {*BOTTOM, "records", "statistics", "explanation.overlay"},
}
FREE = {"cli", "testing", ""}  # above all others; "" is axiom_bench/__init__ itself
WITHOUT_TORCH = ("errors", "columns", "configs", "cores", "kinds", "records", "statistics", "judging", "report", "gate")


@cache
def sources() -> dict[str, ast.Module]:
    """{module name: its parsed source}, of everything that is installed."""
    modules = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = path.relative_to(ROOT / folder).with_suffix("").parts
            modules[".".join([package, *(name for name in names if name != "__init__")])] = ast.parse(path.read_text())
    return modules


def imports(name: str) -> Iterator[str]:
    """Modules of ours that a module imports, anywhere in it: under TYPE_CHECKING and in functions too."""
    modules = sources()
    for node in ast.walk(modules[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules or node.module in modules:
                    yield submodule if submodule in modules else str(node.module)


def room(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def forbidden_imports(room_name: str) -> dict[str, list[str]]:
    """{room that mustn't be imported: who imports what of it}."""
    forbidden: dict[str, list[str]] = {}
    for name in sources():
        if room(name) != room_name:
            continue
        if name in ("axiom_bench.methods", "axiom_bench.metrics"):  # get() and names() ask the plug-ins
            allowed = {*MAY_IMPORT[room_name], "evaluation.plugins"}
        else:
            allowed = MAY_IMPORT[room_name]
        for target in imports(name):
            local = target.removeprefix("axiom_bench").removeprefix(".")
            if room(target) != room_name and not {room(target), local} & allowed:
                forbidden.setdefault(room(target), []).append(f"{name} imports {target}")
    return forbidden


def test_all_rooms_are_listed():
    assert {room(name) for name in sources()} == {*MAY_IMPORT, *FREE}


@pytest.mark.parametrize("room_name", MAY_IMPORT)
def test_room_imports_only_allowed_rooms(room_name):
    assert not forbidden_imports(room_name)


def test_no_import_cycle():
    graph = {name: {target for target in imports(name) if target != name} for name in sources()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' <- '.join(error.args[1])}")


def test_what_counts_as_rounding_is_one_number():
    """It had six values, each called ROUNDING: a difference that one table called real was rounding in the next."""
    places = {
        f"{name}.{target.id}"
        for name, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper() and "ROUNDING" in target.id
    }
    assert places == {"axiom_bench.statistics.numbers.FLOAT32_ROUNDING"}


def test_package_docstrings_are_short():
    folders = [path for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    for path in folders:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert 1 <= len(re.findall(r"[.:!?](?=\s|$)", text)) <= 3, f"{path}: {text!r}"


def run(code: str) -> str:
    """What a fresh process prints, in the checkout's root, where `bench`, `methods` and `metrics` are importable."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORT_ALL = """
import importlib, sys
import axiom_bench
public = {name: getattr(axiom_bench, name) for name in axiom_bench.__all__}
for name in NAMES:
    try:
        importlib.import_module(name)
    except axiom_bench.BenchError as error:  # another library's methods, where the extra isn't installed
        assert "pip install" in str(error), error
"""


def test_single_import_name_and_no_hidden_module():
    check = """
print([name for name in ("bench", "methods", "metrics") if name in sys.modules])
print([name for name in NAMES if name in sys.modules and name.count(".")
       and getattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2]) is not sys.modules[name]])
print([name for name in public if getattr(axiom_bench, name) is not public[name]])
"""
    names = [name for name in sources() if not name.endswith("__main__")]
    assert run(f"NAMES = {names}\n{IMPORT_ALL}{check}").splitlines() == ["[]"] * 3


def test_records_statistics_report_and_gate_import_no_torch():
    names = [name for name in sources() if room(name) in WITHOUT_TORCH]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    assert run(code) == "False"
