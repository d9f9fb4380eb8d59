"""Suites: frozen experiments, `suite=NAME`, whose values can be compared with the published ones.

A suite has parts, each a run of its own. Of all that decides its values, only the methods may be
changed. Networks and images must be those that were frozen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, unknown_name

SUITE = "suite"  # the word of the command line
PART = "suite_part"  # the setting of a run
EXPERIMENT = "suite"  # the experiment whose folder has the runs
HASH_DIGITS = 12  # of a suite's SHA-256 in the settings of its runs
FREE_GROUPS = (  # groups that a user may set
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
# settings that a user may set, in groups that are fixed
FREE_SETTINGS = ("data.root", "data.workers", "data.cache", "model.weights_folder")
# settings that are fixed, in groups that a user may set
FIXED_SETTINGS = (
    "device.precision",
    "device.head_precision",
    "device.ablation_channels",
    "device.deterministic",
)


@dataclass(frozen=True)
class Part:
    """A part of a suite, which is one run.

    Attributes:
        overrides: The part's command line.
        frozen: The frozen facts, as a run's manifest has them; {} until the part is frozen.
            "models" has {name: [layer, SHA-256 of the weights, or its beginning]}, "data" has
            {name: fingerprint}, "metrics" has {name: [target, params]}. If the content of the
            images wasn't available, "names" replaces "data" (see `run.frozen`).
        note: A sentence about the images that every table of the part's values has.
    """

    overrides: tuple[str, ...]
    frozen: Mapping[str, Mapping[str, Any]]
    note: str

    @property
    def num_jobs(self) -> int:
        """The number of the part's jobs: one per network."""
        networks = next((word for word in self.overrides if word.startswith("model=")), "")
        return networks.count(",") + 1


@dataclass(frozen=True)
class Suite:
    """A suite, as its file in conf/suite/ defines it.

    Attributes:
        name: The suite's name.
        sha256: The SHA-256 of all that the file contains except comments.
        parts: The parts by name.
    """

    name: str
    sha256: str
    parts: Mapping[str, Part]

    @staticmethod
    def of(name: str) -> Suite:
        """Return the suite of conf/suite/<name>.yaml.

        Raises:
            BenchError: If there is no such suite. The message has the nearest names.
        """
        files = {path.stem: path for path in (conf_folder() / SUITE).glob("*.yaml")}
        if name not in files:
            raise unknown_name("suite", name, files)
        content = read_yaml(files[name])
        frozen = content.get("frozen") or {}
        notes = content.get("notes") or {}
        parts = {}
        for part, overrides in content["parts"].items():
            parts[part] = Part(
                overrides=(*content["shared"], *overrides),
                frozen=frozen.get(part) or {},
                note=notes.get(part, ""),
            )
        text = json.dumps(content, sort_keys=True)
        return Suite(name, hashlib.sha256(text.encode()).hexdigest(), parts)

    def part(self, name: str) -> Part:
        """Return the part of this name.

        Raises:
            BenchError: If there is no such part. The message has the nearest names.
        """
        if name not in self.parts:
            raise unknown_name("part", name, self.parts, place=f"of the suite {self.name}")
        return self.parts[name]


def chosen_part(overrides: Sequence[str]) -> tuple[str, str] | None:
    """Return the (suite, part) that suite=NAME or suite=NAME/PART among the overrides chooses.

    Returns:
        The names, with "" for all parts; None if there is no suite among the overrides.

    Raises:
        BenchError: If two suites are chosen.
    """
    names = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == SUITE:
            names.append(value)
    if not names:
        return None
    if len(names) > 1:
        raise BenchError(
            f"suite={names[0]} and suite={names[1]} are two runs; start one after the other."
        )
    suite, _, part = names[0].partition("/")
    return suite, part


def part_command_lines(overrides: Sequence[str]) -> list[list[str]]:
    """Return the command lines of all parts if the overrides choose a whole suite, otherwise only
    the overrides.
    """
    suite, part = chosen_part(overrides) or ("", "")
    if not suite or part:
        return [list(overrides)]
    rest = [override for override in overrides if override.partition("=")[0] != SUITE]
    return [[f"{SUITE}={suite}/{name}", *rest] for name in Suite.of(suite).parts]


def num_jobs(overrides: Sequence[str]) -> int:
    """Return the number of jobs of the suite, or of the part, that the overrides choose."""
    suite, part = chosen_part(overrides) or ("", "")
    parts = Suite.of(suite).parts
    return sum(parts[name].num_jobs for name in parts if part in ("", name))


def expand_suite(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, with those of the suite's part in the place of suite=NAME/PART.

    Without a part, the suite's first part is used.

    Raises:
        BenchError: If an override sets what the suite fixes.
    """
    suite, part = chosen_part(overrides) or ("", "")
    if not suite:
        return list(overrides)
    content = Suite.of(suite)
    part = part or next(iter(content.parts))
    part_overrides = content.part(part).overrides
    rest = [override for override in overrides if override.partition("=")[0] != SUITE]
    for override in rest:
        _check_free(suite, override)
    return [
        f"experiment={EXPERIMENT}",
        f"run={suite}-{part}",
        f"{PART}='{suite}/{part}@{content.sha256[:HASH_DIGITS]}'",
        *part_overrides,
        *rest,
    ]


def _check_free(suite: str, override: str) -> None:
    """Raise BenchError for an override of a setting that the suite fixes."""
    key = override.partition("=")[0].lstrip("+~")
    group = key.partition(".")[0].partition("/")[0]
    if key in FREE_SETTINGS or (group in FREE_GROUPS and key not in FIXED_SETTINGS):
        return
    raise BenchError(
        f"The suite {suite} fixes {key}: leave {override} out to compare with the published "
        "values, or run it without suite=. You can set methods, device, executor, results, "
        "real_root, data.root, data.workers, data.cache and model.weights_folder."
    )
