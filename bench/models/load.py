"""A network from its configuration: built, with weights, target layer and preprocessing."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting import output
from axiom_bench.cutting.output import LOGITS, Output, OutputModule, check_output
from axiom_bench.cutting.output_presets import multi_label, regression, segmentation
from axiom_bench.cutting.tokens import AnyReshape, check_reshape
from axiom_bench.data.layouts.classes import NetworkClasses, names_of_logits
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError, type_name, unknown
from axiom_bench.kinds import shown
from axiom_bench.models import layers, sources, weights
from axiom_bench.models.sources import Source, called, import_function
from axiom_bench.models.spec import ModelSpec

GROUPS = Path(__file__).parent.parent / "data" / "voc_in_imagenet.tsv"
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to be cut.

    module: in eval mode, on the CPU, float32. layer: the dotted name of the target layer. classes: one name per logit,
    None where the order is the data set's own. weights: where they come from. weights_sha256: of the file, else of the
    state dict. reshape: of a transformer's layer, and output, what is explained, as `CutModel` takes them; the name
    tells an output that isn't the logits, and output_module is the module behind the network. depth: the place of the
    layer among all modules, in the order in which the network runs them. random_weights: whether the weights were drawn
    from the seed. build: the function that built the network, with its arguments bound. note: what a reader must know
    of its values.
    """

    name: str
    module: nn.Module
    layer: str
    number_of_classes: int
    classes: tuple[str, ...] | None
    preprocessing: Preprocessing
    weights: str
    weights_sha256: str
    reshape: AnyReshape | None = None
    output: Output = LOGITS
    output_module: OutputModule | None = None
    depth: int = 0
    random_weights: bool = False
    build: Callable[[], nn.Module] | None = None
    note: str = ""

    @property
    def named_classes(self) -> NetworkClasses:
        """By which a data set may know them."""
        return NetworkClasses(self.classes, self.number_of_classes)


def load_model(cfg: Mapping[str, Any]) -> LoadedModel:
    """The model that a mapping with the keys of conf/model/user.yaml describes (see ModelSpec).

    Raises BenchError for anything in it that can't be: names, files, weights, layer, input size, number of classes.
    """
    spec = ModelSpec.of(cfg)
    source = sources.find(spec)
    module = _build(spec, source)
    loaded = _weights(spec, source, module)
    settings = {key: getattr(spec, key) for key in ("resize", "crop", "mean", "std", "interpolation")}
    configured = {key: value for key, value in settings.items() if value is not None}
    preprocessing = replace(source.preprocessing, **configured)
    output = find_output(spec.output)
    calls = layers.record(module, input_size(preprocessing), output.function, preprocessing.channels)
    reshape = _reshape(spec)
    layer = layers.choose(module, spec.layer, calls, reshaped=reshape is not None)
    number_of_classes = calls[-1].shape[1]
    classes = _class_names(spec, source, module, number_of_classes)
    return LoadedModel(
        name=output.name_of(spec.name),
        module=module,
        layer=layer,
        number_of_classes=len(output.classes or ()) or number_of_classes,
        classes=output.classes or classes,
        preprocessing=preprocessing,
        weights=loaded.description,
        random_weights=spec.weights is None,
        weights_sha256=loaded.sha256,
        reshape=reshape,
        output=output,
        output_module=output.module(number_of_classes),
        depth=layers.depth(layer, calls),
        build=source.build,
        note=source.note,
    )


def input_size(preprocessing: Preprocessing) -> tuple[int, int]:
    """(H', W') of the images that reach the network; 224 x 224 where nothing resizes or crops them."""
    side = preprocessing.resize if isinstance(preprocessing.resize, int) else 224
    return preprocessing.size or (side, side)


def _class_names(spec: ModelSpec, source: Source, module: nn.Module, number: int) -> tuple[str, ...] | None:
    """The configured names, those of the weights, or `id2label` of transformers; None where there aren't as many as
    logits. Raises BenchError where other than `number` names are configured."""
    configured = names_of_logits(spec.classes) if spec.classes else ()
    if configured and len(configured) != number:
        raise BenchError(
            f"model.classes names {len(configured)} classes, and {spec.name} has {number} logits; "
            "name each logit once, in the order of the logits."
        )
    of_parts = (getattr(getattr(part, "config", None), "id2label", None) for part in module.modules())
    labels = (entry for entry in of_parts if isinstance(entry, Mapping) and entry.get(0) != "LABEL_0")  # unnamed there
    listed = (tuple(str(entry.get(index, index)) for index in range(len(entry))) for entry in labels)
    return next((names for names in (configured, source.classes or (), *listed) if len(names) == number), None)


def _build(spec: ModelSpec, source: Source) -> nn.Module:
    """The network with random weights drawn from `seed`, whatever was drawn before; the global state isn't moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        try:
            module = source.build()
        except BenchError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            raise BenchError(
                f"{spec.architecture} can't be built with model.kwargs={shown(dict(spec.kwargs))}: "
                f"{type(error).__name__}: {error}."
            ) from error
    if not isinstance(module, nn.Module):
        raise BenchError(f"{spec.architecture} must return an nn.Module, not {type_name(module)}.")
    return module.eval()


def _reshape(spec: ModelSpec) -> AnyReshape | None:
    """What `CutModel` takes: an object of the user's own is built from its class. Raises BenchError."""
    if not isinstance(spec.reshape, str) or not set(spec.reshape) & set(":."):
        return check_reshape(spec.reshape)
    expected = "give module:class or path/to/file.py:class, a class with to_maps and from_maps"
    return check_reshape(called(import_function(spec.reshape, "model.reshape", expected), "model.reshape"))


def _weights(spec: ModelSpec, source: Source, module: nn.Module) -> weights.Weights:
    """The configured weights, loaded into the module."""
    if spec.weights is None:
        state = module.state_dict()
        return weights.Weights(state, f"random, seed {spec.seed}", weights.state_sha256(state))
    file = spec.weights_file
    loaded = source.published(spec.weights) if file is None else weights.read(file)
    weights.fit(module, loaded, spec.architecture)
    return loaded


class LogSumExpGroups(OutputModule):
    """Logits (..., C) -> (..., G): of each group of classes the logarithm of its sum of exponentials.

    Its exponential is the group's unnormalised probability, so that a softmax over the groups is the network's
    probability of each, given that the class is in one of them. groups: class indices, each group not empty.
    """

    members: Tensor
    absent: Tensor

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        widest = max(map(len, groups))
        members = [[*group, *[group[0]] * (widest - len(group))] for group in groups]
        absent = [[0.0] * len(group) + [-torch.inf] * (widest - len(group)) for group in groups]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.register_buffer("absent", torch.tensor(absent), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits.double()[..., self.members] + self.absent, -1)

    def extra_repr(self) -> str:
        """Sizes, and a checksum of the members: this text is part of a shard's key."""
        checksum = hashlib.sha256(repr(self.members.tolist()).encode()).hexdigest()
        return f"groups={self.absent.isfinite().sum(1).tolist()}, members={checksum[:16]}"


@cache
def voc_in_imagenet() -> dict[str, tuple[int, ...]]:
    """{VOC class: the indices of the ImageNet classes under it}, in VOC's order; see docs/data.md for the rule."""
    indices: dict[str, list[int]] = {name: [] for name in CLASSES}
    with GROUPS.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            indices[row["voc"]].append(int(row["index"]))
    return {name: tuple(indices) for name, indices in indices.items()}


def _voc_groups(classes: int) -> OutputModule:
    if classes != IMAGENET_CLASSES:
        raise BenchError(
            f"model.output=voc_groups needs the {IMAGENET_CLASSES} ImageNet classes in the standard order, and this "
            f"model has {classes} logits; set model.output=logits for a model of VOC's own classes."
        )
    return LogSumExpGroups(list(voc_in_imagenet().values()))


OUTPUTS = {
    **output.OUTPUTS,
    "voc_groups": Output("voc_groups", _voc_groups, are_logits=True, classes=CLASSES),
    "multi_label": multi_label(),
    "regression": regression(),
    "segmentation": segmentation(),
}


def find_output(name: str) -> Output:
    """The output of this name, or a user's own: `module:function` or `path/to/file.py:function`.

    A class is called without arguments, so that it may build a module. Raises BenchError for an unknown one.
    """
    if ":" not in name:
        if name not in OUTPUTS:
            raise unknown("model output", name, OUTPUTS)
        return OUTPUTS[name]
    expected = (
        "give module:function or path/to/file.py:function, a function from what the network returns to scores (B, n)"
    )
    function = import_function(name, "model.output", expected)
    return check_output(called(function, "model.output") if isinstance(function, type) else function)
