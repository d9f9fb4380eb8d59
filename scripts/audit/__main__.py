"""Compare this project's methods and metrics with other libraries', and write the pages of the audit.

    python -m scripts.audit [methods | metrics] [--docs docs]
    python -m scripts.audit releases [--library torchcam] [--folder FOLDER] [--installed FOLDER]

Run at the root of a checkout with the extras `peers` and `quantus`; README.md beside this file says more.
"""

from __future__ import annotations

import axiom_bench  # noqa: F401 - before torchvision, which grad-cam imports

# isort: split
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from .libraries import PEERS, versions
from .methods import page as methods
from .metrics import page as metrics
from .pages import DOCS
from .releases import page as releases
from .releases.release import CACHE, LIBRARIES

REQUIRED = {
    "methods": PEERS,
    "metrics": (*PEERS, "quantus", "scikit-image"),
    "releases": PEERS,  # what a release depends on is that of the newest
}


def missing(parts: Iterable[str]) -> list[str]:
    """The distributions that these parts need, beside what the project needs itself, and that aren't installed."""
    required = dict.fromkeys(name for part in parts for name in REQUIRED[part])
    installed = versions(required)
    return [name for name in required if name not in installed]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen part, by default methods and metrics."""
    parser = ArgumentParser("python -m scripts.audit", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=REQUIRED, help="what to compare; by default methods and metrics")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    of_releases = parser.add_argument_group("releases")
    of_releases.add_argument("--folder", type=Path, default=CACHE, help="keeps releases and results; %(default)s")
    of_releases.add_argument("--library", action="append", choices=LIBRARIES, help="of these alone; default: all")
    of_releases.add_argument(
        "--installed", action="append", type=Path, default=[], metavar="FOLDER",
        help="of pip install --target; measures these alone, and asks pip for none",
    )  # fmt: skip
    of_releases.add_argument("--photographs", type=int, default=8, help="0: the tiny network alone")
    options = parser.parse_args(argv)
    parts: dict[str, Callable[[Path], None]] = {
        "methods": methods.write,
        "metrics": metrics.write,
        "releases": partial(
            releases.write, options.folder.absolute(), options.library, options.installed, options.photographs
        ),
    }
    chosen = [options.part] if options.part else ["methods", "metrics"]
    if absent := missing(chosen):
        raise SystemExit(f"Not installed: {', '.join(absent)}; pip install -c requirements.lock -e '.[peers,quantus]'.")
    for name in chosen:
        parts[name](options.docs)


if __name__ == "__main__":
    main()
