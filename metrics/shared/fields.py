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
    (whole,) = (parameter for parameter in parameters.values() if is_dataclass(parameter.default))
    fields = inspect.signature(type(whole.default), eval_str=True).parameters
    flat = []
    for parameter in parameters.values():
        if parameter is whole:
            flat += [field.replace(default=getattr(whole.default, name)) for name, field in fields.items()]
        else:
            flat.append(parameter)
    signature = inspect.Signature(flat)

    @wraps(metric)
    def with_fields(*arguments: object, **settings: object) -> Result:
        bound = signature.bind(*arguments, **settings).arguments
        changes = {name: bound.pop(name) for name in fields if name in bound}
        return metric(**bound, **{whole.name: replace(whole.default, **changes)})

    setattr(with_fields, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute of a function
    return with_fields
