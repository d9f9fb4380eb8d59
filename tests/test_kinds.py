"""A parameter of the wrong kind is one sentence, from its function's own annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.kinds import home_expanded, strict
from axiom_bench.models.user_code import import_function

Fill = str | Sequence[float]


def measured(
    explanation,
    steps: int = 2,
    share: float = 0.5,
    scaled: bool = True,
    fill: Fill = "zero",
    start: Sequence[float] | str = "zero",
    sides: tuple[float, ...] = (0.1,),
    layers: Sequence[str] = (),
    gamma: float | None = None,
    wrapped: str | Callable[[Any], Any] = "cam",
    options: Mapping[str, Any] | None = None,
    pair: list = (),
    noted: Annotated[int, {}] = 1,
    implicit: int = None,  # noqa: RUF013 - as many write it
    anything=None,
    other: np.ndarray | None = None,
):
    """A metric that takes all kinds."""


class Callable_:
    def __call__(self, explanation, steps: int = 2):
        """An object that is called."""


an_object = Callable_()


def unresolved(explanation: NotImported, steps: int = 2):  # noqa: F821 - as under TYPE_CHECKING
    """A user's own, whose annotations can't be resolved here."""


def configured(params: Mapping[str, Any], function: str = "measured") -> plugins.Plugin:
    return plugins.from_config(
        "metric", "mine", {"_target_": f"{__name__}.{function}", "params": params}
    )


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("steps", "abc", "a whole number"),
        ("steps", None, "a whole number"),
        ("steps", 2.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("share", "half", "a number"),
        ("share", True, "a number"),
        ("scaled", "no", "true or false"),
        ("scaled", 1, "true or false"),
        ("fill", 3, "a text or a list"),
        ("fill", None, "a text or a list"),
        ("fill", ["a"], "a text or a list, each a number"),
        ("start", 3, "a list or a text"),
        ("noted", "a", "a whole number"),
        ("sides", 0.1, "a list"),
        ("sides", [0.1, None], "a list, each a number"),
        ("layers", "features", "a list"),
        ("layers", ["a\0"], "a list, each a text"),
        ("gamma", "auto", "a number or null"),
        ("wrapped", 3, "a text or a function"),
        ("options", [1], "a mapping or null"),
        ("options", {5: 1}, "a mapping or null"),
        ("pair", "ab", "a list"),
    ],
)
def test_a_wrong_kind_is_one_sentence(name, value, kind):
    with pytest.raises(BenchError) as error:
        configured({name: value})
    assert str(error.value) == f"metric.mine.params.{name} must be {kind}, not {value!r}."


def test_what_fits_is_let_through():
    lists = {"fill": [0, 1.0], "sides": [1, 0.5], "layers": ["a"]}
    configured({"steps": np.int64(3), "share": 1, "scaled": False, **lists})
    configured(
        {
            "share": np.float32(0.5),
            "fill": "mean",
            "sides": (0.5,),
            "gamma": None,
            "wrapped": len,
            "pair": [1],
        }
    )
    configured(
        {"options": {"a": 1}, "implicit": None, "anything": object(), "other": "unknown kinds"}
    )


def test_an_object_and_a_library_s_function_are_checked_too_and_params_are_a_group():
    with pytest.raises(BenchError, match=r"params\.steps must be a whole number"):
        configured({"steps": "abc"}, "an_object")
    # nothing to check against
    assert configured({"steps": "abc"}, "unresolved").params == {"steps": "abc"}
    with pytest.raises(BenchError, match=r"metric\.mine\.params is a group.*not by 3"):
        configured(3)


@pytest.mark.parametrize("kind", ["method", "metric"])
def test_every_parameter_of_ours_has_a_kind(kind):
    for name in plugins.names(kind):
        plugin = plugins.load(kind, name)
        annotated = inspect.signature(plugin.call.func, eval_str=True).parameters
        assert [key for key in plugin.params if strict(annotated[key].annotation) is Any] == []


def test_the_home_of_an_unknown_user_is_an_error_that_names_the_path():
    assert home_expanded("~/net.py") == Path.home() / "net.py"
    with pytest.raises(BenchError, match=r"^~nobody-here/net\.py begins with the home folder of"):
        home_expanded("~nobody-here/net.py")


def test_a_network_in_the_home_of_an_unknown_user_is_refused():
    with pytest.raises(BenchError, match="begins with the home folder of nobody"):
        import_function("~nobody-here/net.py:build", "model.architecture", "give a function")
