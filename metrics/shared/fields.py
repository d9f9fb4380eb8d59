"""Parameters that several metrics share, as one value: users set its fields as parameters of the metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from functools import wraps
from typing import TypeVar

Result = TypeVar("Result")


def takes_fields(metric: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a metric whose parameter is a dataclass, so that it takes the fields as parameters instead.

    The parameter's default has the defaults of the fields.
    """
    parameters = inspect.signature(metric, eval_str=True).parameters
    (grouped,) = (parameter for parameter in parameters.values() if is_dataclass(parameter.default))
    fields = inspect.signature(type(grouped.default), eval_str=True).parameters
    flat_parameters = []
    for parameter in parameters.values():
        if parameter is grouped:
            flat_parameters += [field.replace(default=getattr(grouped.default, name)) for name, field in fields.items()]
        else:
            flat_parameters.append(parameter)
    signature = inspect.Signature(flat_parameters)

    @wraps(metric)
    def with_fields(*arguments: object, **settings: object) -> Result:
        bound = signature.bind(*arguments, **settings).arguments
        changes = {name: bound.pop(name) for name in fields if name in bound}
        return metric(**bound, **{grouped.name: replace(grouped.default, **changes)})

    setattr(with_fields, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute of a function
    return with_fields
