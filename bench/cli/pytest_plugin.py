"""The pytest plugin: the fixture `axiom_gate`, and the options --axiom-update and --axiom-reason.

pytest imports this module wherever axiom-bench is installed. It therefore imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from axiom_bench.errors import BenchError, type_name
from axiom_bench.evaluation.plugins import name_of_path

if TYPE_CHECKING:
    from axiom_bench.gate import GateResult

# names, dotted paths, or {name: the content of its YAML}
Named = str | Sequence[str | Mapping[str, object]] | Mapping[str, object]
WRITTEN = "axiom_baseline"  # the user property of a test with a baseline that it wrote
FOLDER = "axiom_bench"  # the folder of the kept values in pytest's cache
# A gate reads neither run times nor pictures.
UNNEEDED = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NO_KEYS = ("null", "true", "false", "nan", "inf")  # words that Hydra reads as other values


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to pytest's parser."""
    group = parser.getgroup("axiom-bench", "gates of CAM methods")
    group.addoption(
        "--axiom-update",
        action="store_true",
        help="write the baselines of axiom_gate that don't hold",
    )
    group.addoption(
        "--axiom-reason", metavar="TEXT", help="why, kept in the baselines that are written"
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a line for each baseline that was written. With xdist, any worker may have written
    it.
    """
    stats = terminalreporter.stats
    for report in (*stats.get("passed", ()), *stats.get("failed", ())):
        for name, value in getattr(report, "user_properties", ()):
            if name == WRITTEN and report.when == "call":
                terminalreporter.write_line(f"baseline written: {value}")


@pytest.fixture
def axiom_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """Return a function that runs methods and compares their values with a baseline.

    The function fails the test if the values don't hold:

        axiom_gate(methods, baseline=FILE, metrics=None, model=None, data=None, settings=(),
            allow_improvements=False)

    Its arguments are described at `method_overrides` and `gate.GateOptions`. The path of a baseline
    is relative to pytest's rootdir. Values are kept in its cache, so that only values which a
    change of code concerns are computed again.
    """

    def check_gate(
        methods: Named,
        *,
        baseline: str | Path,
        metrics: Named | None = None,
        model: str | None = None,
        data: str | None = None,
        settings: Sequence[str] = (),
        allow_improvements: bool = False,
    ) -> GateResult:
        from axiom_bench.gate import GateOptions, gate, write_baseline

        file = request.config.rootpath / baseline
        command = f"pytest --axiom-update --axiom-reason 'why' '{request.node.nodeid}'"
        comparison = GateOptions(allow_improvements, write_with=command)
        try:
            folder = _run(overrides_of(methods, metrics, model, data, settings), request)
            if request.config.getoption("--axiom-update"):
                # A baseline that holds isn't written again, so that its reason and date stay.
                if gate(folder, file, comparison).exit_code:
                    write_baseline(folder, file, request.config.getoption("--axiom-reason"))
                    request.node.user_properties.append((WRITTEN, str(file)))
                return gate(folder, file, comparison)
            if not file.is_file():
                pytest.fail(f"There is no baseline {file}; write it with: {command}", pytrace=False)
            result = gate(folder, file, comparison)
        except BenchError as error:
            pytest.fail(str(error), pytrace=False)
        if result.exit_code:
            pytest.fail("\n".join(result.lines), pytrace=False)
        return result

    return check_gate


def _run(overrides: Sequence[str], request: pytest.FixtureRequest) -> Path:
    """Compute the missing values, and return the run folder with all values, which is in pytest's
    cache.

    A second process that needs the same values waits. Raise BenchError if a job fails.
    """
    from axiom_bench.cli.benchmark import compute

    if request.config.cache is None:
        raise BenchError(
            "axiom_gate keeps its values in pytest's cache; run pytest without -p no:cacheprovider."
        )
    cache = request.config.cache.mkdir(FOLDER)
    name = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:16]
    own_settings = [f"results={_literal(str(cache))}", f"run={name}"]
    with FileLock(cache / f"{name}.lock"), warnings.catch_warnings():
        # A test run may turn warnings into errors. A library's own warning isn't one.
        warnings.simplefilter("default")
        code, lines, folder = compute([*overrides, *own_settings])
    if code:
        raise BenchError("\n".join(lines))
    return folder


def overrides_of(
    methods: Named,
    metrics: Named | None = None,
    model: str | None = None,
    data: str | None = None,
    settings: Sequence[str] = (),
) -> list[str]:
    """Return the overrides that describe a run on the command line.

    Args:
        methods: A name of conf/, the dotted path of a function, a sequence of these, or {name: path
            or content of its YAML}.
        metrics: As `methods`; `None` chooses the metrics of the default run.
        model: A name of conf/; `None` chooses the embedded default.
        data: A name of conf/; `None` chooses the embedded default.
        settings: Further settings, such as ("data.size=32",).

    Raises:
        BenchError: For something that names no plug-in.
    """
    overrides = list(UNNEEDED)
    kinds = [("method", methods)]
    if metrics is not None:
        kinds.append(("metric", metrics))
    for kind, plugins in kinds:
        # Names of conf/ are chosen by a list, and every other plug-in is added by its content.
        entries = _entries(kind, plugins)
        names = [name for name, entry in entries.items() if entry is None]
        overrides.append(f"{kind}=[{','.join(names)}]")
        for name, entry in entries.items():
            if entry is not None:
                overrides.append(f"+{kind}.{name}={_literal(entry)}")
    if model is not None:
        overrides.append(f"model={model}")
    if data is not None:
        overrides.append(f"data={data}")
    return [*overrides, *settings]


def _entries(kind: str, plugins: Named) -> dict[str, Mapping[str, object] | None]:
    """Return {name: the content of its YAML, or None for a name of conf/}. Raise BenchError for
    something that names no plug-in.
    """
    if isinstance(plugins, Mapping):
        return {str(name): _entry(kind, plugin) for name, plugin in plugins.items()}
    entries: dict[str, Mapping[str, object] | None] = {}
    for plugin in plugins if isinstance(plugins, list | tuple) else [plugins]:
        entry = _entry(kind, plugin)
        name = name_of_path(str(entry["_target_"]))
        if name in entries:
            raise BenchError(
                f"Two {kind}s are called {name!r}; give them names, as {{'mine': 'my_pkg.my_cam'}}."
            )
        entries[name] = None if plugin == name else entry
    return entries


def _entry(kind: str, plugin: object) -> Mapping[str, object]:
    """Return the content of a plug-in's YAML. Raise BenchError for something that names none."""
    if isinstance(plugin, str):
        return {"_target_": plugin}
    if isinstance(plugin, Mapping) and isinstance(plugin.get("_target_"), str):
        return plugin
    if callable(plugin):
        raise BenchError(
            f"Give a {kind} by its path, such as 'my_pkg.my_cam', not as a function, so that its "
            "values can be kept."
        )
    raise BenchError(
        f"A {kind} can't be {type_name(plugin)}; give 'my_pkg.my_cam' or {{'_target_': "
        f"'my_pkg.my_cam'}}."
    )


def _literal(value: object) -> str:
    """Return a value in the grammar of Hydra's overrides. Raise BenchError if the grammar can't
    express it.
    """
    if isinstance(value, Mapping):
        entries = [f"{_key(key)}:{_literal(entry)}" for key, entry in value.items()]
        return "{" + ",".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):  # before the numbers: True == 1
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):  # float() turns NumPy's numbers into Python's
        return repr(float(value))
    if isinstance(value, str):
        # Only backslashes before a quote, or before the end, are escaped.
        quoted = re.sub(
            r"(\\*)('|\Z)", lambda match: 2 * match[1] + match[2].replace("'", r"\'"), value
        )
        return f"'{quoted}'"
    raise BenchError(f"{value!r} can't be given to a run: it is no number, text, list or mapping.")


def _key(key: object) -> str:
    """Return a key of a mapping, which that grammar can't quote. Raise BenchError if it would need
    quotes.
    """
    if isinstance(key, int | float):
        return _literal(key)
    if not isinstance(key, str) or not KEY.fullmatch(key) or key.lower() in NO_KEYS:
        raise BenchError(
            f"The key {key!r} can't be given to a run: a key is a word of letters, digits, '_', "
            "'.', '-'."
        )
    return key
