"""Numbers, Markdown and LaTeX as a reader gets them."""

from __future__ import annotations

import pytest

from axiom_bench.columns import NO_IMAGE, NOT_APPLICABLE
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.preconditions import ALWAYS, PRECONDITIONS, WRONG_CLASS
from axiom_bench.report.page.html import typeset
from axiom_bench.report.tables.table import Group, Table, to_markdown
from axiom_bench.report.tables.text import REASONS
from axiom_bench.statistics.labels import NOTHING, number, share
from tests.report.conftest import row

ROWS = (row("grad_cam", "-0.500", "50 %", bold=[1]), row("x|y", "1.20e-7", "-"))
TABLE = Table(
    "some_table", "A_title", ("Method", "Error\nmean", "Why"), (Group("net_1 & co", ROWS),), ("n_1 = 3.",), 1, True
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"), (0.1, "0.100"), (12.0, "12.0"), (999.6, "1,000"), (4321.5, "4,322"),
        (0.00009996, "0.000100"), (0.00009, "9.00e-5"), (1.2e-7, "<1e-6"), (-1e-9, "<1e-6"), (2.5e-6, "2.50e-6"),
        (-0.25, "-0.250"), (2.5e9, "2.50e9"), (0.0, "0"), (float("nan"), NOTHING), (float("inf"), NOTHING),
    ],
)  # fmt: skip
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_share_never_rounds_to_nothing_or_all() -> None:
    assert [share(*pair) for pair in ((0, 9), (1, 1000), (1, 2), (999, 1000), (9, 9), (0, 0))] == [
        *("0 %", "<1 %", "50 %", ">99 %", "100 %", "0 %")
    ]


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "# A_title\n\n## net_1 & co\n\n"
        "| Method | Error<br>mean | Why |\n|:---|---:|:---|\n| grad_cam | **-0.500** | 50 % |\n"
        "| x\\|y | 1.20e-7 | - |\n\nn_1 = 3.\n"
    )


def test_html_text() -> None:
    assert typeset("<b> -0.5\nx") == "&lt;b&gt; \N{MINUS SIGN}0.5<br>x"
    assert "10<sup>\N{MINUS SIGN}7</sup>" in typeset("1.20e-7")
    assert typeset("<1e-6") == "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>"
    assert typeset("0-12 grad-cam-2") == "0-12 grad-cam-2"  # no minus inside a name or a range


def test_every_status_has_its_reason_in_words() -> None:
    """A status of a plug-in that isn't ours is written with spaces; ours say what they mean."""
    conditions = {status.status for status in (*PRECONDITIONS.values(), *ALWAYS, WRONG_CLASS)}
    undefined = {plugins.load("metric", name).spec.undefined for name in plugins.names("metric")}
    assert conditions | undefined | {NO_IMAGE, NOT_APPLICABLE, "bad_image"} <= set(REASONS)
