"""Runs a list of checks on several cases: what the suites of methods and of metrics have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from axiom_bench.errors import unknown
from axiom_bench.evaluation.plugins import Plugin

Case = TypeVar("Case")
Check = Callable[[Plugin, Case], None]
Result = TypeVar("Result")


def once(function: Callable[[Any, Case], Result]) -> Callable[[Any, Case], Result]:
    """A function of a plug-in and a case that several checks need: of the latest plug-in each case's result is kept."""
    latest: dict[Case, tuple[Any, Result]] = {}

    @wraps(function)
    def call(plugin: Any, case: Case) -> Result:
        if case not in latest or latest[case][0] is not plugin:
            latest[case] = plugin, function(plugin, case)
        return latest[case][1]

    return call


def run_checks(
    plugin: Plugin,
    checks: Sequence[Check[Case]],
    cases: Mapping[str, Case],
    exempt: Mapping[str, str],
    mistakes: tuple[type[Exception], ...] = (AssertionError,),
) -> None:
    """Run every check on every case.

    cases: by what a message calls them, as "the dense network". exempt: {name of a check: reason}; such a check must
    fail. mistakes: errors that mean a failed check; another error passes through, with the check's name as a note.
    Raises AssertionError, with the check's and the case's name, and BenchError for an exempt check that doesn't exist.
    """
    names = [check.__name__ for check in checks]
    for name in exempt:
        if name not in names:
            raise unknown("check", name, names)
    for check in checks:
        messages = [_message(check, plugin, name, case, mistakes) for name, case in cases.items()]
        failures = [message for message in messages if message is not None]
        if check.__name__ in exempt:
            assert failures, f"{plugin.name} is exempt from {check.__name__}, and passes it: remove the exemption"
        else:
            assert not failures, "\n".join(failures)


def _message(
    check: Check[Case], plugin: Plugin, name: str, case: Case, mistakes: tuple[type[Exception], ...]
) -> str | None:
    """The message of a failed check; None where it passes."""
    try:
        check(plugin, case)
    except mistakes as error:
        expected = " ".join((check.__doc__ or "").split())
        return f"{plugin.name} fails {check.__name__} on {name}: {expected} {error}".rstrip()
    except Exception as error:
        error.add_note(f"in {check.__name__}, on {name}")
        raise
    return None
