"""The settings that a command line may get wrong: checked before anything is computed, one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from axiom_bench.errors import BenchError, unknown

SECTIONS = ("metrics", "runtime", "report", "pictures", "method", "metric")  # of settings: each holds some
OWN_KEYS = ("method", "metric", "model", "data")  # whoever reads these knows their keys


def _whole(least: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value != "") or _whole(0)(value)


EXPECTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "results": (_is_name, "a folder"),
    "run": (_is_name, "the name of a folder"),
    "shard_size": (_whole(1), "a number of images, 1 or more"),
    "data.root": (lambda value: isinstance(value, str), "a folder"),
    "data.classes": (lambda value: value is None or isinstance(value, str | list), "a list, a file or null"),
    "data.size": (lambda value: value is None or _whole(1)(value), "a number of images, 1 or more, or null for all"),
    "data.seed": (_whole(0), "a whole number, 0 or more"),
    "data.only_classes": (lambda value: value is None or isinstance(value, list), "a list of classes, or null for all"),
    "data.only_correct": (lambda value: isinstance(value, bool), "true or false"),
    "data.batch_size": (_whole(1), "a number of rows, 1 or more"),
    "data.workers": (_whole(0), "a number of processes, 0 or more"),
    "metrics.max_forwards_per_image": (
        lambda value: value is None or _whole(0)(value),
        "a number of forward passes, or null for no budget",
    ),
    "runtime.repeats": (_whole(0), "a whole number, 0 for no timing"),
    "runtime.batch_size": (_whole(1), "a number of rows, 1 or more"),
    "pictures.rows": (_whole(0), "a number of rows, 0 for no pictures"),
    "pictures.perturbation": (lambda value: isinstance(value, str), "a metric that perturbs, as confidence_drop"),
    "report.headline": (lambda value: isinstance(value, list), "a list of metrics, as [zeta,epsilon]"),
    "report.columns": (lambda value: isinstance(value, list), "a list of metrics, as [box_iou,insertion_auc]"),
    "device.deterministic": (lambda value: isinstance(value, bool), "true or false"),
}


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value of the wrong type."""
    for key in SECTIONS:
        if not isinstance(config[key], Mapping):
            raise BenchError(
                f"{key} is a group of settings, of which you set one, as {key}.NAME=..., not {config[key]!r}."
            )
    for key, value in settings(config):
        if value == "???":
            raise BenchError(f"{key} has no default: say {key}=VALUE.")
        fits, expected = EXPECTED.get(key, (None, ""))
        if fits and not fits(value):
            raise BenchError(f"{key} must be {expected}, not {value!r}.")


def check_keys(config: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises BenchError for a key that was added with + and that nobody would read. known: the keys there are."""
    there = set(known)
    for key, _ in settings(config):
        if key not in there and key.partition(".")[0] not in OWN_KEYS:
            raise unknown("setting", key, there)


def settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as it is written on the command line, and its value."""
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")
