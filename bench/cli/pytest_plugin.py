"""The pytest plugin: the fixture `axiom_gate`, and the options --axiom-update and --axiom-reason.

    def test_my_cam(axiom_gate):
        axiom_gate("my_pkg.my_cam", baseline="baselines/my_cam.csv")

pytest imports this module wherever axiom-bench is installed, so that it imports nothing heavy itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from axiom_bench.errors import BenchError

if TYPE_CHECKING:
    from axiom_bench.cli.gated import Gated, Named
    from axiom_bench.gate import GateResult

WRITTEN = "axiom_baseline"  # the key of the baselines that a test wrote, among its user properties
FOLDER = "axiom_bench"  # of the values that are kept, in pytest's cache


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("axiom-bench", "gates of CAM methods")
    group.addoption("--axiom-update", action="store_true", help="write the baselines of axiom_gate that don't hold")
    group.addoption("--axiom-reason", metavar="TEXT", help="why, kept in the baselines that are written")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each baseline that was written; with xdist, whichever worker wrote it."""
    reports = (report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ()))
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == WRITTEN and report.when == "call":
                terminalreporter.write_line(f"baseline written: {value}")


@pytest.fixture
def axiom_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """A function that runs somebody's methods and compares their values with a baseline; it fails the test where they
    don't hold.

    axiom_gate(methods, baseline=FILE, metrics=None, model=None, data=None, settings=(), sampled=False,
    min_effect=None, allow_improvements=False), see `gated.Gated` and `gate.GateOptions`. A relative baseline is below
    pytest's rootdir. Values are kept in pytest's cache, so that only what a change of code concerns is computed again.
    """

    def gate(
        methods: Named,
        *,
        baseline: str | Path,
        metrics: Named | None = None,
        model: str | None = None,
        data: str | None = None,
        settings: Sequence[str] = (),
        sampled: bool = False,
        min_effect: Mapping[str, str] | None = None,
        allow_improvements: bool = False,
    ) -> GateResult:
        from axiom_bench.cli.gated import Gated
        from axiom_bench.gate import GateOptions

        how = GateOptions(sampled, min_effect or {}, allow_improvements)
        gated = Gated(methods, metrics, model, data, settings, how)
        try:
            return _gate(request, gated, request.config.rootpath / baseline)
        except BenchError as error:
            pytest.fail(str(error), pytrace=False)

    return gate


def _gate(request: pytest.FixtureRequest, gated: Gated, baseline: Path) -> GateResult:
    """Fails the test, or returns the result. Raises BenchError where nothing can be run."""
    from axiom_bench.cli import gated as runs

    folder = runs.run(gated, Path(request.config.cache.mkdir(FOLDER)) if request.config.cache else _no_cache())
    if request.config.getoption("--axiom-update"):
        if runs.update(gated, folder, baseline, request.config.getoption("--axiom-reason")):
            request.node.user_properties.append((WRITTEN, str(baseline)))
        return runs.compare(gated, folder, baseline)
    if not baseline.is_file():
        pytest.fail(f"There is no baseline {baseline}; write it with: {_command(request)}", pytrace=False)
    result = runs.compare(gated, folder, baseline)
    if result.exit_code:
        lines = "\n".join(result.lines)
        pytest.fail(f"{lines}\nTo write the baseline anew: {_command(request)}", pytrace=False)
    return result


def _command(request: pytest.FixtureRequest) -> str:
    return f"pytest --axiom-update --axiom-reason 'why' '{request.node.nodeid}'"


def _no_cache() -> Path:
    raise BenchError("axiom_gate keeps its values in pytest's cache; run pytest without -p no:cacheprovider.")
