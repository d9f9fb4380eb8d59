"""Find what a CAM implementation leaves behind: on the model, on the caller's tensors, in the
process and on the screen.

Most effects are states that a call must leave as they are. `EFFECTS` lists them. The code that
finds an effect is also the code that reproduces it for the reader. Its names are those of a call:
`cam`, `model`, `layer`, `images` and `targets`.
"""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

from torch import Tensor

from axiom_bench.auditing.case import CALL, CamFunction, Case, Finding, names_of_call
from axiom_bench.errors import first_names, plural
from axiom_bench.evaluation.cam_call import Arguments
from axiom_bench.isolation.foreign_calls import one_line, result_or_error
from axiom_bench.isolation.global_state import isolated_code, restored_global_state

CALLS = 20  # calls in which memory may grow
MOST_NAMES = 3  # names of parameters or modules in a sentence
MOST_CHARACTERS = 80  # of printed text in a sentence


@dataclass(frozen=True)
class Effect:
    """A state that a call must leave as it is."""

    key: str
    """The finding's key."""
    sentence: str
    """The sentence about a change, with {count}, such as "2 modules", and {names}."""
    noun: str
    """What the state's names are the names of."""
    state: str
    """A Python expression of the state: {name: value}."""
    setup: str = ""
    """Lines that the expression and the call need before them."""

    @property
    def code(self) -> str:
        """Lines that reproduce the change. The last one fails as long as it remains."""
        lines = [self.setup, f"state = lambda: {self.state}", "before = state()", CALL]
        return "\n".join(filter(None, [*lines, "assert state() == before"]))

    def find(self, cam: CamFunction, case: Case) -> Finding | None:
        """Return a finding if a call changes the state."""
        names = names_of_call(cam, case)
        exec(self.setup, names)
        before: dict[str, object] = eval(self.state, names)
        error = result_or_error(lambda: exec(CALL, names))
        if error is not None:  # in train mode, which `find_dependences` reports
            return None
        after: dict[str, object] = eval(self.state, names)
        changed = [name for name in before | after if before.get(name) != after.get(name)]
        if not changed:
            return None
        shown = first_names([name or "the model" for name in changed], MOST_NAMES)
        count = plural(len(changed), self.noun)
        return Finding(self.key, self.sentence.format(count=count, names=shown), self.code)


MODES = "{name: module.training for name, module in model.named_modules()}"
EFFECTS = (
    Effect(
        "hooks_left",
        "The call leaves hooks on {count} ({names}).",
        "module",
        "{name: sum(len(table) for key, table in vars(module).items() if key.endswith('_hooks')) "
        "for name, module in modules}",
        "import torch\n"
        "modules = [*model.named_modules(), ('all modules of torch', torch.nn.modules.module)]",
    ),
    Effect(
        "mode",
        "The call changes the mode of {count} ({names}) from eval to train.",
        "module",
        MODES,
    ),
    Effect(
        "eval_mode",
        "The call leaves {count} in eval mode, and the model was in train mode.",
        "module",
        MODES,
        "model.train()",
    ),
    Effect(
        "requires_grad",
        "The call changes requires_grad of {count} ({names}).",
        "parameter",
        "{name: parameter.requires_grad for name, parameter in model.named_parameters()}",
        "list(model.parameters())[-1].requires_grad_(False)",
    ),
    Effect(
        "gradients",
        "The call changes .grad of {count} ({names}).",
        "parameter",
        "{name: parameter.grad is not None and parameter.grad.tolist() "
        "for name, parameter in model.named_parameters()}",
        "import torch\n"
        "for parameter in model.parameters():\n"
        "    parameter.grad = torch.ones_like(parameter)",
    ),
    Effect(
        "parameters",
        "The call changes the values of {count} ({names}).",
        "parameter",
        "{name: parameter.tolist() for name, parameter in model.named_parameters()}",
    ),
    Effect(
        "buffers",
        "The call changes {count} ({names}).",
        "buffer",
        "{name: buffer.tolist() for name, buffer in model.named_buffers()}",
    ),
    Effect(
        "modules",
        "The call adds, removes or replaces {count} ({names}).",
        "module",
        "{name: (id(module), type(module)) for name, module in model.named_modules()}",
    ),
    Effect(
        "attributes",
        "The call adds or removes attributes of {count} ({names}).",
        "module",
        "{name: set(vars(module)) for name, module in model.named_modules()}",
    ),
    Effect(
        "inputs",
        "The call changes the caller's {names}.",
        "tensor",
        "{'images': images.tolist(), 'images.requires_grad': images.requires_grad, "
        "'images.grad': images.grad is not None, 'targets': targets.tolist()}",
    ),
    Effect(
        "random_states",
        "The call changes {names}.",
        "state",
        '{"torch\'s random state": torch.get_rng_state().tolist(), '
        '"NumPy\'s random state": '
        "(numpy.random.get_state()[1].tolist(), numpy.random.get_state()[2:]), "
        '"Python\'s random state": random.getstate()}',
        "import random, numpy, torch",
    ),
    Effect(
        "settings",
        "The call changes {names}.",
        "setting",
        '{"torch\'s default dtype": torch.get_default_dtype(), '
        '"torch\'s grad mode": torch.is_grad_enabled(), '
        '"torch\'s deterministic mode": torch.are_deterministic_algorithms_enabled(), '
        '"cuDNN\'s benchmark mode": torch.backends.cudnn.benchmark}',
        "import torch",
    ),
)


def find_effects(cam: CamFunction, case: Case) -> list[Finding]:
    """Return what a CAM function leaves behind on a case.

    Args:
        cam: The function.
        case: The network, which is copied, and the images.

    Returns:
        A finding per effect. If the call raises, the only finding says so.
    """
    findings: list[Finding | None] = []
    with isolated_code():
        with restored_global_state():
            first = result_or_error(lambda: _text_findings(cam, case))
        if isinstance(first, BaseException):
            return [Finding("raises", f"The call raises {one_line(first)}.", CALL)]
        findings += first
        for effect in EFFECTS:
            with restored_global_state():
                findings.append(effect.find(cam, case))
        with restored_global_state():
            findings += [check(cam, case.arguments()) for check in MEMORY_CHECKS]
    return [finding for finding in findings if finding is not None]


def _text_findings(cam: CamFunction, case: Case) -> list[Finding]:
    """Return findings about printed output and warnings."""
    stream = io.StringIO()
    with (
        redirect_stdout(stream),
        redirect_stderr(stream),
        warnings.catch_warnings(record=True, action="always") as recorded,
    ):
        case.arguments().call(cam)
    findings = []
    output = stream.getvalue()
    if output.strip():
        sentence = f"The call prints {_shortened(output)!r}."
        findings.append(Finding("output", sentence, OUTPUT_CODE))
    if recorded:
        warning = f"{recorded[0].category.__name__}: {recorded[0].message}"
        sentence = f"The call warns: {_shortened(warning)}."
        findings.append(Finding("warnings", sentence, WARNINGS_CODE))
    return findings


def _shortened(text: str) -> str:
    lines = text.strip().splitlines()
    first = lines[0].strip().rstrip(".")
    return first if len(first) <= MOST_CHARACTERS else f"{first[:MOST_CHARACTERS]}..."


def _graph_of_maps(cam: CamFunction, arguments: Arguments) -> Finding | None:
    """Find maps that require gradients, and so keep the graph of the whole network alive."""
    if not arguments.call(cam).requires_grad:
        return None
    sentence = "The maps require gradients, so that they keep the autograd graph alive."
    return Finding("graph_of_maps", sentence, f"maps = {CALL}\nassert not maps.requires_grad")


@contextmanager
def _only_new_objects() -> Iterator[None]:
    """Hide all objects from the garbage collector that exist already, so that it is quick.

    If the program has frozen objects itself, all stay frozen, because `gc.unfreeze()` would also
    release the program's own.
    """
    has_frozen_objects = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not has_frozen_objects:
            gc.unfreeze()


def _new_tensors() -> list[Tensor]:
    """Return the tensors made since `_only_new_objects` that Python objects hold."""
    gc.collect()
    return [entry for entry in gc.get_objects() if issubclass(type(entry), Tensor)]


def _kept_graph(cam: CamFunction, arguments: Arguments) -> Finding | None:
    """Find tensors with an autograd graph that stay alive after the maps are gone."""
    with _only_new_objects():
        arguments.call(cam)
        count = sum(tensor.grad_fn is not None for tensor in _new_tensors())
    if not count:
        return None
    sentence = f"After the call, an autograd graph stays in memory, with {plural(count, 'tensor')}."
    return Finding("kept_graph", sentence, KEPT_GRAPH_CODE)


def _kept_tensors(cam: CamFunction, arguments: Arguments) -> Finding | None:
    """Find tensors that accumulate over calls."""
    with _only_new_objects():
        arguments.call(cam)  # what a first call keeps, such as a cache, doesn't grow
        num_after_first = len(_new_tensors())
        for _ in range(CALLS):
            arguments.call(cam)
        kept = len(_new_tensors()) - num_after_first
    if kept < CALLS:
        return None
    sentence = f"Memory grows: {CALLS} calls leave {kept} more tensors alive."
    return Finding("memory", sentence, MEMORY_CODE)


MEMORY_CHECKS = (_graph_of_maps, _kept_graph, _kept_tensors)
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
