"""Suites: frozen experiments, `suite=NAME`. A suite has parts, each a run of its own; nothing that
decides its values but the methods may be changed, and networks and images must be those that were
frozen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, unknown

SUITE, PART = "suite", "suite_part"  # on the command line, and the setting of a run
EXPERIMENT = "suite"  # in whose folder the runs are
DIGITS = 12  # of a suite's SHA-256 in the settings of its runs
FREE = (
    "method",
    "peers",
    "device",
    "executor",
    "results",
    "real_root",
    "hydra",
    "runtime",
    "report",
    "pictures",
)
FREE_SETTINGS = (
    "data.root",
    "data.workers",
    "data.cache",
    "model.weights_folder",
)  # of groups that are fixed
FIXED_SETTINGS = tuple(  # of groups that are free
    f"device.{name}"
    for name in ("precision", "head_precision", "ablation_channels", "deterministic")
)


@dataclass(frozen=True)
class Part:
    """overrides: its command line. frozen: {"models": {name: [layer, SHA-256 of the weights, or how
    it begins]}, "data": {name: fingerprint}, "metrics": {name: [target, params]}}, as a run's
    manifest has them; {} until it is frozen. "names": {name: see `run.frozen`} in the place of
    "data" where the images' content wasn't at hand. note: what every table of its values says of
    the images.
    """

    overrides: tuple[str, ...]
    frozen: Mapping[str, Mapping[str, Any]]
    note: str

    @property
    def num_jobs(self) -> int:
        """The number of its jobs: one for each network."""
        networks = next((word for word in self.overrides if word.startswith("model=")), "")
        return networks.count(",") + 1


@dataclass(frozen=True)
class Suite:
    """sha256: of all that its file holds but comments."""

    name: str
    sha256: str
    parts: Mapping[str, Part]

    @staticmethod
    def of(name: str) -> Suite:
        """conf/suite/<name>.yaml. Raises BenchError, with the nearest, where there is none."""
        files = {path.stem: path for path in (conf_folder() / SUITE).glob("*.yaml")}
        if name not in files:
            raise unknown("suite", name, files)
        content = read_yaml(files[name])
        frozen, notes = content.get("frozen") or {}, content.get("notes") or {}
        parts = {
            part: Part(
                (*content["shared"], *overrides), frozen.get(part) or {}, notes.get(part, "")
            )
            for part, overrides in content["parts"].items()
        }
        text = json.dumps(content, sort_keys=True)
        return Suite(name, hashlib.sha256(text.encode()).hexdigest(), parts)

    def part(self, name: str) -> Part:
        """Raises BenchError, with the nearest, where there is none."""
        if name not in self.parts:
            raise unknown(f"part of the suite {self.name}", name, self.parts)
        return self.parts[name]


def chosen(overrides: Sequence[str]) -> tuple[str, str] | None:
    """(suite, part) of suite=NAME or suite=NAME/PART among the overrides, the part "" for all; None
    without a suite. Raises BenchError for two.
    """
    names = [value for key, _, value in (each.partition("=") for each in overrides) if key == SUITE]
    if len(names) > 1:
        raise BenchError(
            f"suite={names[0]} and suite={names[1]} are two runs; start one after the other."
        )
    return None if not names else names[0].partition("/")[::2]


def each_part(overrides: Sequence[str]) -> list[list[str]]:
    """The command lines of a suite's parts, where the overrides choose it whole; else the one that
    they are.
    """
    suite, part = chosen(overrides) or ("", "")
    if not suite or part:
        return [list(overrides)]
    rest = [each for each in overrides if each.partition("=")[0] != SUITE]
    return [[f"{SUITE}={suite}/{name}", *rest] for name in Suite.of(suite).parts]


def num_jobs(overrides: Sequence[str]) -> int:
    """Return the number of jobs of the suite, or of the part, that the overrides choose."""
    suite, part = chosen(overrides) or ("", "")
    parts = Suite.of(suite).parts
    return sum(parts[name].num_jobs for name in parts if part in ("", name))


def expanded(overrides: Sequence[str]) -> list[str]:
    """The overrides, with those of the suite's part, or its first part, in the place of
    suite=NAME/PART. Raises BenchError for one that the suite fixes.
    """
    suite, part = chosen(overrides) or ("", "")
    if not suite:
        return list(overrides)
    part = part or next(iter(Suite.of(suite).parts))
    rest = [each for each in overrides if each.partition("=")[0] != SUITE]
    for override in rest:
        _check_free(suite, override)
    chosen_suite = Suite.of(suite)
    fixed, which = (
        chosen_suite.part(part).overrides,
        f"{suite}/{part}@{chosen_suite.sha256[:DIGITS]}",
    )
    return [f"experiment={EXPERIMENT}", f"run={suite}-{part}", f"{PART}='{which}'", *fixed, *rest]


def _check_free(suite: str, override: str) -> None:
    key = override.partition("=")[0].lstrip("+~")
    if key in FREE_SETTINGS or (
        key.partition(".")[0].partition("/")[0] in FREE and key not in FIXED_SETTINGS
    ):
        return
    raise BenchError(
        f"The suite {suite} fixes {key}: leave {override} out, so that values can stand beside "
        "the published ones, or run it without suite=. Free are methods, device, executor, "
        "results, real_root, data.root, data.workers, data.cache and model.weights_folder."
    )
