"""Audit a CAM implementation: the formula that it computes, what it does to the model and the
caller, and what its answer depends on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch
from torch import Tensor, nn

from axiom_bench.auditing import page
from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.cases import cases
from axiom_bench.auditing.dependences import find_dependences
from axiom_bench.auditing.effects import find_effects
from axiom_bench.auditing.formulas import ReportProgress, find_formula, silent
from axiom_bench.auditing.kit import StoredMaps, read_kit_maps
from axiom_bench.auditing.library_readings import with_library_readings
from axiom_bench.auditing.pictures import panels_of, scene_case
from axiom_bench.auditing.references import MAX_PASSES, audited_methods, num_channels
from axiom_bench.auditing.result import AuditResult, Expectation
from axiom_bench.auditing.verdict import FormulaAnswer
from axiom_bench.cutting.cut_model import cut
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError, first_names, plural, unknown_name, verb
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.cam_call import Cam
from axiom_bench.evaluation.cam_forms import TRACE_NAMES
from axiom_bench.evaluation.cam_function import EXPECTED, as_cam_function
from axiom_bench.evaluation.plugins import Method
from axiom_bench.explanation.explanation import Map, heatmap, weighted
from axiom_bench.models.user_code import import_function
from axiom_bench.records import files

RIGHTS = "Audited code runs with your rights, as any program that you start."
MOST_EQUAL = 5  # formulas that a sentence names


class Audit(AuditResult):
    """The result of an audit. It prints itself, and writes itself as a page and for programs."""

    def to_html(self) -> str:
        """Return the audit as one HTML file that loads nothing."""
        return page.page(self)

    def to_json(self) -> str:
        """Return the audit as JSON."""
        return page.json_text(self)

    def to_markdown(self) -> str:
        """Return the audit as Markdown for a pull request."""
        return page.markdown(self)

    def badge(self) -> str:
        """Return an SVG badge, such as "Grad-CAM, exact"."""
        return page.badge(self)

    def save(self, path: str | Path) -> None:
        """Save the audit: .html is a page, .md Markdown, .json JSON and .svg a badge.

        Args:
            path: The file.

        Raises:
            BenchError: If the name ends otherwise, or the file can't be written.
        """
        path = Path(path)
        writers = {
            ".html": page.page,
            ".md": page.markdown,
            ".json": page.json_text,
            ".svg": page.badge,
        }
        write = writers.get(path.suffix.lower())
        if write is None:
            raise BenchError(
                f"Can't save an audit as {path}; give a name that ends in .html, .md, .json or "
                ".svg."
            )
        files.write(path, write(self).encode())


def audit(
    function: Callable[..., object] | str,
    *,
    options: Mapping[str, object] | None = None,
    form: str | None = None,
    expect: str | None = None,
) -> Audit:
    """Audit a CAM implementation: which formula it computes, and what it does to the model.

    It runs the implementation on small networks. Audited code runs with your rights.

    Args:
        function: A function `f(model, layer, images, targets) -> maps`, a class of the form that
            pytorch-grad-cam, torchcam or captum has, or its path "MODULE:NAME". Also the name of a
            method, or the folder of a kit's maps.
        options: Keyword arguments of the class or function.
        form: The form of its calls, if it isn't recognised.
        expect: The method that it should be, such as "grad_cam". "grad_cam: min-max" also expects
            this reading.

    Returns:
        The audit, which prints itself. `save` writes a page.

    Raises:
        BenchError: If the implementation can't be called, or a name is unknown.
    """
    if isinstance(function, str) and Path(function).is_dir():
        return audit_maps(read_kit_maps(Path(function)), function, expect)
    return audit_function(function, options or {}, form, expect)


def audit_function(
    function: Callable[..., object] | str,
    options: Mapping[str, object],
    form: str | None,
    expect: str | None,
    report: ReportProgress = silent,
) -> Audit:
    """Audit an implementation that can be called. See `audit`.

    Args:
        function: The implementation, its path, or a method's name.
        options: Keyword arguments of the class or function.
        form: The form of its calls, if it isn't recognised.
        expect: The method that it should be.
        report: Called with a line for each step.

    Raises:
        BenchError: As `audit` does, and if the implementation gives no map on any network.
    """
    expected = None if expect is None else Expectation.of(expect)
    cam = cam_function(function, options, form)
    name = name_of(function, options)
    all_cases = cases()
    expected_key = None if expected is None else expected.formula
    answer = find_formula(cam, all_cases, expected_key, report)
    working = [case for case in all_cases if case.name not in answer.failures]
    if not working:
        message = f"{name} {answer.verdict}."
        if isinstance(cam, Cam) and cam.types is not None:
            message += (
                " A first call, on another network, worked; if it keeps tensors or hooks between "
                "calls, remove them at the end of each call."
            )
        raise BenchError(message)
    is_library_reading = False
    if answer.formula is None:
        report("Comparing with the formulas of pytorch-grad-cam")
        answer = with_library_readings(answer, cam, working, expected_key)
        is_library_reading = answer.formula is not None
    # Users' networks have float32.
    usual = next((case for case in working if case.images.dtype == torch.float32), working[0])
    # Only a network with buffers, such as those of batch norm, can lose them.
    with_buffers = next((case for case in working if list(case.model.buffers())), usual)
    report("Looking for changes of the model and the caller")
    effects = find_effects(cam, with_buffers)
    report("Looking for what the maps depend on")
    dependences = find_dependences(cam, usual)
    report("Drawing an image")
    return Audit(
        name=name,
        answer=answer,
        effects=tuple(effects),
        dependences=tuple(dependences),
        expected=expected,
        notes=tuple(failure_notes(answer)),
        # pictures compare with the formula of the paper
        panels=None if is_library_reading else panels_of(cam, answer, [scene_case(), *working]),
        tried=tried_sentences(all_cases),
        facts=facts_of(function),
    )


def audit_maps(
    maps: StoredMaps,
    name: str,
    expect: str | None = None,
    is_one_model: bool = False,
    report: ReportProgress = silent,
) -> Audit:
    """Audit the maps that a tool made.

    Args:
        maps: The maps.
        name: The folder, for messages.
        expect: The method that they should follow; see `audit`.
        is_one_model: True if they are of one model of the user's.
        report: Called with a line for each step.

    Raises:
        BenchError: If the name of the method is unknown.
    """
    expected = None if expect is None else Expectation.of(expect)
    answer = find_formula(
        maps,
        maps.cases,
        None if expected is None else expected.formula,
        report,
        rounding=maps.error,
    )
    notes = list(maps.problems)
    if maps.error:
        sources = ", ".join(f"{count} from {source}" for source, count in maps.sources.items())
        notes.append(
            f"The answer is approximate: maps are rounded to {maps.error:.1g} of their largest "
            f"value ({sources})."
        )
    if is_one_model:
        notes.append("Only one model was searched, so formulas that agree on it count as equal.")
    if answer.equal and (is_one_model or maps.error):
        others = first_names(answer.equal, MOST_EQUAL)
        notes.append(f"These maps can't tell it from {others}.")
    return Audit(
        name=name,
        answer=answer,
        expected=expected,
        notes=tuple(notes),
        has_findings=False,
        is_approximate=maps.error > 0,
        is_one_model=is_one_model,
        panels=panels_of(maps, answer, maps.cases),
        tried=tried_sentences(maps.cases),
        facts=facts_of(name),
    )


def cam_function(
    function: Callable[..., object] | str, options: Mapping[str, object], form: str | None
) -> CamFunction:
    """Return an implementation as a CAM function.

    Args:
        function: The implementation, its path, or a method's name.
        options: Keyword arguments.
        form: The form of its calls, if it isn't recognised.
    """
    if isinstance(function, str) and not set(function) & set(".:/"):
        if form is not None:
            raise BenchError("--form is for your own functions; leave it out for a method's name.")
        name = plugins.matching("method", function)
        if name not in plugins.names("method"):
            unknown = unknown_name("method", function, plugins.names("method"))
            raise BenchError(f"{unknown} For your own code, {EXPECTED}.")
        return partial(method_maps, plugins.with_params("method", name, options))
    implementation = function
    if isinstance(implementation, str):
        add_current_folder()
        implementation = import_function(implementation, "CAM", EXPECTED)
    if form is None and takes_trace(implementation):
        method = plugins.plugin_for("method", partial(implementation, **options))
        return partial(method_maps, method)
    return as_cam_function(implementation, options, form)


def takes_trace(implementation: Callable[..., object]) -> bool:
    """Return whether a callable is a method of this project's form, a function of a trace."""
    try:
        parameters = inspect.signature(implementation).parameters
    except (TypeError, ValueError):  # a compiled function
        return False
    return bool(parameters) and next(iter(parameters)) in TRACE_NAMES


def method_maps(
    method: Method, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
) -> Tensor:
    """Return the heatmaps (B, H', W') of one of this project's methods."""
    name = next(name for name, module in model.named_modules() if module is layer)
    trace = cut(model, name, output="logits").trace(images, targets)
    answer = method(trace)
    raw = answer.raw if isinstance(answer, Map) else weighted(answer, trace.activations).sum(1)
    return heatmap(raw, images.shape[2:])


def name_of(function: Callable[..., object] | str, options: Mapping[str, object]) -> str:
    """Return the name of an implementation with its options."""
    name = function
    if not isinstance(name, str):
        qualified = getattr(function, "__qualname__", type(function).__qualname__)
        name = f"{getattr(function, '__module__', '')}:{qualified}"
    if not options:
        return name
    return f"{name} with {', '.join(f'{key}={value!r}' for key, value in options.items())}"


def failure_notes(answer: FormulaAnswer) -> list[str]:
    """Return a sentence for each reason why networks have no map or were run in float32."""
    notes = []
    for reason, names in _names_by_reason(answer.failures).items():
        notes.append(f"On networks with {', '.join(names)} it raises {reason}.")
    for reason, names in _names_by_reason(answer.float64_errors).items():
        networks = f"{plural(len(names), 'network')} {verb(len(names), 'was', 'were')}"
        notes.append(f"{networks} run in float32: in float64 it raises {reason}.")
    return notes


def _names_by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_by_reason.setdefault(reason, []).append(name)
    return names_by_reason


def tried_sentences(all_cases: Sequence[Case]) -> tuple[str, ...]:
    """Return sentences about the networks and the formulas that were compared."""
    names = ", ".join(case.name for case in all_cases)
    count = len(audited_methods(max(map(num_channels, all_cases))))
    return (
        f"{plural(count, 'formula')}, each with the readings of the score, gradients, ReLU, "
        "resizing and normalisation that public code has.",
        f"{plural(len(all_cases), 'network')}: {names}.",
        f"Methods of more than {MAX_PASSES} passes and controls aren't compared.",
    )


def facts_of(function: object) -> dict[str, str]:
    """Return the versions of the implementation's package, of this project and of torch."""
    facts = {"axiom-bench": version("axiom-bench"), "torch": str(torch.__version__)}
    module = getattr(function, "__module__", None)
    if isinstance(function, str):
        module = function.partition(":")[0]
    package = str(module).partition(".")[0]
    for distribution in packages_distributions().get(package, ()):
        facts[distribution] = version(distribution)
    return facts
