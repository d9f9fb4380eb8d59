"""Compare this project's methods and metrics with other libraries', and write the pages of the audit.

    python -m scripts.audit [methods | metrics] [--docs docs]
    python -m scripts.audit releases [--help]

Run at the root of a checkout with the extras `peers` and `quantus`; README.md beside this file says more.
"""

from __future__ import annotations

import axiom_bench  # noqa: F401 - before torchvision, which grad-cam imports

# isort: split
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from .libraries import missing
from .methods.cases_of_photographs import MEASURES
from .methods.findings import Networks, measured_methods
from .methods.page import methods_page
from .metrics.findings import measured_metrics
from .metrics.page import metrics_page, with_summary
from .releases import command as releases

DOCS = Path(__file__).resolve().parents[2] / "docs"


def write_methods(docs: Path) -> None:
    """Measure all methods and write audit.md."""
    networks = Networks()
    findings = measured_methods(networks)
    measured = {name: measure(*networks.explained) for name, measure in MEASURES.items()}
    _write(docs / "audit.md", methods_page(findings, measured))


def write_metrics(docs: Path) -> None:
    """Measure all metrics, write metrics-audit.md, and renew the table of metrics.md where the folder has that page."""
    findings = measured_metrics()
    _write(docs / "metrics-audit.md", metrics_page(findings))
    metrics = docs / "metrics.md"
    if metrics.is_file():
        _write(metrics, with_summary(metrics.read_text(), findings))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    print(f"page: {path}", flush=True)


def _check(parts: list[str]) -> None:
    if absent := missing(parts):
        raise SystemExit(f"Not installed: {', '.join(absent)}; pip install -c requirements.lock -e '.[peers,quantus]'.")


PARTS = {"methods": write_methods, "metrics": write_metrics}


def main() -> None:
    """Run the chosen parts, both by default; `releases` has options of its own."""
    parser = ArgumentParser("python -m scripts.audit", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=PARTS, help="what to compare; both by default")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages")
    if sys.argv[1:2] == ["releases"]:
        _check(["methods"])  # what a release depends on is that of the newest
        releases.main(sys.argv[2:])
        return
    options = parser.parse_args()
    chosen = [options.part] if options.part else list(PARTS)
    _check(chosen)
    for name in chosen:
        PARTS[name](options.docs)


if __name__ == "__main__":
    main()
