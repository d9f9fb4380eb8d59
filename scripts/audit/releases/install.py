"""Each release of a library, installed by pip into a folder of its own, without what it depends on."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .release import Release, shortened

SECONDS = 600  # for one command of pip
NO_DATE = "1980-01-01"  # of the entries of a zip file, where its maker leaves it out


def listed(library: str) -> list[str]:
    """The versions that pip offers for this Python, the oldest first. Raises SystemExit where pip offers none."""
    done = _pip("index", "versions", library)
    for line in done.stdout.splitlines():
        name, _, versions = line.partition(": ")
        if name == "Available versions":
            return versions.split(", ")[::-1]
    raise SystemExit(f"pip lists no versions of {library}: {_reason(done)}")


def install(library: str, version: str, folder: Path) -> Release:
    """The release in folder/installed, with the date of its archive's newest file; or why it can't be installed."""
    release = Release(library, version, folder, folder / "installed")
    with tempfile.TemporaryDirectory() as temporary:
        done = _pip("download", "--no-deps", "--dest", temporary, f"{library}=={version}")
        archives = list(Path(temporary).iterdir())
        if done.returncode or len(archives) != 1:
            return replace(release, failure=_reason(done))
        release = replace(release, date=newest(archives[0]))
        done = _pip("install", "--no-deps", "--upgrade", "--target", str(release.installed), str(archives[0]))
        return replace(release, failure=_reason(done) if done.returncode else "")


def newest(archive: Path) -> str:
    """The date of the newest file in a wheel or sdist, as 2024-10-09; empty for a wheel that was built without one."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            dates = ["{:04}-{:02}-{:02}".format(*entry.date_time) for entry in wheel.infolist()]
        return max((date for date in dates if date != NO_DATE), default="")
    with tarfile.open(archive) as sdist:
        seconds = max(member.mtime for member in sdist.getmembers())
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The error of the release's own build where pip shows one, else pip's."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"\w+(Error|Exception): |error in .* setup command: ", line)]
    errors = [line for line in lines if line.lower().startswith("error: ")]
    return shortened(next(iter([*own, *errors, *lines[-1:]]), f"pip ended with {done.returncode}"))
