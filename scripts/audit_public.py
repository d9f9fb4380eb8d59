"""Audit CAM implementations that PyPI has, each in an environment of its own, and write
docs/studies/audit-of-public-code.md.

    python scripts/audit_public.py FOLDER

FOLDER keeps the environments and the answers, so that a stopped command continues. An environment
has one package with its own dependencies, and this environment's packages behind them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = ROOT / "scripts" / "public_cams.py"
PAGE = ROOT / "docs" / "studies" / "audit-of-public-code.md"
START = "<!-- table: scripts/audit_public.py -->"
END = "<!-- end of the table -->"
INSTALL_SECONDS = 240
AUDIT_SECONDS = 900


@dataclass(frozen=True)
class Package:
    """A distribution and its implementations.

    Attributes:
        name: The name on PyPI.
        targets: Paths of implementations, as `axiom-bench audit` takes them. A path without a
            colon is a function of public_cams.py, for classes of other forms.
    """

    name: str
    targets: tuple[str, ...]


PACKAGES = (
    Package(
        "grad-cam",
        tuple(
            f"pytorch_grad_cam:{name}"
            for name in ("GradCAM", "XGradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM")
        ),
    ),
    Package(
        "torchcam",
        tuple(
            f"torchcam.methods:{name}" for name in ("GradCAM", "XGradCAM", "GradCAMpp", "LayerCAM")
        ),
    ),
    Package("captum", ("captum.attr:LayerGradCam",)),
    Package("pytorch-gradcam", ("pytorch_gradcam", "pytorch_gradcam_pp")),
    Package("torchray", ("torchray",)),
    Package("monai", ("monai_grad_cam", "monai_grad_cam_pp")),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: an implementation with its answer, or why there is none."""

    package: str
    version: str
    target: str
    verdict: str
    findings: str = ""


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / "bin" / "python"


def installed(package: Package, folder: Path) -> str:
    """Install a package into its own environment.

    Args:
        package: The package.
        folder: The environment's folder, made if it doesn't exist.

    Returns:
        Its version, or "" if pip fails.
    """
    python = python_of(folder)
    if not python.exists():
        venv.create(folder, with_pip=False)
        inside = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        parent = sysconfig.get_paths()["purelib"]
        line = f"import site; site.addsitedir({parent!r})\n"
        (inside / "site-packages" / "parent.pth").write_text(line, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    ask = f"from importlib.metadata import version; print(version({package.name!r}))"
    try:
        run([*pip, "install", "--quiet", package.name], INSTALL_SECONDS)
        return run([str(python), "-c", ask], INSTALL_SECONDS).strip().splitlines()[-1]
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ""


def run(command: Sequence[str], seconds: int) -> str:
    """Run a command and return its output."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds)
    return done.stdout


def audited(target: str, folder: Path, output: Path) -> dict[str, Any]:
    """Return the JSON of an audit, computed unless a file has it.

    Raises:
        RuntimeError: If the audit gives no answer, with its last line.
    """
    if not output.exists():
        path = target if ":" in target else f"{ADAPTERS}:{target}"
        command = [str(python_of(folder)), "-m", "axiom_bench", "audit", path]
        try:
            run([*command, "--json", str(output)], AUDIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no answer in {AUDIT_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["no message"]
            raise RuntimeError(lines[-1]) from error
    answer: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return answer


def rows_of(package: Package, folder: Path) -> list[Row]:
    """Return the lines of a package.

    Args:
        package: The package.
        folder: The folder of environments and answers.
    """
    environment = folder / f"env-{package.name}"
    version = installed(package, environment)
    if not version:
        return [Row(package.name, "", "", "doesn't install here")]
    rows = []
    for target in package.targets:
        output = folder / f"{package.name}-{target.replace(':', '-')}.json"
        try:
            answer = audited(target, environment, output)
        except RuntimeError as error:
            rows.append(Row(package.name, version, target, f"no answer: {error}"))
            continue
        verdict = answer["verdict"].partition(" ")[2]
        keys = [finding["key"] for part in ("effects", "dependences") for finding in answer[part]]
        rows.append(Row(package.name, version, target, verdict, ", ".join(keys)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| package | version | implementation | answer | findings |"]
    lines.append("| :--- | :--- | :--- | :--- | :--- |")
    for row in rows:
        verdict = row.verdict.replace("|", "\\|")
        target = f"`{row.target}`" if row.target else ""
        cells = (row.package, row.version, target, verdict, row.findings)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Audit all packages and write the table into the page."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for package in PACKAGES:
        print(package.name, flush=True)
        rows += rows_of(package, folder)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    text = f"{before}{START}\n\n{table(rows)}\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
