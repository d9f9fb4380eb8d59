"""Find what a CAM implementation leaves behind: on the model, on the caller's tensors, in the
process and on the screen.

Most effects are states that a call must leave as they are. `EFFECTS` lists them, with the sentence
about a change and the code that reproduces it. The code's names are those of a call: `cam`,
`model`, `layer`, `images` and `targets`. Its last line fails as long as the effect remains.
"""

from __future__ import annotations

import copy
import gc
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.auditing.case import CamFunction, Case, Finding
from axiom_bench.errors import first_names
from axiom_bench.isolation.foreign_calls import one_line, result_or_error
from axiom_bench.isolation.global_state import (
    GLOBAL_SETTINGS,
    changed_settings,
    global_hooks,
    hook_counts,
    read_global_state,
    restored_global_state,
)

CALLS = 20  # calls in which memory may grow
MOST_NAMES = 3  # names of parameters or modules in a sentence
MOST_CHARACTERS = 80  # of printed text in a sentence
State = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A copy of a case's network and what a CAM function is called with."""

    model: nn.Module
    layer: nn.Module
    images: Tensor
    targets: Tensor

    def call(self, cam: CamFunction) -> Tensor:
        """Call the CAM function."""
        return cam(self.model, self.layer, self.images, self.targets)


@dataclass(frozen=True)
class Effect:
    """A state that a call must leave as it is."""

    key: str
    """The finding's key."""
    read: Callable[[Subject], State]
    """Return a copy of the state: a value for each name."""
    sentence: str
    """The sentence about a change, with {count}, such as "2 modules", and {names}."""
    noun: str
    """What the state's names are the names of."""
    code: str
    """Lines that reproduce the change."""


def subject_of(case: Case) -> Subject:
    """Return a copy of a case. Its last parameter is frozen, and all have gradients of 1.

    So a call that freezes, unfreezes, clears or accumulates changes something.
    """
    model = copy.deepcopy(case.model)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    if parameters:
        parameters[-1].requires_grad_(False)
    layer = model.get_submodule(case.layer)
    return Subject(model, layer, case.images.clone(), case.targets.clone())


def find_effects(cam: CamFunction, case: Case) -> list[Finding]:
    """Return what a CAM function leaves behind on a case.

    Args:
        cam: The function.
        case: The network, which is copied, and the images.

    Returns:
        A finding per effect. If the call raises, the only finding says so.
    """
    with restored_global_state(), torch.inference_mode(False), torch.enable_grad():
        findings = result_or_error(lambda: _changed_states(cam, case))
        if isinstance(findings, BaseException):
            return [Finding("raises", f"The call raises {one_line(findings)}.", CALL)]
        checks = (_eval_mode, _graph_of_maps, _kept_graph, _kept_tensors)
        with _captured_text():
            for check in checks:
                finding = check(cam, subject_of(case))
                if finding is not None:
                    findings.append(finding)
    return findings


def _changed_states(cam: CamFunction, case: Case) -> list[Finding]:
    """Compare all states before and after one call, and report what the call prints."""
    subject = subject_of(case)
    before = {effect.key: effect.read(subject) for effect in EFFECTS}
    settings = read_global_state()
    with _captured_text() as text:
        subject.call(cam)
    changed_keys = changed_settings(settings)
    findings = []
    for effect in EFFECTS:
        names = _changed_names(before[effect.key], effect.read(subject))
        if names:
            shown = first_names([name or "the model" for name in names], MOST_NAMES)
            count = _counted(len(names), effect.noun)
            sentence = effect.sentence.format(count=count, names=shown)
            findings.append(Finding(effect.key, sentence, effect.code))
    for key in changed_keys:
        sentence = f"The call changes {GLOBAL_SETTINGS[key].title}."
        findings.append(Finding(key, sentence, SETTING_CODE[key]))
    return findings + _text_findings(text)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _changed_names(before: State, after: State) -> list[str]:
    """Return the names whose values differ, or that only one of two states has."""
    names = [*before, *(name for name in after if name not in before)]
    return [name for name in names if not _is_same(before.get(name), after.get(name))]


def _is_same(value: object, other: object) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        has_same_type = value.shape == other.shape and value.dtype == other.dtype
        return has_same_type and bool(((value == other) | (value != value)).all())
    return not isinstance(value, Tensor) and not isinstance(other, Tensor) and value == other


def _hooks(subject: Subject) -> State:
    """Return the number of hooks of each module, and of all modules together."""
    return {**hook_counts(subject.model), "all modules of torch": sum(map(len, global_hooks()))}


def _requires_grad(subject: Subject) -> State:
    return {name: parameter.requires_grad for name, parameter in subject.model.named_parameters()}


def _gradients(subject: Subject) -> State:
    gradients = {}
    for name, parameter in subject.model.named_parameters():
        gradients[name] = None if parameter.grad is None else parameter.grad.clone()
    return gradients


def _parameters(subject: Subject) -> State:
    return {
        name: parameter.detach().clone() for name, parameter in subject.model.named_parameters()
    }


def _buffers(subject: Subject) -> State:
    return {name: buffer.clone() for name, buffer in subject.model.named_buffers()}


def _modules(subject: Subject) -> State:
    """Return each module's identity and class."""
    return {name: (id(module), type(module)) for name, module in subject.model.named_modules()}


def _attributes(subject: Subject) -> State:
    """Return the names of each module's attributes."""
    return {name: set(vars(module)) for name, module in subject.model.named_modules()}


def _training(subject: Subject) -> State:
    return {name: module.training for name, module in subject.model.named_modules()}


def _inputs(subject: Subject) -> State:
    """Return values, `requires_grad` and `.grad` of the images and the targets."""
    state: dict[str, object] = {}
    for name, tensor in (("images", subject.images), ("targets", subject.targets)):
        state[name] = tensor.detach().clone()
        state[f"{name}.requires_grad"] = tensor.requires_grad
        state[f"{name}.grad"] = tensor.grad
    return state


CALL = "cam(model, layer, images, targets)"


def _code(state: str, setup: str = "") -> str:
    """Return code that compares an expression before a call with the same after it."""
    lines = [setup, f"before = {state}", CALL, f"assert {state} == before"]
    return "\n".join(filter(None, lines))


def _tensor_code(tensors: str, iterable: str) -> str:
    """Return code that compares tensors before a call with the same after it."""
    return "\n".join(
        [
            "import torch",
            f"before = [{tensors}.detach().clone() for tensor in {iterable}]",
            CALL,
            f"assert all(map(torch.equal, ({tensors} for tensor in {iterable}), before))",
        ]
    )


MODE_CODE = _code("[module.training for module in model.modules()]")
EFFECTS = (
    Effect(
        "hooks_left",
        _hooks,
        "The call leaves hooks on {count} ({names}).",
        "module",
        _code(
            "[len(table) for module in [*model.modules(), torch.nn.modules.module] "
            'for name, table in vars(module).items() if name.endswith("_hooks")]',
            "import torch",
        ),
    ),
    Effect(
        "mode",
        _training,
        "The call changes the mode of {count} ({names}) from eval to train.",
        "module",
        MODE_CODE,
    ),
    Effect(
        "requires_grad",
        _requires_grad,
        "The call changes requires_grad of {count} ({names}).",
        "parameter",
        _code(
            "[parameter.requires_grad for parameter in model.parameters()]",
            "list(model.parameters())[-1].requires_grad_(False)",
        ),
    ),
    Effect(
        "gradients",
        _gradients,
        "The call changes .grad of {count} ({names}).",
        "parameter",
        "import torch\n"
        "for parameter in model.parameters():\n"
        "    parameter.grad = torch.ones_like(parameter)\n"
        f"{CALL}\n"
        "assert all(parameter.grad is not None and (parameter.grad == 1).all() "
        "for parameter in model.parameters())",
    ),
    Effect(
        "parameters",
        _parameters,
        "The call changes the values of {count} ({names}).",
        "parameter",
        _tensor_code("tensor", "model.parameters()"),
    ),
    Effect(
        "buffers",
        _buffers,
        "The call changes {count} ({names}).",
        "buffer",
        _tensor_code("tensor", "model.buffers()"),
    ),
    Effect(
        "modules",
        _modules,
        "The call adds, removes or replaces {count} ({names}).",
        "module",
        _code("[(id(module), type(module)) for module in model.modules()]"),
    ),
    Effect(
        "attributes",
        _attributes,
        "The call adds or removes attributes of {count} ({names}).",
        "module",
        _code("[set(vars(module)) for module in model.modules()]"),
    ),
    Effect(
        "inputs",
        _inputs,
        "The call changes the caller's {names}.",
        "tensor",
        "import torch\n"
        "before = images.clone(), targets.clone()\n"
        f"{CALL}\n"
        "assert torch.equal(images, before[0]) and torch.equal(targets, before[1])\n"
        "assert not images.requires_grad",
    ),
)
SETTING_CODE: Mapping[str, str] = {
    "torch_random_state": _code("torch.get_rng_state().tolist()", "import torch"),
    "numpy_random_state": _code("np.random.get_state()[1].tolist()", "import numpy as np"),
    "python_random_state": _code("random.getstate()", "import random"),
    "default_dtype": _code("torch.get_default_dtype()", "import torch"),
    "grad_mode": _code("torch.is_grad_enabled()", "import torch"),
    "deterministic_algorithms": _code(
        "torch.are_deterministic_algorithms_enabled()", "import torch"
    ),
    "cudnn_benchmark": _code("torch.backends.cudnn.benchmark", "import torch"),
}


@dataclass(eq=False)
class Text:
    """The text that a call writes."""

    output: str = ""
    """What it prints to stdout and stderr."""
    warnings: list[str] = field(default_factory=list)
    """The messages of its warnings."""


@contextmanager
def _captured_text() -> Iterator[Text]:
    """Yield the text that is printed and warned of inside, which is complete at the end."""
    text = Text()
    stream = io.StringIO()
    with (
        redirect_stdout(stream),
        redirect_stderr(stream),
        warnings.catch_warnings(record=True, action="always") as recorded,
    ):
        yield text
    text.output = stream.getvalue()
    text.warnings = [f"{entry.category.__name__}: {entry.message}" for entry in recorded]


def _text_findings(text: Text) -> list[Finding]:
    """Return findings about printed output and warnings."""
    findings = []
    if text.output.strip():
        sentence = f"The call prints {_shortened(text.output)!r}."
        findings.append(Finding("output", sentence, OUTPUT_CODE))
    if text.warnings:
        sentence = f"The call warns: {_shortened(text.warnings[0])}."
        findings.append(Finding("warnings", sentence, WARNINGS_CODE))
    return findings


def _shortened(text: str) -> str:
    lines = text.strip().splitlines()
    first = lines[0].strip().rstrip(".")
    return first if len(first) <= MOST_CHARACTERS else f"{first[:MOST_CHARACTERS]}..."


def _eval_mode(cam: CamFunction, subject: Subject) -> Finding | None:
    """Find calls that leave a model in eval mode that was in train mode."""
    subject.model.train()
    before = _training(subject)
    if isinstance(result_or_error(lambda: subject.call(cam)), BaseException):
        return None  # `find_dependences` reports it
    names = _changed_names(before, _training(subject))
    if not names:
        return None
    count = _counted(len(names), "module")
    sentence = f"The call leaves {count} in eval mode, and the model was in train mode."
    return Finding("eval_mode", sentence, f"model.train()\n{MODE_CODE}")


def _graph_of_maps(cam: CamFunction, subject: Subject) -> Finding | None:
    """Find maps that require gradients, and so keep the graph of the whole network alive."""
    maps = subject.call(cam)
    if not maps.requires_grad:
        return None
    sentence = "The maps require gradients, so that they keep the autograd graph alive."
    return Finding("graph_of_maps", sentence, f"maps = {CALL}\nassert not maps.requires_grad")


@contextmanager
def _only_new_objects() -> Iterator[None]:
    """Hide all objects from the garbage collector that exist already, so that it is quick."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _new_tensors() -> list[Tensor]:
    """Return the tensors made since `_only_new_objects` that Python objects hold."""
    gc.collect()
    return [entry for entry in gc.get_objects() if issubclass(type(entry), Tensor)]


def _kept_graph(cam: CamFunction, subject: Subject) -> Finding | None:
    """Find tensors with an autograd graph that stay alive after the maps are gone."""
    with _only_new_objects():
        subject.call(cam)
        kept = [tensor for tensor in _new_tensors() if tensor.grad_fn is not None]
    if not kept:
        return None
    count = _counted(len(kept), "tensor")
    sentence = f"After the call, an autograd graph stays in memory, with {count}."
    return Finding("kept_graph", sentence, KEPT_GRAPH_CODE)


def _kept_tensors(cam: CamFunction, subject: Subject) -> Finding | None:
    """Find tensors that accumulate over calls."""
    with _only_new_objects():
        subject.call(cam)  # what a first call keeps, such as a cache, doesn't grow
        num_after_first = len(_new_tensors())
        for _ in range(CALLS):
            subject.call(cam)
        kept = len(_new_tensors()) - num_after_first
    if kept < CALLS:
        return None
    sentence = f"Memory grows: {CALLS} calls leave {kept} more tensors alive."
    return Finding("memory", sentence, MEMORY_CODE)


OUTPUT_CODE = f"""import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
    {CALL}
assert not out.getvalue()"""
WARNINGS_CODE = f"""import warnings
warnings.simplefilter("error")
{CALL}"""
LIVE = "sum(issubclass(type(entry), torch.Tensor) for entry in gc.get_objects())"
LIVE_GRAPHS = (
    "sum(issubclass(type(entry), torch.Tensor) and entry.grad_fn is not None "
    "for entry in gc.get_objects())"
)
KEPT_GRAPH_CODE = f"""import gc, torch
before = {LIVE_GRAPHS}
{CALL}
gc.collect()
assert {LIVE_GRAPHS} <= before"""
MEMORY_CODE = f"""import gc, torch
{CALL}
before = {LIVE}
for _ in range({CALLS}):
    {CALL}
gc.collect()
assert {LIVE} < before + {CALLS}"""
