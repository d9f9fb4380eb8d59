"""Compare this project's methods and metrics with other libraries', and write the pages of the audit.

    python -m scripts.audit [methods | metrics] [--docs docs]
    python -m scripts.audit --case grad_cam_ablation_value

Run at the root of a checkout with the extras `peers` and `quantus`; README.md beside this file says more.
"""

from __future__ import annotations

import axiom_bench  # noqa: F401 - before torchvision, which grad-cam imports

# isort: split
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import methods, metrics
from .libraries import PEERS, versions
from .pages import DOCS, cases

PARTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "methods": (methods.write, PEERS),
    "metrics": (metrics.write, (*PEERS, "quantus", "scikit-image")),
}


def missing(parts: Iterable[str]) -> list[str]:
    """The distributions that these parts need, beside what the project needs itself, and that aren't installed."""
    required = dict.fromkeys(name for part in parts for name in PARTS[part][1])
    return [name for name in required if name not in versions(required)]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen part, by default both."""
    parser = ArgumentParser("python -m scripts.audit", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=PARTS, help="what to compare; by default both")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    parser.add_argument("--case", metavar="NAME", help="run one case alone, and print what it prints")
    options = parser.parse_args(argv)
    if options.case:
        (case,) = [case for part in PARTS for case in cases(part) if case.name == options.case]
        print(*case.run(), sep="\nreproduced: ")
        return
    chosen = [options.part] if options.part else list(PARTS)
    if absent := missing(chosen):
        raise SystemExit(f"Not installed: {', '.join(absent)}; pip install -c requirements.lock -e '.[peers,quantus]'.")
    for name in chosen:
        PARTS[name][0](options.docs)


if __name__ == "__main__":
    main()
