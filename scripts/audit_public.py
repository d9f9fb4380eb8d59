"""Audit CAM implementations that PyPI has, each in an environment of its own, and write
docs/studies/audit-of-public-code.md.

    python scripts/audit_public.py FOLDER            # all packages
    python scripts/audit_public.py FOLDER monai      # only these; the others keep their lines

FOLDER keeps the environments and the answers, so that a stopped command continues. Delete an
answer's JSON to audit that implementation again. An environment has one package, and this
environment's packages behind it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axiom_bench.auditing.cases import DESIGNS
from axiom_bench.auditing.formulas import audited_methods
from axiom_bench.auditing.result import title_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "studies" / "audit-of-public-code.md"
SUMMARY = "<!-- summary: scripts/audit_public.py -->"
END_OF_SUMMARY = "<!-- end of the summary -->"
TABLE = "<!-- table: scripts/audit_public.py -->"
END_OF_TABLE = "<!-- end of the table -->"
INSTALL_SECONDS = 240
AUDIT_SECONDS = 900
TORCHVISION = "import axiom_bench.data.torchvision_import"
NOT_IN_NAMES = r"[^\w.]+"
ADAPTERS = "scripts/public_cams.py"
SCIKIT_IMAGE = ("scikit-image", "lazy-loader", "imageio", "tifffile")

# The words of findings in the table, by their keys. docs/audit.md explains each.
EFFECT_WORDS: Mapping[str, str] = {
    "raises": "error",
    "hooks_left": "hooks",
    "mode": "train mode",
    "eval_mode": "eval mode",
    "requires_grad": "requires_grad",
    "gradients": ".grad",
    "parameters": "parameters",
    "buffers": "buffers",
    "modules": "modules",
    "attributes": "attributes",
    "inputs": "inputs",
    "random_states": "random state",
    "settings": "global settings",
    "output": "printed text",
    "warnings": "warnings",
    "graph_of_maps": "graph of the maps",
    "kept_graph": "graph of the model",
    "memory": "growing memory",
}
DEPENDENCE_WORDS: Mapping[str, str] = {
    "batch_mates": "batch",
    "order": "batch",
    "class": "ignores the class",
    "weights": "ignores the weights",
    "image": "ignores the image",
    "constant_map": "constant map",
    "draws": "random numbers",
    "train_mode": "train mode",
    "no_grad": "no_grad",
    "inference_mode": "inference mode",
    "half_precision": "bfloat16",
    "channels_last": "channels_last",
    "other_hooks": "other hooks",
    "device": "GPU",
}


@dataclass(frozen=True)
class Implementation:
    """A CAM implementation of a package."""

    audit: str
    """What to write after `axiom-bench audit`."""
    title: str
    """Its name in the package."""
    method: str
    """The method that its name says, a key of conf/method."""


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
    implementations: tuple[Implementation, ...] = ()
    """What is audited."""
    needs: tuple[str, ...] = ()
    """Further distributions that the module imports and this environment hasn't got."""
    without_cam: str = ""
    """Why the package has nothing to audit, if its module has no CAM for PyTorch."""


def in_module(module: str, methods: Mapping[str, str]) -> tuple[Implementation, ...]:
    """Return a module's implementations, from their names and the methods that these say."""
    return tuple(
        Implementation(f"{module}:{name}", name, method) for name, method in methods.items()
    )


def by_adapter(adapter: str, option: str, methods: Mapping[str, str]) -> tuple[Implementation, ...]:
    """Return the implementations that a function of public_cams.py calls.

    Args:
        adapter: The name of the function.
        option: The option that chooses an implementation.
        methods: {the option's value: the method that it says}.
    """
    return tuple(
        Implementation(f"{ADAPTERS}:{adapter} --with {option}={name}", name, method)
        for name, method in methods.items()
    )


PACKAGES = (
    Package(
        "bnnr",
        "bnnr.xai",
        (
            Implementation(
                "bnnr.xai:generate_saliency_maps --with method=gradcam",
                "gradcam",
                "grad_cam",
            ),
            Implementation(
                "bnnr.xai:generate_saliency_maps --with method=gradcam --with eigen_smooth=False",
                "gradcam without eigen_smooth",
                "grad_cam",
            ),
            Implementation(
                "bnnr.xai:generate_saliency_maps --with method=opticam",
                "opticam",
                "opti_cam",
            ),
        ),
    ),
    Package(
        "captum",
        "captum.attr",
        (
            *in_module(
                "captum.attr",
                {"LayerGradCam": "grad_cam", "LayerGradientXActivation": "hires_cam"},
            ),
            Implementation(f"{ADAPTERS}:captum_guided", "GuidedGradCam", "guided_grad_cam"),
            Implementation(
                f"{ADAPTERS}:captum_guided --with interpolate_mode=bilinear",
                "GuidedGradCam with bilinear",
                "guided_grad_cam",
            ),
            Implementation(
                f"{ADAPTERS}:captum_interpolated",
                "LayerGradCam with interpolate",
                "grad_cam",
            ),
        ),
    ),
    Package(
        "flashtorch",
        "flashtorch.saliency",
        without_cam="it has no CAM; its saliency maps are gradients of the image",
    ),
    Package(
        "grad-cam",
        "pytorch_grad_cam",
        (
            Implementation(f"{ADAPTERS}:finer_cam", "FinerCAM", "finer_cam"),
            *in_module(
                "pytorch_grad_cam",
                {
                    "AblationCAM": "ablation_cam",
                    "EigenCAM": "eigen_cam",
                    "EigenGradCAM": "eigen_grad_cam",
                    "FEM": "fem",
                    "FullGrad": "full_grad",
                    "GradCAM": "grad_cam",
                    "GradCAMElementWise": "grad_cam_elementwise",
                    "GradCAMPlusPlus": "grad_cam_pp",
                    "HiResCAM": "hires_cam",
                    "KPCA_CAM": "kpca_cam",
                    "LayerCAM": "layer_cam",
                    "ShapleyCAM": "shapley_cam",
                    "XGradCAM": "xgrad_cam",
                },
            ),
        ),
        needs=("ttach",),
    ),
    Package(
        "medcam",
        "medcam.medcam",
        by_adapter(
            "medcam",
            "backend",
            {"gcam": "grad_cam", "gcampp": "grad_cam_pp", "ggcam": "guided_grad_cam"},
        ),
        needs=SCIKIT_IMAGE,
    ),
    Package(
        "monai",
        "monai.visualize",
        (
            *in_module("monai.visualize", {"GradCAM": "grad_cam"}),
            Implementation(
                f"{ADAPTERS}:monai --with name=GradCAM",
                "GradCAM without post-processing",
                "grad_cam",
            ),
            Implementation(
                f"{ADAPTERS}:monai --with name=GradCAMpp",
                "GradCAMpp without post-processing",
                "grad_cam_pp",
            ),
            Implementation(f"{ADAPTERS}:monai_cam", "CAM without post-processing", "cam"),
        ),
    ),
    Package(
        "omnixai",
        "omnixai.explainers.vision.specific.gradcam",
        by_adapter(
            "omnixai",
            "name",
            {"GradCAM": "grad_cam", "GradCAMPlus": "grad_cam_pp", "LayerCAM": "layer_cam"},
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
        "openvino-xai",
        "openvino_xai.methods.white_box.torch",
        (
            Implementation(
                f"{ADAPTERS}:openvino_recipro_cam",
                "TorchReciproCAM",
                "recipro_cam",
            ),
            Implementation(
                f"{ADAPTERS}:openvino_recipro_cam --with embed_scaling=False",
                "TorchReciproCAM without embed_scaling",
                "recipro_cam",
            ),
        ),
        needs=("openvino==2024.4.0", "openvino-telemetry"),
    ),
    Package(
        "pnpxai",
        "pnpxai.explainers",
        (
            *in_module("pnpxai.explainers", {"GradCam": "grad_cam"}),
            Implementation(f"{ADAPTERS}:pnpxai_guided", "GuidedGradCam", "guided_grad_cam"),
        ),
        needs=(*SCIKIT_IMAGE, "zennit", "tabulate", "optuna", "colorlog", "shap", "slicer"),
    ),
    Package(
        "pytorch-gradcam",
        "gradcam",
        in_module("gradcam", {"GradCAM": "grad_cam", "GradCAMpp": "grad_cam_pp"}),
    ),
    Package(
        "torchcam",
        "torchcam.methods",
        in_module(
            "torchcam.methods",
            {
                "CAM": "cam",
                "FinerCAM": "finer_cam",
                "GradCAM": "grad_cam",
                "GradCAMpp": "grad_cam_pp",
                "ISCAM": "is_cam",
                "LayerCAM": "layer_cam",
                "ScoreCAM": "score_cam",
                "SmoothGradCAMpp": "smooth_grad_cam_pp",
                "SSCAM": "ss_cam",
                "XGradCAM": "xgrad_cam",
            },
        ),
    ),
    Package(
        "torchray",
        "torchray.attribution.grad_cam",
        (Implementation(f"{ADAPTERS}:torchray", "grad_cam", "grad_cam"),),
    ),
    Package(
        "torchxai-explain",
        "torchxai.methods",
        by_adapter(
            "torchxai",
            "name",
            {
                "EigenCAM": "eigen_cam",
                "GradCAM": "grad_cam",
                "GradCAMPlusPlus": "grad_cam_pp",
                "LayerCAM": "layer_cam",
            },
        ),
    ),
    Package(
        "xplique",
        "xplique.attributions",
        without_cam="its CAMs are for TensorFlow; its wrapper for PyTorch has none",
    ),
)


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


SAME = "computes the formula of its name"
READING = "computes a reading of it"
OTHER = "computes another formula"
UNKNOWN = "computes [no formula that the audit knows](#answers-without-a-formula)"
INCOMPARABLE = "can't be compared"
NO_ANSWER = "gives no maps"
KINDS = (SAME, READING, OTHER, UNKNOWN, INCOMPARABLE, NO_ANSWER)
# Papers don't say how a map is scaled for display, so that these choices leave a formula the same.
SCALINGS = (
    "not normalised",
    "min-max",
    "normalised before resizing",
    "normalised before and after resizing",
)
SCALING_EPSILON = re.compile(r"epsilon \S+ in the normalisation")


@dataclass(frozen=True)
class Row:
    """A line of the table: an implementation with its answer, or a package that is skipped."""

    package: str
    version: str
    title: str
    """The implementation's name; empty if the package is skipped."""
    audit: str
    """What follows `axiom-bench audit` in the command."""
    answer: str
    """The verdict, or why there is none."""
    kind: str = ""
    """One of KINDS; empty if the package is skipped."""
    effects: str = ""
    """Words for what a call leaves behind."""
    dependences: str = ""
    """Words for what the maps depend on."""


def kind_of(result: Mapping[str, Any], method: str) -> str:
    """Return the kind of an answer, one of KINDS.

    Args:
        result: The audit's JSON.
        method: The method that the implementation's name says.
    """
    changes = changes_of(result, method)
    if changes is not None:
        return SAME if all(map(is_scaling, changes)) else READING
    draws = any(finding["key"] == "draws" for finding in result["dependences"])
    if draws or method not in compared_methods():
        return INCOMPARABLE
    return UNKNOWN if result["formula"] is None else OTHER


def answer_of(result: Mapping[str, Any], method: str) -> str:
    """Return the verdict without the implementation, and without the nearest formula if that is
    another one than the name says. It is far away then, and explains nothing.
    """
    answer: str = result["verdict"].removeprefix(f"{result['implementation']} ")
    known, nearest, title = answer.partition(": nearest is ")
    is_named = re.match(rf"{re.escape(title_of(method))}(,| \()", title) is not None
    return answer if is_named or not nearest else known


def changes_of(result: Mapping[str, Any], method: str) -> list[str] | None:
    """Return the changes with which an implementation computes a method; None if it doesn't."""
    if result["formula"] == method:
        return list(result["changes"])
    for text in result["equal"]:
        title, _, changes = text.partition(" (")
        if title == title_of(method):
            return [change for change in changes.removesuffix(")").split(", ") if change]
    return None


def is_scaling(change: str) -> bool:
    """Return True if a change concerns only the scale of the map."""
    return change in SCALINGS or SCALING_EPSILON.fullmatch(change) is not None


def compared_methods() -> list[str]:
    """Return the keys of the methods that an audit compares maps with."""
    channels = max(design.channels for design in DESIGNS)
    return [method.name for method in audited_methods(channels)]


def words_of(findings: Sequence[Mapping[str, str]], words: Mapping[str, str]) -> str:
    """Return findings in words, each once."""
    return ", ".join(dict.fromkeys(words[finding["key"]] for finding in findings))


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
        return [Row(package.name, "", "", "", f"skipped: {error}")]
    if package.without_cam:
        return [Row(package.name, version, "", "", f"skipped: {package.without_cam}")]
    rows = []
    for implementation in sorted(package.implementations, key=lambda entry: entry.title.lower()):
        name = re.sub(NOT_IN_NAMES, "-", implementation.audit)
        output = folder / f"{package.name}-{name}.json"
        rows.append(row_of(package.name, version, implementation, environment, output))
        print(f"  {implementation.audit}: {rows[-1].answer}", flush=True)
    return rows


def row_of(
    package: str,
    version: str,
    implementation: Implementation,
    environment: Path,
    output: Path,
) -> Row:
    """Return the line of one implementation, which says so if the audit gives no answer."""
    title = implementation.title
    audit = implementation.audit
    try:
        result = audited(audit, environment, output)
    except RuntimeError as error:
        return Row(package, version, title, audit, f"no answer: {error}", NO_ANSWER)
    return Row(
        package,
        version,
        title,
        audit,
        answer=answer_of(result, implementation.method),
        kind=kind_of(result, implementation.method),
        effects=words_of(result["effects"], EFFECT_WORDS),
        dependences=words_of(result["dependences"], DEPENDENCE_WORDS),
    )


def summary(rows: Iterable[Row]) -> str:
    """Return a sentence with the number of implementations, and a table with those of each kind."""
    audited_rows = [row for row in rows if row.kind]
    num_packages = len({row.package for row in audited_rows})
    num_same = sum(row.kind == SAME for row in audited_rows)
    num_readings = sum(row.kind == READING for row in audited_rows)
    lines = [
        f"Of {len(audited_rows)} implementations in {num_packages} packages, **{num_same} compute "
        f"the formula of their name** and {num_readings} a reading of it.",
        "",
        "| the implementation | number | implementations |",
        "| :--- | ---: | :--- |",
    ]
    for kind in KINDS:
        titles: dict[str, list[str]] = {}
        for row in audited_rows:
            if row.kind == kind:
                titles.setdefault(row.package, []).append(row.title)
        number = sum(map(len, titles.values()))
        if number:
            groups = [f"**{package}** {', '.join(names)}" for package, names in titles.items()]
            lines.append(f"| {kind} | {number} | {'; '.join(groups)} |")
    return "\n".join(lines)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    heads = (
        "package",
        "implementation",
        "answer",
        "[leaves behind](../audit.md#what-a-call-leaves-behind)",
        "[depends on](../audit.md#what-the-maps-depend-on)",
    )
    lines = [f"| {' | '.join(heads)} |", "| :--- | :--- | :--- | :--- | :--- |"]
    for row in rows:
        package = f"{row.package} {row.version}".strip()
        command = f"`{row.audit}`" if row.audit else ""
        answer = row.answer.replace("|", "\\|")
        cells = (package, command, answer, row.effects, row.dependences)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_part(text: str, start: str, end: str, part: str) -> str:
    """Return a page's text with a new part between two marks."""
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    return f"{before}{start}\n\n{part}\n\n{end}{after}"


def main() -> None:
    """Audit packages, and write all packages audited so far into the page."""
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
    text = PAGE.read_text(encoding="utf-8")
    text = with_part(text, SUMMARY, END_OF_SUMMARY, summary(rows))
    text = with_part(text, TABLE, END_OF_TABLE, table(rows))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
