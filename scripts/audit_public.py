"""Audit CAM implementations that PyPI has, each in an environment of its own, and write
docs/studies/audit-of-public-code.md.

    python scripts/audit_public.py FOLDER            # all packages
    python scripts/audit_public.py FOLDER monai      # only these; the others keep their lines

FOLDER keeps the environments and the answers, so that a stopped command continues. An environment
has one package, and this environment's packages behind it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "studies" / "audit-of-public-code.md"
START = "<!-- table: scripts/audit_public.py -->"
END = "<!-- end of the table -->"
INSTALL_SECONDS = 240
AUDIT_SECONDS = 900
TORCHVISION = "import axiom_bench.data.torchvision_import"
NOT_IN_NAMES = r"[^\w.]+"


@dataclass(frozen=True)
class Package:
    """A distribution and its implementations.

    Most of these packages ask for versions of torch and NumPy that this environment hasn't got, or
    for dependencies that their CAMs don't need. So pip installs them without dependencies.
    """

    name: str
    """The name on PyPI."""
    module: str
    """The module that has the CAMs. If it can't be imported, the package is skipped."""
    audits: tuple[str, ...] = ()
    """What to write after `axiom-bench audit` for each implementation."""
    needs: tuple[str, ...] = ()
    """Further distributions that the module imports and this environment hasn't got."""
    without_cam: str = ""
    """Why the package has nothing to audit, if its module has no CAM for PyTorch."""


def of_module(module: str, *names: str) -> tuple[str, ...]:
    """Return the paths of a module's implementations."""
    return tuple(f"{module}:{name}" for name in names)


ADAPTERS = "scripts/public_cams.py"
SCIKIT_IMAGE = ("scikit-image", "lazy-loader", "imageio", "tifffile")
PACKAGES = (
    Package(
        "grad-cam",
        "pytorch_grad_cam",
        of_module(
            "pytorch_grad_cam", "GradCAM", "XGradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM"
        ),
        needs=("ttach",),
    ),
    Package(
        "torchcam",
        "torchcam.methods",
        of_module("torchcam.methods", "GradCAM", "XGradCAM", "GradCAMpp", "LayerCAM"),
    ),
    Package("captum", "captum.attr", of_module("captum.attr", "LayerGradCam")),
    Package(
        "torchxai-explain",
        "torchxai.methods",
        of_module("torchxai.methods", "GradCAM", "GradCAMPlusPlus", "LayerCAM", "EigenCAM"),
    ),
    Package(
        "bnnr",
        "bnnr.xai",
        (
            "bnnr.xai:generate_saliency_maps --with method=gradcam",
            "bnnr.xai:generate_saliency_maps --with method=opticam",
        ),
    ),
    Package("pytorch-gradcam", "gradcam", of_module("gradcam", "GradCAM", "GradCAMpp")),
    Package(
        "pnpxai",
        "pnpxai.explainers",
        of_module("pnpxai.explainers", "GradCam"),
        needs=(*SCIKIT_IMAGE, "zennit", "tabulate", "optuna", "colorlog", "shap", "slicer"),
    ),
    Package(
        "monai",
        "monai.visualize",
        (
            "monai.visualize:GradCAM",
            f"{ADAPTERS}:monai --with name=GradCAM",
        ),
    ),
    Package("torchray", "torchray.attribution.grad_cam", of_module(ADAPTERS, "torchray")),
    Package(
        "medcam",
        "medcam.medcam",
        (f"{ADAPTERS}:medcam --with backend=gcam",),
        needs=SCIKIT_IMAGE,
    ),
    Package(
        "openvino-xai",
        "openvino_xai.methods.white_box.torch",
        (
            f"{ADAPTERS}:openvino_recipro_cam",
            f"{ADAPTERS}:openvino_recipro_cam --with embed_scaling=False",
        ),
        needs=("openvino==2024.4.0", "openvino-telemetry"),
    ),
    Package(
        "omnixai",
        "omnixai.explainers.vision.specific.gradcam",
        (
            f"{ADAPTERS}:omnixai --with name=GradCAM",
            f"{ADAPTERS}:omnixai --with name=GradCAMPlus",
            f"{ADAPTERS}:omnixai --with name=LayerCAM",
        ),
        needs=(
            *SCIKIT_IMAGE,
            "setuptools<81",
            "dill",
            "multiprocess",
            "lime",
            "shap",
            "slicer",
            "SALib",
            "openai",
            "sniffio",
        ),
    ),
    Package(
        "flashtorch",
        "flashtorch.saliency",
        without_cam="it has no CAM; its saliency maps are gradients of the image",
    ),
    Package(
        "xplique",
        "xplique.attributions",
        without_cam="its CAMs are for TensorFlow; its wrapper for PyTorch has none",
    ),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: an implementation with its answer, or why there is none."""

    package: str
    version: str
    implementation: str
    answer: str
    findings: str = ""


def python_of(environment: Path) -> Path:
    """Return the interpreter of an environment."""
    return environment / "bin" / "python"


def make_environment(environment: Path) -> None:
    """Make an environment that finds this environment's packages after its own."""
    venv.create(environment, with_pip=False)
    python_name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    own_packages = environment / "lib" / python_name / "site-packages"
    packages_behind = sysconfig.get_paths()["purelib"]
    line = f"import site; site.addsitedir({packages_behind!r})\n"
    (own_packages / "parent.pth").write_text(line, encoding="utf-8")


def install(package: Package, environment: Path) -> str:
    """Install a package into its own environment, and return its version.

    Args:
        package: The package.
        environment: The environment's folder, made if it doesn't exist.

    Raises:
        RuntimeError: If pip fails, or the package's module can't be imported.
    """
    python = str(python_of(environment))
    if not Path(python).exists():
        make_environment(environment)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-deps", package.name, *package.needs], INSTALL_SECONDS)
    # torchvision's wheel needs this with a CPU-only torch
    run([python, "-c", f"{TORCHVISION}; import {package.module}"], INSTALL_SECONDS)
    ask = f"from importlib.metadata import version; print(version({package.name!r}))"
    return run([python, "-c", ask], INSTALL_SECONDS).strip()


def run(command: Sequence[str], seconds: int) -> str:
    """Run a command and return its output.

    Raises:
        RuntimeError: If the command fails, with the last line of its error output, or takes longer.
    """
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=seconds, cwd=ROOT
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer in {seconds} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(lines[-1]) from error
    return done.stdout


def audited(audit: str, environment: Path, output: Path) -> dict[str, Any]:
    """Return the JSON of an audit, computed unless a file has it.

    Args:
        audit: The words after `axiom-bench audit`.
        environment: The environment of the package.
        output: The file.

    Raises:
        RuntimeError: If the audit gives no answer, with its last line.
    """
    if not output.exists():
        command = [str(python_of(environment)), "-m", "axiom_bench", "audit", *audit.split()]
        run([*command, "--json", str(output)], AUDIT_SECONDS)
    answer: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return answer


def rows_of(package: Package, folder: Path) -> list[Row]:
    """Return the lines of a package.

    Args:
        package: The package.
        folder: The folder of environments and answers.
    """
    environment = folder / f"env-{package.name}"
    try:
        version = install(package, environment)
    except RuntimeError as error:
        return [Row(package.name, "", "", f"skipped: {error}")]
    if package.without_cam:
        return [Row(package.name, version, "", f"skipped: {package.without_cam}")]
    rows = []
    for audit in package.audits:
        output = folder / f"{package.name}-{re.sub(NOT_IN_NAMES, '-', audit)}.json"
        rows.append(row_of(package.name, version, audit, environment, output))
        print(f"  {audit}: {rows[-1].answer}", flush=True)
    return rows


def row_of(package: str, version: str, audit: str, environment: Path, output: Path) -> Row:
    """Return the line of one implementation, which says so if the audit gives no answer."""
    try:
        result = audited(audit, environment, output)
    except RuntimeError as error:
        return Row(package, version, audit, f"no answer: {error}")
    answer = result["verdict"].removeprefix(f"{result['implementation']} ")
    keys = [finding["key"] for part in ("effects", "dependences") for finding in result[part]]
    return Row(package, version, audit, answer, ", ".join(keys))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| package | version | implementation | answer | findings |"]
    lines.append("| :--- | :--- | :--- | :--- | :--- |")
    for row in rows:
        implementation = f"`{row.implementation}`" if row.implementation else ""
        answer = row.answer.replace("|", "\\|")
        cells = (row.package, row.version, implementation, answer, row.findings)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Audit packages, and write the lines of all packages audited so far into the page."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = sys.argv[2:]
    rows: list[Row] = []
    for package in PACKAGES:
        file = folder / f"rows-{package.name}.json"
        if not chosen or package.name in chosen:
            print(package.name, flush=True)
            lines = [asdict(row) for row in rows_of(package, folder)]
            file.write_text(json.dumps(lines, indent=1), encoding="utf-8")
        if file.exists():
            rows += [Row(**fields) for fields in json.loads(file.read_text(encoding="utf-8"))]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    text = f"{before}{START}\n\n{table(rows)}\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
