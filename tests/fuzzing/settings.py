"""Composed configurations with changed settings, checked as a run does before it loads a model.

Composing takes a fifth of a second, so a few command lines are composed once per process, and the
values are put into the results. Settings that the checks accept must be fit to be stored: see
`_check_sane`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

from axiom_bench.cli.benchmark import check_report
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.errors import unknown_name
from axiom_bench.explanation.explanation import check_normalise
from axiom_bench.models.spec import ModelSpec
from axiom_bench.records.files import safe_name
from axiom_bench.run import spine
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.device import Device
from axiom_bench.run.composing.settings import Settings
from tests.fuzzing.damage import ANYTHING, places

LINES = (
    ("model=scenes_vgg", "method=[cam,guided_xgrad_cam,random]", "metric=[srg,zeta,box_iou]"),
    (
        "data=mosaic",
        "model=scenes_resnet",
        "method=[grad_cam]",
        "metric=[max_box_acc_v2,mask_iou,confidence_drop]",
    ),
    (
        "data=folder",
        "model=user",
        "model.architecture=net.py:build",
        "model.weights=null",
        "peers=[grad_cam@torchcam]",
    ),
    ("data=voc", "model=resnet18", "spoiled=[noise]", "metric=[road_morf,class_discriminability]"),
)
VALUES = st.sampled_from(
    (
        0, -1, 2**63, 1e308, math.nan, math.inf,
        "", "nan", "???", "..", "../../../evil", "/", "a/b", "a\\b", "a\nb", "~nobody_here/x",
        "\x1b[31m", "\ud800", "caf\udce9", "\u202e", "os.getcwd",
        [], ["a", "a"], {5: 1}, {"_target_": 5}, {"": {}},
    )
)  # fmt: skip
KEYS = ("x", "", "_target_", "params", "nmae", "a/b", "a" * 1000, "\ud800", 5, None)


@cache
def _composed(line: tuple[str, ...]) -> dict[str, Any]:
    with composed([*line, "device=cpu", "real_root=nowhere"]) as composition:
        return composition.plain()


def attempt(draw: st.DrawFn, folder: Path) -> None:
    config = deepcopy(_composed(draw(st.sampled_from(LINES))))
    for _ in range(draw(st.sampled_from((1, 1, 1, 1, 2)))):
        settings = [(holder, key) for holder, key in places(config) if isinstance(holder, dict)]
        holder, key = draw(st.sampled_from(settings))
        how = draw(st.sampled_from(("replaced",) * 8 + ("removed",) + ("added",) * 2))
        if how == "removed":
            del holder[key]
        else:
            of_another, other = draw(st.sampled_from(settings))
            near = st.sampled_from(_near(holder[key]))
            value = draw(VALUES | ANYTHING | near | st.just(of_another[other]))
            key = key if how == "replaced" else draw(st.sampled_from(KEYS))
            holder[key] = deepcopy(value)
        note(f"{key!a:.40} {how}")
    check(config)


def check(config: dict[str, Any]) -> None:
    """Check everything that a run checks before it loads a model. Raise BenchError."""
    settings, methods, metrics = spine.checked(config)
    check_report(settings.report, methods, metrics)
    if settings.target not in TARGET_RULES:
        raise unknown_name("target rule", settings.target, TARGET_RULES)
    check_normalise(settings.normalise)
    Device.of(settings.device)
    _check_sane(config, settings)


def _near(value: Any) -> tuple[Any, ...]:
    """The value, hardly changed."""
    if isinstance(value, bool) or value is None:
        return (str(value),)
    if isinstance(value, int | float):
        return (
            -value,
            value + 1,
            value * 10**6,
            value / 2 if abs(value) < 1e300 else 0.5,
            str(value),
            [value],
        )
    if isinstance(value, str):
        return (
            value.upper(),
            value * 2,
            value[:-1],
            f"{value}\n",
            f" {value}",
            [value],
            {value: value},
        )
    if isinstance(value, list | tuple):
        return (value[1:], value * 2, [value], tuple(value), value[0] if value else "")
    return (list(value), dict.fromkeys(value), {})


def _check_sane(config: Mapping[str, Any], settings: Settings) -> None:
    """Check that a run can write down its settings and that they stay in the run folder."""
    assert settings.model_dump() == {"protocol": None, **config}, (
        "other settings than the configuration's"
    )
    json.dumps({key: config[key] for key in config if key != "model"}, allow_nan=False)
    folder = settings.run_folder
    assert Path(*folder.parts[-2:]) == Path(str(config["experiment"]), str(config["run"])), (
        "a run folder elsewhere"
    )
    model = ModelSpec.of(config["model"])
    for name in (
        model.name,
        config["data"].get("name", "scenes"),
        *config["method"],
        *config["metric"],
    ):
        assert isinstance(name, str), f"{name!r} is no text"
        assert name.isprintable(), f"{name!r} can't be printed"
        assert Path(safe_name(name)).name == safe_name(name), f"{name!r} leads out of a folder"
        name.encode()
