"""Baselines: CSV files that a reviewer can read in a diff.

Lines that start with `#` hold the configuration, what it was written with and why; then comes one row for each model,
layer, data set, method and metric. Seconds are never in it: they belong to a machine.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError, unknown
from axiom_bench.gate import by_image, network_rows, text
from axiom_bench.gate.findings import KEY
from axiom_bench.gate.limits import tolerance
from axiom_bench.gate.text import COLUMNS, DIGITS
from axiom_bench.records import files, running
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import summarise

WHOLE_SET = " (whole set)"  # after the name of a metric's value of the whole data set
IMAGES = "images of "  # begins the keys of a configuration that name the images
WRITTEN_WITH, RUN_TIME_ON = "written with", "run time on"
MAX_REASON = 500  # characters
LIBRARIES = ("axiom-bench", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class Baseline:
    """configuration: what must be the same for two runs to be compared. rows: text.COLUMNS, sorted, numbers to 6
    digits. versions: of the libraries of the run. history: see `_history_line`, the oldest first. by_image: what the
    header says of the values by image, None without any. timed_on: the device of the run times, None without any."""

    configuration: dict[str, str]
    rows: pd.DataFrame
    versions: str = ""
    history: tuple[str, ...] = field(default=())
    by_image: str | None = None
    timed_on: str | None = None

    @classmethod
    def of(cls, run: RunFolder, timed: str | None = None) -> Baseline:
        """timed: how far run times may move, as "50%"; None leaves them out.

        Raises BenchError where the run has no records, or a metric without a tolerance.
        """
        rows = pd.concat([_rows(run), network_rows.accuracies(run)], ignore_index=True)
        if timed is not None:
            rows = pd.concat([rows, network_rows.run_times(run, timed)], ignore_index=True)
        for statistic in ("mean", "median"):
            rows[statistic] = [float(f"{value:.{DIGITS}g}") for value in rows[statistic]]
        rows = rows.sort_values(list(KEY), ignore_index=True)[list(COLUMNS)]
        timed_on = None if timed is None else network_rows.timed_device(run)
        return cls(_configuration(run), rows, _versions(run.manifest), timed_on=timed_on)

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Raises BenchError for a file that is missing or that `write` wouldn't have written."""
        header, rows = text.read(file)
        configuration = {name: value for name, value in header if name != text.HISTORY}
        lines = tuple(value for name, value in header if name == text.HISTORY)
        versions, values, timed_on = (
            configuration.pop(name, None) for name in (WRITTEN_WITH, by_image.HEADER, RUN_TIME_ON)
        )
        return cls(configuration, rows, versions or "", lines, values, timed_on)

    def write(self, file: Path) -> None:
        """Raises BenchError where the file can't be written, or a name can't be in it."""
        optional = {WRITTEN_WITH: self.versions, by_image.HEADER: self.by_image, RUN_TIME_ON: self.timed_on}
        header = [
            *self.configuration.items(),
            *((name, value) for name, value in optional.items() if value),
            *((text.HISTORY, line) for line in self.history),
        ]
        files.write(file, text.render(header, self.rows).encode())

    @property
    def timed(self) -> str | None:
        """How far run times may move, as "50%"; None where there are none."""
        rules = self.rows.loc[self.rows["metric"].map(network_rows.is_run_time), "tolerance"]
        return None if rules.empty else str(rules.iloc[0]).partition(":")[2]


def baseline_of(run_folder: Path) -> pd.DataFrame:
    """A run's baseline rows, sorted, numbers to 6 significant digits. Raises BenchError where the run can't be read,
    has no records, or has a metric without a tolerance."""
    return Baseline.of(RunFolder.read(Path(run_folder))).rows


def write_baseline(
    run_folder: Path, file: Path, reason: str | None = None, sampled: bool = False, timed: str | None = None
) -> Path:
    """Write a run's baseline.

    reason: why, kept in the header under the reasons of the baseline that it replaces. sampled: also the values by
    image. timed: also run times, and how far they may move, as "50%". What the replaced baseline has of these two is
    written again. Raises BenchError as `baseline_of`, and where the file can't be written or a name can't be in it.
    """
    file, run = Path(file), RunFolder.read(Path(run_folder))
    replaced = _replaced(file)
    new = Baseline.of(run, timed or (replaced.timed if replaced else None))
    lines = replaced.history if replaced else ()
    if reason is not None:
        lines = (*lines, _history_line(reason, file))
    text.render([], new.rows)  # refuses a name before anything is written
    keeps_values = sampled or (replaced is not None and replaced.by_image is not None)
    values = by_image.write(run, file) if keeps_values else None
    Baseline(new.configuration, new.rows, new.versions, lines, values, new.timed_on).write(file)
    return file


def find(baseline: Path) -> Path:
    """The file of a baseline: a path, or the bare name of one that comes with the package, as `quick`.

    Raises BenchError, with the nearest names, for a bare name of no file and no packaged baseline.
    """
    if baseline.exists() or baseline.suffix or len(baseline.parts) > 1:
        return baseline
    folder = resources.files("axiom_bench") / "baselines"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".csv")]
    if baseline.name not in names:
        raise unknown("baseline", baseline.name, names)
    return Path(str(folder / f"{baseline.name}.csv"))


def _replaced(file: Path) -> Baseline | None:
    """The baseline that stands where one is written; None where there is none. What is damaged is written anew."""
    try:
        return Baseline.read(file)
    except BenchError:
        return None


def _rows(run: RunFolder) -> pd.DataFrame:
    running.check_ended(run.path, run.manifest)
    if run.records.empty:
        raise BenchError(f"{run.path} has no records; run the same command again.")
    table = summarise(run.records, image_value_of=run.image_value_of)
    # A value of the whole data set that shares its metric's name would be a second row under one key.
    table["metric"] = table["metric"].mask(table["whole_set"], table["metric"] + WHOLE_SET)
    tolerances = {name: run.metadata.value(name).tolerance for name in run.metrics}
    for name, rule in tolerances.items():
        tolerance(rule, name)
    table["tolerance"] = table["metric"].str.removesuffix(WHOLE_SET).map(tolerances)
    return table[list(COLUMNS)]


def _configuration(run: RunFolder) -> dict[str, str]:
    """The experiment, target rule, precision and images of a run."""
    configuration = {
        "experiment": str(run.manifest.get("experiment")),
        "target": str(run.config.get("target")),
        "precision": json.dumps(run.manifest.get("precision")),
    }
    for name, data in sorted((run.manifest.get("data") or {}).items()):
        ids = data.get("ids") or []
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
        configuration[f"{IMAGES}{name}"] = f"{len(ids)}, ids {digest}"
    return configuration


def _versions(manifest: Mapping[str, object]) -> str:
    """The versions of LIBRARIES, as "torch 2.13.0, numpy 2.4.6"."""
    versions = manifest.get("versions")
    if not isinstance(versions, Mapping):
        return ""
    return ", ".join(f"{name} {versions[name]}" for name in LIBRARIES if versions.get(name))


def _history_line(reason: str, baseline: Path) -> str:
    """The date, the commit that the folder of the baseline is at, and the reason, in one line."""
    words = "".join(letter if letter.isprintable() else " " for letter in reason).split()
    commit = _commit(baseline.absolute().parent)
    at = f" at commit {commit}" if commit else ""
    return f"{datetime.now(UTC):%Y-%m-%d}{at}: {' '.join(words)[:MAX_REASON]}"


def _commit(folder: Path) -> str | None:
    """None outside of a git repository."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
