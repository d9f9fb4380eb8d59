"""The pytest plugin: the fixture `axiom_gate`, and the options --axiom-update and --axiom-reason.
pytest imports this module wherever axiom-bench is installed, so that it imports nothing heavy
itself.
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

if TYPE_CHECKING:
    from axiom_bench.gate import GateResult

Named = (
    str | Sequence[str | Mapping[str, Any]] | Mapping[str, Any]
)  # names, dotted paths, or {name: YAML's content}
WRITTEN = "axiom_baseline"  # the key of the baselines that a test wrote, among its user properties
FOLDER = "axiom_bench"  # of the values that are kept, in pytest's cache
UNNEEDED = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")  # a gate reads neither
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NO_KEYS = ("null", "true", "false", "nan", "inf")  # words that Hydra reads as other values


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
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
    """A line for each baseline that was written; with xdist, whichever worker wrote it."""
    reports = (
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())
    )
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == WRITTEN and report.when == "call":
                terminalreporter.write_line(f"baseline written: {value}")


@pytest.fixture
def axiom_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """A function that runs somebody's methods and compares their values with a baseline; it fails
    the test where they don't hold.

    axiom_gate(methods, baseline=FILE, metrics=None, model=None, data=None, settings=(),
    allow_improvements=False), see `overrides_of` and `gate.GateOptions`. A relative baseline is
    below pytest's rootdir. Values are kept in pytest's cache, so that only what a change of code
    concerns is computed again.
    """

    def checked(
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

        file, command = request.config.rootpath / baseline, f"'{request.node.nodeid}'"
        command = f"pytest --axiom-update --axiom-reason 'why' {command}"
        comparison = GateOptions(allow_improvements)
        try:
            folder = _run(overrides_of(methods, metrics, model, data, settings), request)
            if request.config.getoption("--axiom-update"):
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
            lines = "\n".join(result.lines)
            pytest.fail(f"{lines}\nTo write the baseline anew: {command}", pytrace=False)
        return result

    return checked


def _run(overrides: Sequence[str], request: pytest.FixtureRequest) -> Path:
    """The run folder, in pytest's cache, with all values; those that are there aren't computed
    again. A second process that wants the same waits. Raises BenchError where a job fails.
    """
    from axiom_bench.cli.benchmark import compute

    if request.config.cache is None:
        raise BenchError(
            "axiom_gate keeps its values in pytest's cache; run pytest without -p no:cacheprovider."
        )
    cache = request.config.cache.mkdir(FOLDER)
    name = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:16]
    with FileLock(cache / f"{name}.lock"), warnings.catch_warnings():
        warnings.simplefilter(
            "default"
        )  # where a test run turns warnings into errors, a library's own isn't one
        code, lines, folder = compute(
            [*overrides, f"results={_literal(str(cache))}", f"run={name}"]
        )
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
    """A run as the command line takes it. Raises BenchError for what names no plug-in. methods,
    metrics: a name of conf/, the dotted path of a function, a sequence of such, or {name: path, or
    what its YAML would hold}; no metrics: the default run's. model, data: names of conf/; None: the
    embedded default. settings: more of them, as ("data.size=32",).
    """
    overrides = list(UNNEEDED)
    for kind, named in (("method", methods), *([] if metrics is None else [("metric", metrics)])):
        entries = _entries(kind, named)
        overrides.append(
            f"{kind}=[{','.join(name for name, entry in entries.items() if entry is None)}]"
        )
        overrides += [
            f"+{kind}.{name}={_literal(entry)}"
            for name, entry in entries.items()
            if entry is not None
        ]
    places = [
        f"{group}={name}" for group, name in (("model", model), ("data", data)) if name is not None
    ]
    return [*overrides, *places, *settings]


def _entries(kind: str, named: Named) -> dict[str, Mapping[str, Any] | None]:
    """{name: what its YAML would hold, None for one of conf/}. Raises BenchError."""
    if isinstance(named, Mapping):
        return {str(name): _entry(kind, entry) for name, entry in named.items()}
    entries: dict[str, Mapping[str, Any] | None] = {}
    for each in named if isinstance(named, list | tuple) else [named]:
        entry = _entry(kind, each)
        name = str(entry["_target_"]).rpartition(".")[2]
        if name in entries:
            raise BenchError(
                f"Two {kind}s are called {name!r}; give them names, as {{'mine': 'my_pkg.my_cam'}}."
            )
        entries[name] = None if each == name else entry
    return entries


def _entry(kind: str, entry: object) -> Mapping[str, Any]:
    if isinstance(entry, str):
        return {"_target_": entry}
    if isinstance(entry, Mapping) and isinstance(entry.get("_target_"), str):
        return entry
    if callable(entry):
        raise BenchError(
            f"A {kind} is named, so that its values can be kept: 'my_pkg.my_cam', not the "
            "function itself."
        )
    raise BenchError(
        f"A {kind} can't be {type_name(entry)}; give 'my_pkg.my_cam' or {{'_target_': "
        f"'my_pkg.my_cam'}}."
    )


def _literal(value: object) -> str:
    """A value in the grammar of Hydra's overrides. Raises BenchError for one that it has no word
    for.
    """
    if isinstance(value, Mapping):
        return (
            "{" + ",".join(f"{_key(key)}:{_literal(entry)}" for key, entry in value.items()) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):  # before the numbers: True == 1
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):  # float() writes a number of NumPy as Python's
        return repr(float(value))
    if isinstance(value, str):
        # Only backslashes before a quote, or before the end, are escaped.
        return (
            "'"
            + re.sub(
                r"(\\*)('|\Z)", lambda match: 2 * match[1] + match[2].replace("'", r"\'"), value
            )
            + "'"
        )
    raise BenchError(f"{value!r} can't be given to a run: it is no number, text, list or mapping.")


def _key(key: object) -> str:
    """Keys have no quotes in that grammar."""
    if isinstance(key, int | float):
        return _literal(key)
    if not isinstance(key, str) or not KEY.fullmatch(key) or key.lower() in NO_KEYS:
        raise BenchError(
            f"The key {key!r} can't be given to a run: a key is a word of letters, digits, '_', "
            "'.', '-'."
        )
    return key
