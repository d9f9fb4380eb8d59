"""Install and measure the releases that aren't yet, and write the page from the files of all of them.

python -m scripts.audit releases [--library torchcam] [--folder FOLDER] [--installed FOLDER] [--page FILE]
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from pathlib import Path

from .install import install, listed
from .page import page
from .release import LIBRARIES, Release, installed_in, stored, write_json

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "peers-over-releases.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "axiom-bench" / "releases"
PHOTOGRAPHS = 8
SECONDS = 1800  # for one release


def main(argv: Sequence[str]) -> None:
    """Every release in turn, the newest first; then the page."""
    parser = ArgumentParser(
        "python -m scripts.audit releases", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=CACHE, help="keeps releases and results; default: %(default)s")
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="of these alone; default: all")
    parser.add_argument(
        "--installed", action="append", type=Path, default=[], metavar="FOLDER",
        help="of pip install --target; measures these alone, and asks pip for none",
    )  # fmt: skip
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS, help="0: the tiny network alone")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default: docs/{PAGE.name}")
    options = parser.parse_args(argv)
    folder = options.folder.absolute()
    given = [_given(path, folder) for path in options.installed]
    for release in given or _from_pip(options.library or list(LIBRARIES), folder):
        if not release.failure and not release.result.is_file():
            measure(release, options.photographs)
    options.page.write_text(page(stored(folder)))
    print(f"page: {options.page}", flush=True)


def _given(path: Path, folder: Path) -> Release:
    """A user's own. Raises SystemExit where the same version was measured from somewhere else."""
    release = installed_in(path, folder)
    for other in stored(folder):
        if other.folder == release.folder and other.installed != release.installed:
            raise SystemExit(f"{folder} has {release.library} {release.version} of {other.installed}; add --folder.")
    return release


def _from_pip(libraries: Sequence[str], folder: Path) -> Iterator[Release]:
    """The releases that pip offers, installed where they aren't, the newest first."""
    known = {(release.library, release.version): release for release in stored(folder)}
    for library in libraries:
        for version in reversed(listed(library)):
            release = known.get((library, version)) or install(library, version, folder / library / version)
            release.write()
            yield release


def measure(release: Release, photographs: int) -> None:
    """Run `measure` on it in a process of its own; where that dies, what it said last is the release's failure.

    Raises SystemExit for an error of our own code, which says nothing about the release.
    """
    release.write()
    command = [sys.executable, "-m", "scripts.audit.releases.measure"]
    settings = [release.folder, release.library, release.version, release.installed, photographs]
    try:
        done = subprocess.run(
            [*command, *map(str, settings)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        failure = _last_line(done.stderr) or f"exit status {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"not done after {SECONDS} seconds"
    if "axiom_bench" in failure:
        raise SystemExit(f"{release.library} {release.version} isn't measured: {failure}")
    if failure:
        write_json(release.result, {"failure": failure, "failures": {}, "earlier": [], "versions": {}, "cases": {}})
    print(f"{release.library} {release.version}: {failure or 'measured'}", flush=True)


def _last_line(text: str) -> str:
    return next(iter(text.strip().splitlines()[::-1]), "")
