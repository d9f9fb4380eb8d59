"""The line that names what a new report leaves out: of each kind, and none where nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest

from axiom_bench.run.sweep import no_longer_shown

SHOWN: dict[str, Any] = {
    "models": {"vgg": {"layers": ["last", "first"]}, "resnet": {"layers": ["last"]}},
    "methods": {f"cam_{number}": {} for number in range(8)},
    "metrics": {"zeta": {}, "epsilon": {}},
    "data": {"scenes": {"ids": ["a", "b", "c"]}, "voc": {"ids": ["d"]}},
}


def without(key: str, name: str) -> dict[str, Any]:
    return {**SHOWN, key: {other: facts for other, facts in SHOWN[key].items() if other != name}}


@pytest.mark.parametrize(
    ("after", "parts"),
    [
        (without("models", "resnet"), "model resnet"),
        ({**SHOWN, "methods": {"cam_0": {}}}, "methods cam_1, cam_2, cam_3, cam_4, cam_5 and 2 more"),
        (without("metrics", "zeta"), "metric zeta"),
        (without("data", "voc"), "data set voc"),
        ({**SHOWN, "models": {**SHOWN["models"], "vgg": {"layers": ["last"]}}}, "layer first of vgg"),
        ({**SHOWN, "data": {**SHOWN["data"], "scenes": {"ids": ["c", "x"]}}}, "2 images of scenes"),
        ({**without("models", "resnet"), "metrics": {"zeta": {}}}, "model resnet; metric epsilon"),
    ],
)
def test_what_is_left_out_is_named(after: dict[str, Any], parts: str):
    line = no_longer_shown(SHOWN, after)
    assert line is not None
    assert line.startswith(f"the report no longer shows {parts}: ")
    assert "run=NAME" in line


@pytest.mark.parametrize("before", [SHOWN, {}, without("models", "resnet")])
def test_nothing_is_said_where_nothing_is_left_out(before: dict[str, Any]):
    assert no_longer_shown(before, SHOWN) is None
