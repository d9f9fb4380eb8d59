"""The architecture of docs/architecture.md: which room may import which, one import name, how many
modules a run enters, and how many files a new thing touches.
"""

from __future__ import annotations

import ast
import importlib
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from axiom_bench.data.registry import KINDS
from axiom_bench.records import artefacts
from axiom_bench.report.writing import FIGURES

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "bench": "axiom_bench",
    "methods": "axiom_bench.methods",
    "metrics": "axiom_bench.metrics",
}

BOTTOM = {"errors", "columns", "environment", "kinds", "notes"}
MAY_IMPORT = {  # a room, or the one module of a room
    "errors": set(),
    "columns": set(),
    "environment": set(),
    "kinds": {"errors"},
    "notes": set(),
    "cutting": BOTTOM,
    "explanation": {*BOTTOM, "cutting"},
    "embedded": BOTTOM,
    "data": {*BOTTOM, "cutting.output", "cutting.interventions", "embedded"},
    "models": {*BOTTOM, "cutting", "data", "embedded"},
    "examination": {*BOTTOM, "cutting", "data", "models"},
    "isolation": {*BOTTOM, "cutting"},
    "methods": {*BOTTOM, "cutting", "explanation", "isolation", "data.torchvision_import"},
    "metrics": {*BOTTOM, "cutting", "explanation", "evaluation.queries", "data.batch"},
    "evaluation": {
        *BOTTOM,
        "cutting",
        "explanation",
        "data.base",
        "data.batch",
        "models.user_code",
        "isolation",
    },
    "records": BOTTOM,
    "statistics": {*BOTTOM, "records"},
    "judging": {*BOTTOM, "records", "statistics"},
    "report": {*BOTTOM, "records", "statistics", "judging", "explanation.overlay"},
    "run": {
        *BOTTOM,
        "cutting",
        "explanation",
        "examination",
        "evaluation",
        "data",
        "models",
        "records",
    },
    "compat": {*BOTTOM, "cutting", "explanation", "evaluation", "methods.full_grad"},
    "auditing": {
        *BOTTOM,
        "compat",
        "cutting",
        "explanation",
        "evaluation",
        "embedded",
        "data.base",
        "data.formats.decoding",
        "data.formats.files",
        "records.files",
        "gate.outputs",
        "report.page.html",
        "models.user_code",
        "isolation",
    },
    "gate": {*BOTTOM, "records", "statistics", "explanation.overlay"},
}
FREE = {"cli", "testing", "__main__", ""}  # above all others; "" is axiom_bench/__init__ itself
WITHOUT_TORCH = (*sorted(BOTTOM), "records", "statistics", "judging", "report", "gate")


@cache
def sources() -> dict[str, ast.Module]:
    """{module name: its parsed source}, of everything that is installed."""
    modules = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = path.relative_to(ROOT / folder).with_suffix("").parts
            modules[".".join([package, *(name for name in names if name != "__init__")])] = (
                ast.parse(path.read_text())
            )
    return modules


@cache
def imports(name: str) -> list[str]:
    """Modules of ours that a module imports, anywhere in it: under TYPE_CHECKING and in functions
    too.
    """
    return list(_imports(name))


def _imports(name: str) -> Iterator[str]:
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
        if name in (
            "axiom_bench.methods",
            "axiom_bench.metrics",
        ):  # get() and names() ask the plug-ins
            allowed = {*MAY_IMPORT[room_name], "evaluation.plugins"}
        else:
            allowed = MAY_IMPORT[room_name]
        for target in imports(name):
            local = target.removeprefix("axiom_bench").removeprefix(".")
            if room(target) != room_name and not {room(target), local} & allowed:
                forbidden.setdefault(room(target), []).append(f"{name} imports {target}")
    return forbidden


@pytest.mark.slow
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


@pytest.mark.parametrize("folder", ["composing", "executors"])
def test_a_folder_of_run_imports_nothing_from_above(folder):
    """A command line is composed, and an engine calls functions, without knowledge of a run."""
    package = f"axiom_bench.run.{folder}"
    above = {
        f"{name} imports {target}"
        for name in sources()
        if name.startswith(package)
        for target in imports(name)
        if target.startswith("axiom_bench.run.") and not target.startswith(package)
    }
    assert not above


def importers(name: str) -> set[str]:
    return {
        other.removeprefix("axiom_bench.")
        for other in sources()
        if other != name and name in imports(other)
    }


@cache
def texts() -> dict[str, set[str]]:
    """{a string of bench's modules, docstrings apart: the modules that have it}."""
    modules: dict[str, set[str]] = {}
    for name, tree in sources().items():
        if room(name) not in ("methods", "metrics"):
            nodes = list(ast.walk(tree))
            expressions = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and id(node) not in expressions
                ):
                    modules.setdefault(node.value, set()).add(name.removeprefix("axiom_bench."))
    return modules


@pytest.mark.parametrize("group", ["method", "metric"])
def test_bench_names_no_method_and_no_metric(group):
    """A new one touches its function's file, its YAML and conf/references.bib."""
    entries = [path.stem for path in (ROOT / "conf" / group).rglob("*.yaml")]
    named = {name: texts()[name] for name in set(entries) & texts().keys() - {"all", "all_fast"}}
    assert entries
    assert named == {}


def test_a_kind_of_data_set_touches_its_module_and_the_registry():
    """But for mosaics of a run's images, VOC's class names, and ImageNet-S and arrays,
    which take their classes as ImageNet and folders do. QR codes are drawn images, too.
    """
    others = {
        kind.__module__: importers(kind.__module__) - {"data.registry"} for kind in KINDS.values()
    }
    used = {name.rpartition(".")[2]: modules for name, modules in others.items() if modules}
    assert used == {
        "mosaic": {"run.job", "run.choosing", "run.worker", "cli.game"},
        "voc": {"models.outputs"},
        "imagenet": {"data.layouts.imagenet_s"},
        "folder": {"data.layouts.arrays"},
        "coco": {"data.layouts.coco_folder", "data.layouts.label_folder"},  # in a folder
        "embedded": {"data.qr_codes"},
    }


def test_a_chart_touches_its_module_and_one_list():
    """`FIGURES` of report/writing.py, for the file and the page."""
    charts = {function.__module__ for function in FIGURES}
    assert set().union(*map(importers, charts)) == {"report.writing"}


def test_an_artefact_touches_its_module_and_the_table():
    """The module that makes it is found by the table: nothing imports it."""
    modules = set(artefacts.writer_by_kind().values())
    assert modules
    assert not set().union(*map(importers, modules))


def test_a_column_of_the_tables_touches_the_summary_and_the_tables():
    assert texts()["standard_error"] == {"statistics.summary", "report.tables.summaries"}


def test_what_counts_as_rounding_is_one_number():
    """Six constants were once called ROUNDING. A difference that one table called real was rounding
    in the next.
    """
    places = set()
    for name, tree in sources().items():
        targets = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets += node.targets
            elif isinstance(node, ast.AnnAssign):
                targets.append(node.target)
        constants = [target.id for target in targets if isinstance(target, ast.Name)]
        for constant in constants:
            if constant.isupper() and "ROUNDING" in constant:
                places.add(f"{name}.{constant}")
    assert places == {"axiom_bench.columns.FLOAT32_ROUNDING"}


def test_package_docstrings_are_short():
    folders = [path for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    for path in folders:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert 1 <= len(re.findall(r"[.:!?](?=\s|$)", text)) <= 3, f"{path}: {text!r}"


def import_all(names: list[str], results: Any) -> None:
    """Import all our modules again in a copy of this process, which has imported torch.

    The copy runs in the checkout's root, where `bench`, `methods` and `metrics` are importable. It
    sends the problems that it finds to `results`.
    """
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("axiom_bench", *FOLDERS)
    ]:
        del sys.modules[name]
    os.chdir(ROOT)
    sys.path.insert(0, "")
    import axiom_bench

    public = {name: getattr(axiom_bench, name) for name in axiom_bench.__all__}
    for name in names:
        try:
            importlib.import_module(name)
        except (
            axiom_bench.BenchError
        ) as error:  # another library's methods, where the extra isn't installed
            if "pip install" not in str(error):
                raise
        except ModuleNotFoundError as error:
            if error.name != "ray":  # which `make test-all` installs
                raise
    modules = {name: sys.modules[name] for name in names if name in sys.modules and name.count(".")}
    hidden = []
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        if getattr(sys.modules[parent], attribute) is not module:
            hidden.append(name)
    replaced = [name for name in public if getattr(axiom_bench, name) is not public[name]]
    results.put(([name for name in FOLDERS if name in sys.modules], hidden, replaced))


@pytest.mark.slow
def test_single_import_name_and_no_hidden_module():
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    names = [name for name in sources() if not name.endswith("__main__")]
    process = context.Process(target=import_all, args=(names, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert results.get() == ([], [], [])


@pytest.mark.slow
def test_records_statistics_report_and_gate_import_no_torch():
    """Import these rooms in a new process."""
    names = [name for name in sources() if room(name) in WITHOUT_TORCH]
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint('torch' "
        "in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")


# CutModel and Trace are two modules, since they are two subjects.
MOST_MODULES = 132
MOST_AT_THE_END = 5  # modules whose functions the end of a run calls
RUN = """
import sys, threading
from pathlib import Path
import axiom_bench
from axiom_bench.cli.main import main

package = Path(axiom_bench.__file__).parent
of_functions = 1  # the flag of code objects that have their own names
roots = {str(folder.resolve()) for folder in [*package.iterdir(), package] if folder.is_dir()}
files, at_the_end = set(), set()

def entered(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & of_functions:
        files.add(frame.f_code.co_filename)
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        if caller.endswith("cli/finish.py") and frame.f_code.co_filename != caller:
            at_the_end.add(frame.f_code.co_filename)

threading.setprofile(entered)
sys.setprofile(entered)
code = main(sys.argv[1:])
sys.setprofile(None)
assert code == 0, code

def of_ours(files):
    names = {str(Path(file).resolve()) for file in files if file.endswith(".py")}
    return sum(any(name.startswith(root + "/") for root in roots) for name in names)

print(of_ours(files), of_ours(at_the_end))
"""


@pytest.mark.slow
def test_a_small_run_enters_few_modules(tmp_path: Path) -> None:
    """Four images, two methods and two metrics, from the command line to the report."""
    settings = ["experiment=quick", "model=scenes_vgg", "data.size=4", "data.workers=0"]
    chosen = ["method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,box_iou]"]
    command = [sys.executable, "-c", RUN, *settings, *chosen]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entered, at_the_end = map(int, done.stdout.split()[-2:])
    assert entered <= MOST_MODULES
    assert at_the_end <= MOST_AT_THE_END
