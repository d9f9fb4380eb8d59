"""Input composed by hypothesis: a short run, and a long one that is slow."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axiom_bench.errors import BenchError


def lengths(short: int, times: int = 16) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "examples", [short, pytest.param(times * short, marks=pytest.mark.slow)]
    )


def run(
    check: Callable[[dict[str, Any]], None], kinds: dict[str, st.SearchStrategy[Any]], examples: int
) -> None:
    run_of = settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    run_of(given(st.fixed_dictionaries(kinds))(check))()


def value_or_sentence(call: Callable[[], Any]) -> Any:
    """Return the call's value, or the one sentence of its BenchError."""
    try:
        return call()
    except BenchError as error:
        sentence = str(error)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence
