"""The parameters with which a method is compared, in addition to those of its YAML file.

Implementations of one paper often have another number or switch, such as another gamma.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product

from axiom_bench.auditing.readings import Params
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Method

NO_NAME = "?"  # a name that no parameter can have, so that a method's error lists its names
WHOLE_NUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 50)


@cache
def variant(name: str, params: Params) -> Method:
    """Return a method with other values of some parameters.

    Args:
        name: The method's key.
        params: The names and values.
    """
    return plugins.with_params("method", name, dict(params))


def other_params(method: Method, trace: Trace) -> Iterator[Params]:
    """Yield the parameters to compare a method with: one is changed, or two.

    Args:
        method: The method. If it draws random numbers, nothing is yielded.
        trace: A trace that it explains.

    Yields:
        The changed parameters. At most one of two is a number.
    """
    if "seed" in method.params:
        return
    choices: dict[str, list[object]] = {}
    for key, value in method.params.items():
        choices[key] = _other_values(method, key, value, trace)
    for key, values in choices.items():
        for value in values:
            yield ((key, value),)
    for first, second in combinations(choices, 2):
        if _is_number(method.params[first]) and _is_number(method.params[second]):
            continue
        for pair in product(choices[first], choices[second]):
            yield tuple(zip((first, second), pair, strict=True))


def numbers_like(value: float) -> list[float]:
    """Return numbers of a value's size that papers and public code have."""
    if value <= 1:
        shares = [number / 20 for number in range(21)]
        return [*shares, 0.01, 0.99, 1.5, 2.0]
    if value <= 10:
        return [number / 2 for number in range(1, 21)]
    percentages = [float(number) for number in range(5, 100, 5)]
    return [*percentages, 99.0, 100.0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _other_values(method: Method, key: str, value: object, trace: Trace) -> list[object]:
    """Return the values of a parameter that are tried, without its usual one."""
    values: Sequence[object] = ()
    if isinstance(value, bool):
        values = (not value,)
    elif isinstance(value, int):
        values = WHOLE_NUMBERS
    elif isinstance(value, float):
        values = numbers_like(value)
    elif isinstance(value, str) and method.inner is None:
        values = _names(method.name, key, trace)
    return [other for other in values if other != value]


def _names(method: str, key: str, trace: Trace) -> tuple[str, ...]:
    """Return the names that a parameter can have, which the error for another name lists."""
    try:
        variant(method, ((key, NO_NAME),))(trace)
    except InvalidParameter as error:
        return error.choices
    except Exception:  # noqa: BLE001 - a method may raise anything on a network that it can't explain
        pass
    return ()
