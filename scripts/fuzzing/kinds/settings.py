"""Settings: composed configurations with some of them changed, checked as a run does before it loads a model.

Composing costs a fifth of a second, so a few command lines are composed once for each process, and the values are put
into what comes of them. What the checks let through must be fit to be kept: see `_assert_sane`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from axiom_bench.cli.report_names import check_report
from axiom_bench.data import registry
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.errors import unknown
from axiom_bench.explanation.heatmap import check_normalise
from axiom_bench.models.spec import ModelSpec
from axiom_bench.records.files import safe_name
from axiom_bench.run import sweep
from axiom_bench.run.composition import composed
from axiom_bench.run.device import Device
from axiom_bench.run.execute import run_folder

from ..case import Case, Kind

LINES = (
    ("model=scenes_vgg", "method=[cam,guided_xgrad_cam,random]", "metric=[srg,zeta,box_iou]"),
    ("data=mosaic", "model=scenes_resnet", "method=[grad_cam]", "metric=[max_box_acc_v2,mask_iou,confidence_drop]"),
    ("data=folder", "model=user", "model.architecture=net.py:build", "model.weights=null", "peers=[grad_cam@torchcam]"),
    ("data=voc", "model=resnet18", "spoiled=[noise_50]", "metric=[road_morf,class_discriminability]"),
)
NESTED: list[Any] = []
for _ in range(300):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**63, 10**400, 0.5, -0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "x", "nan", "1", "true", "???", ".", "..", "../../../evil", "/", "a/b", "a\\b", "~nobody_here/x"),
    *(
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "\ud800",
        "caf\udce9",
        "\u202e",
        "a" * 10_000,
        "{}",
        "=1+1",
        "<b>",
        "$x$",
        "os.getcwd",
    ),
    *([], [1], ["a"], ["a", "a"], [None], [[1]], [math.nan], NESTED, {}, {"a": 1}, {5: 1}, {"_target_": 5}, {"": {}}),
)
KEYS = ("x", "", "_target_", "params", "nmae", "a/b", "a" * 1000, "\ud800", 5, None)


@cache
def _composed(line: int) -> dict[str, Any]:
    with composed([*LINES[line], "device=cpu", "real_root=nowhere"]) as composition:
        return composition.plain()


def attempt(case: Case) -> None:
    config = deepcopy(_composed(case.random.randrange(len(LINES))))
    for _ in range(1 if case.random.random() < 0.8 else 2):
        _change(config, case)
    methods, metrics = sweep.check(config)
    check_report(config, methods, metrics)
    if config["target"] not in TARGET_RULES:
        raise unknown("target rule", config["target"], TARGET_RULES)
    check_normalise(config["normalise"])
    registry.check_settings(config["data"])
    Device.of(config["device"])
    _assert_sane(config)


def _change(config: dict[str, Any], case: Case) -> None:
    places = list(_places(config))
    node, key, name = case.random.choice(places)
    what = case.random.random()
    if what < 0.75:
        node[key] = _value(node[key], places, case.random)
        case.say(f"{name} became {_shown(node[key])}")
    elif what < 0.85:
        del node[key]
        case.say(f"{name} is gone")
    else:
        added = case.random.choice(KEYS)
        node[added] = _value(node[key], places, case.random)
        case.say(f"beside {name} is {_shown(added)}: {_shown(node[added])}")


def _value(value: Any, places: list[tuple[dict[Any, Any], Any, str]], random: Random) -> Any:
    """Something hostile, another setting's value, or the value itself, hardly changed."""
    what = random.random()
    if what < 0.6:
        return deepcopy(random.choice(VALUES))
    if what < 0.8:
        node, key, _ = random.choice(places)
        return deepcopy(node[key])
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return random.choice((-value, value + 1, value * 10**6, value + 0.5, str(value), [value]))
    if isinstance(value, str):
        return random.choice((value.upper(), value * 2, value[:-1], f"{value}\n", f" {value}", [value], {value: value}))
    if isinstance(value, list):
        return random.choice((value[1:], value * 2, [value], tuple(value), value[0] if value else ""))
    return random.choice((list(value), dict.fromkeys(value), {}))


def _places(node: dict[Any, Any], prefix: str = "") -> Iterator[tuple[dict[Any, Any], Any, str]]:
    """Every setting: the mapping that holds it, its key there, and its name."""
    for key, value in list(node.items()):
        yield node, key, f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _places(value, f"{prefix}{key}.")


def _assert_sane(config: Mapping[str, Any]) -> None:
    """What a run writes down of its settings: it can be, and it stays in the run folder."""
    json.dumps({key: config[key] for key in config if key != "model"}, allow_nan=False)
    folder = run_folder(dict(config))
    assert Path(*folder.parts[-2:]) == Path(str(config["experiment"]), str(config["run"])), "a run folder elsewhere"
    model = ModelSpec.of(config["model"])
    for name in (model.name, config["data"].get("name", "scenes"), *config["method"], *config["metric"]):
        assert isinstance(name, str), f"{name!r} is no text"
        assert name.isprintable(), f"{name!r} can't be printed"
        assert Path(safe_name(name)).name == safe_name(name), f"{name!r} leads out of a folder"
        name.encode()


def _shown(value: object) -> str:
    return ascii(value)[:60] if value is not NESTED and not isinstance(value, list) else ascii(str(type(value)))


KIND = Kind(attempt, share=230)
