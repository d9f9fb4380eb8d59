"""A network from its configuration: found (embedded, torchvision's, timm's or a user's own), built,
and given weights, target layer and preprocessing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting import recognition
from axiom_bench.cutting.dependence import FixedDraws
from axiom_bench.cutting.images import TWO_CLASSES
from axiom_bench.cutting.model_copy import check_shapes, shared_copy, unwrap_parts, unwrapped
from axiom_bench.cutting.output import LOGITS, Output, OutputModule
from axiom_bench.cutting.tokens import AnyReshape, check_reshape
from axiom_bench.data.layouts.classes import NetworkClasses, class_indices, names_of_logits
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError, type_name, unknown
from axiom_bench.kinds import shown
from axiom_bench.models import layers, weights
from axiom_bench.models.other_inputs import InputsFile
from axiom_bench.models.outputs import find_output
from axiom_bench.models.sources import Source, find_source
from axiom_bench.models.spec import AS_BUILT, OBJECT_OUTPUTS, ModelSpec
from axiom_bench.models.user_code import called, import_function
from axiom_bench.models.weights import Weights

if TYPE_CHECKING:
    from axiom_bench.models.objects import Objects

CLASSES = "num_classes"  # as torchvision and timm call it
NOTHING = Preprocessing(None, None, (), (), shape=(0,))  # done to arrays


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to be cut.

    module: in eval mode, on the CPU, float32. layer: the dotted name of the target layer. classes:
    one name per logit, None where the order is the data set's own. weights: where they come from.
    weights_sha256: of the file, else of the state dict. reshape and output: as `CutModel` takes
    them; the name tells an output that isn't the logits, and output_module is the module behind the
    network. depth: the place of the layer in the order in which modules run. build: made the
    network, its arguments bound. note: what a reader must know of its values. accuracy: that
    published for its weights, a share of ImageNet's validation images; 0 if unknown. lines: how it
    was made, for the user. recognised: the sentence about what it returns, where that is no logits
    and nobody said so. inputs: what it takes beside the images, also of a network that finds
    objects. finetuned: its copy with the weights of that setting.
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
    accuracy: float = 0.0
    recognised: str = ""
    lines: tuple[str, ...] = ()
    inputs: InputsFile | Objects | None = None
    finetuned: nn.Module | None = None

    @property
    def named_classes(self) -> NetworkClasses:
        """By which a data set may know them."""
        return NetworkClasses(self.classes, self.number_of_classes)

    def class_index(self, text: str) -> int:
        """Of a class that is named by name or index. Raises BenchError, with the nearest names, for
        no such class, and for a name that several classes have.
        """
        names = self.classes or ()
        same = [place for place, name in enumerate(names) if name == text]
        if len(same) > 1:
            places = " and ".join(map(str, same))
            raise BenchError(
                f"{len(same)} classes of {self.name} are called {text!r}; give an index: {places}."
            )
        if same:
            return same[0]
        if text.isdecimal() and int(text) < self.number_of_classes:
            return int(text)
        if text in (meant := class_indices([text], [], names)):
            return meant[text]
        if names and not text.isdecimal():
            raise unknown(f"class of {self.name}", text, names)
        kind = "a name or an index" if names else "an index"
        last = self.number_of_classes - 1
        advice = f"give {kind} from 0 to {last}" if last else f"its one class is 0. {TWO_CLASSES}"
        raise BenchError(f"There is no class {text!r} of {self.name}; {advice}.")


def load_model(cfg: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> LoadedModel:
    """The model that a mapping with the keys of conf/model/user.yaml describes (see ModelSpec).

    shape: (C, *space) of the samples that it is for, where they are arrays: they are taken as they
    are, but for a mean and std that are set. Raises BenchError for anything in it that can't be:
    names, files, weights, layer, input size, number of classes.
    """
    spec = _with_count(ModelSpec.of(cfg))
    module, source, loaded, lines = _made(spec, find_source(spec))
    name = spec.name
    if spec.draw is not None:
        module, name = FixedDraws(module, spec.draw), f"{name}+draw{spec.draw}"
    preprocessing = _preprocessing(spec, source, shape)
    sides = input_size(preprocessing)
    noise = torch.rand(
        1, preprocessing.channels, *sides, generator=torch.Generator().manual_seed(0)
    )
    module, output, inputs = _with_inputs(spec, module, noise)
    asked = shared_copy(module)
    if inputs is not None:
        inputs.takes.give(asked, inputs.first)
    try:
        calls = layers.record(asked, sides, output.function, preprocessing.channels)
    except BenchError as error:
        if inputs is None:
            raise
        raise BenchError(f"{error} {inputs.description}") from error
    reshape = _reshape(spec)
    if is_recognised := output.returns is None:
        output = recognition.recognised(output, asked, noise)
    shared = calls
    is_default = spec.layer in ("default", "last_relu")
    if inputs is not None and not isinstance(inputs, InputsFile) and is_default:
        shared = inputs.shared(module, sides, preprocessing.channels)
    layer = layers.choose(module, spec.layer, shared, reshape)
    if is_default:
        lines += layers.default_notes(layer, shared, reshape)
    if is_default and reshape is None and layers.has_tokens(layer, shared):
        reshape = "tokens"
    number_of_classes = calls[-1].shape[1]
    classes = _class_names(spec, source, module, number_of_classes)
    return LoadedModel(
        name=output.name_of(name),
        module=module,
        layer=layer.removeprefix("module.")
        if spec.draw is not None or spec.output in OBJECT_OUTPUTS
        else layer,
        number_of_classes=len(output.classes or ()) or number_of_classes,
        classes=output.classes or classes,
        preprocessing=preprocessing,
        weights=loaded.description,
        random_weights=loaded.are_random,
        weights_sha256=loaded.sha256,
        reshape=reshape,
        output=output,
        output_module=output.module(number_of_classes),
        depth=layers.depth(layer, calls),
        build=source.build,
        note=source.note,
        accuracy=0.0 if output.classes else source.accuracy,
        recognised=recognition.note(output, "model.output=logits") if is_recognised else "",
        lines=tuple(f"{spec.name}: {line}" for line in lines),
        inputs=inputs,
        finetuned=_finetuned(spec, source, noise),
    )


def _finetuned(spec: ModelSpec, source: Source, image: Tensor) -> nn.Module | None:
    """The network, built as it was for its own weights, with those of `finetuned`. image: (1, C,
    *space).
    """
    if spec.finetuned is None:
        return None
    spec = replace(spec, weights=spec.finetuned, weights_key=None)
    try:
        file = spec.weights_file
        loaded = source.published(str(spec.weights)) if file is None else weights.read(file)
        module = _build(spec, source)
        weights.fit(module, loaded, spec.architecture)
    except BenchError as error:
        raise BenchError(f"model.finetuned: {error}") from error
    return _with_inputs(
        spec, module if spec.draw is None else FixedDraws(module, spec.draw), image
    )[0]


def _preprocessing(spec: ModelSpec, source: Source, shape: tuple[int, ...] | None) -> Preprocessing:
    """That of the source, but for what is configured. shape: as `load_model` takes it."""
    preprocessing = source.preprocessing
    if shape is not None:
        preprocessing = replace(
            NOTHING if preprocessing.shape is None else preprocessing, shape=shape
        )
    if preprocessing.shape is None:
        spec.check_colours()
    settings = {
        key: getattr(spec, key) for key in ("resize", "crop", "mean", "std", "interpolation")
    }
    return replace(
        preprocessing, **{key: value for key, value in settings.items() if value is not None}
    )


def _with_inputs(
    spec: ModelSpec, module: nn.Module, image: Tensor
) -> tuple[nn.Module, Output, InputsFile | Objects | None]:
    """The network, also as one that finds objects; its output; and what it takes beside the images.
    image: (1, C, *space).
    """
    if spec.output in OBJECT_OUTPUTS:
        from axiom_bench.models.objects import of_objects  # here: most networks find none

        return of_objects(spec, module, image)
    file = spec.inputs and InputsFile.of(
        Path(spec.inputs).expanduser(), module, image, spec.explained
    )
    return module, find_output(spec.output), file or None


def input_size(preprocessing: Preprocessing) -> tuple[int, ...]:
    """(H', W') of the images that reach the network, or an array's space; 224 x 224 where nothing
    resizes or crops pictures.
    """
    side = preprocessing.resize if isinstance(preprocessing.resize, int) else 224
    return preprocessing.size or (side, side)


def _class_names(
    spec: ModelSpec, source: Source, module: nn.Module, number: int
) -> tuple[str, ...] | None:
    """The configured names, those of the weights, or `id2label` of transformers; None where there
    aren't as many as logits. Raises BenchError where other than `number` names are configured.
    """
    configured = () if isinstance(spec.classes, int | None) else names_of_logits(spec.classes)
    if (count := _count(spec)) not in (None, number):
        advice = (
            "; name each logit once, in the order of the logits"
            if number > 1
            else f". {TWO_CLASSES}"
        )
        raise BenchError(
            f"model.classes names {count} classes, and {spec.name} has {number} logits{advice}."
        )
    of_parts = (
        getattr(getattr(part, "config", None), "id2label", None) for part in module.modules()
    )
    labels = (
        entry for entry in of_parts if isinstance(entry, Mapping) and entry.get(0) != "LABEL_0"
    )  # unnamed there
    listed = (
        tuple(str(entry.get(index, index)) for index in range(len(entry))) for entry in labels
    )
    return next(
        (names for names in (configured, source.classes or (), *listed) if len(names) == number),
        None,
    )


def _count(spec: ModelSpec) -> int | None:
    """How many classes are configured, by their number or their names."""
    classes = spec.classes
    return classes if isinstance(classes, int | None) else len(names_of_logits(classes)) or None


def _with_count(spec: ModelSpec) -> ModelSpec:
    """A library's network with random weights is built with as many classes as are configured."""
    is_open = (
        spec.source in ("torchvision", "timm")
        and spec.weights is None
        and CLASSES not in spec.kwargs
    )
    count = _count(spec) if is_open else None
    return spec if count is None else replace(spec, kwargs={CLASSES: count, **spec.kwargs})


def _build(spec: ModelSpec, source: Source) -> nn.Module:
    """The network with random weights drawn from `seed`, whatever was drawn before; the global
    state isn't moved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        try:
            module = source.build()
        except BenchError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            missing = re.search(r"missing \d+ required .*?'(\w+)'", str(error))
            raise BenchError(
                f"{spec.architecture} can't be built with "
                f"model.kwargs={shown(dict(spec.kwargs))}: {type(error).__name__}: "
                f"{error}{f'; set model.kwargs.{missing[1]}=VALUE' if missing else ''}."
            ) from error
    if isinstance(
        module, Mapping | tuple | list
    ):  # beside the network may stand transforms or a config
        parts = list(module.values() if isinstance(module, Mapping) else module)
        networks = [part for part in parts if isinstance(part, nn.Module)]
        module = networks[0] if len(networks) == 1 else module
    if not isinstance(module, nn.Module):
        raise BenchError(f"{spec.architecture} must return an nn.Module, not {type_name(module)}.")
    check_shapes(module)
    network = unwrap_parts(unwrapped(module)).cpu().float()
    network.eval()
    return network


def _reshape(spec: ModelSpec) -> AnyReshape | None:
    """What `CutModel` takes: an object of the user's own is built from its class. Raises
    BenchError.
    """
    if not isinstance(spec.reshape, str) or not set(spec.reshape) & set(":."):
        return check_reshape(spec.reshape)
    expected = "give module:class or path/to/file.py:class, a class with to_maps and from_maps"
    return check_reshape(
        called(import_function(spec.reshape, "model.reshape", expected), "model.reshape")
    )


def _made(spec: ModelSpec, source: Source) -> tuple[nn.Module, Source, Weights, list[str]]:
    """The network with its weights, built as the file of weights has it, and sentences on how it
    came to them.
    """
    module = _build(spec, source)
    if spec.weights is None or (spec.source == "user" and spec.weights == AS_BUILT):
        return module, source, *_of_itself(spec, source, module)
    file, lines = spec.weights_file, list[str]()
    loaded = source.published(spec.weights) if file is None else weights.read(file)
    fits = weights.places(loaded, weights.tensors_of(module))[0].fits
    if file is not None and not fits and (kwargs := _of_the_file(spec, source, loaded)):
        source = replace(source, build=partial(source.build, **kwargs))
        module = _build(spec, source)
        text = ", ".join(f"{name}={value}" for name, value in kwargs.items())
        lines = [f"{spec.architecture} is built with {text}, as {loaded.description} has it."]
    lines += weights.fit(module, loaded, spec.architecture, spec.weights_key)
    if spec.weights_key is not None:  # not the file alone decides which they are
        loaded = replace(loaded, sha256=weights.state_sha256(module.state_dict()))
    return module, source, loaded, lines


def _of_itself(spec: ModelSpec, source: Source, module: nn.Module) -> tuple[Weights, list[str]]:
    """The weights with which it was built. Where a user's function has loaded them, no seed changes
    them.
    """
    built = Weights(None, "as built", weights.state_sha256(module.state_dict()))
    if spec.weights == AS_BUILT:
        return built, []
    if spec.source == "user":
        other = _build(replace(spec, seed=spec.seed ^ 1), source)
        if weights.state_sha256(other.state_dict()) == built.sha256:
            return built, [
                "its weights don't change with model.seed, so they count as model.weights=as_built."
            ]
    return replace(built, description=f"random, seed {spec.seed}", are_random=True), []


def _of_the_file(spec: ModelSpec, source: Source, loaded: Weights) -> dict[str, Any]:
    """The arguments with which a library's network is the one in a file: of another number of
    classes, or without auxiliary heads; {} where there are none. Raises BenchError for a last layer
    of another form.
    """
    for kwargs in source.variants if CLASSES not in spec.kwargs else ():
        with torch.random.fork_rng(devices=[]):
            few, more = (
                weights.tensors_of(source.build(**kwargs, num_classes=count)) for count in (2, 3)
            )
        heads = {name for name in few if few[name].shape != more[name].shape}
        place = weights.places(loaded, few)[0]
        counts = {place.tensors[name].shape[:1] for name in heads & place.tensors.keys()}
        if not heads.issuperset([*place.wrong, *place.missing]):
            continue
        if place.missing:
            raise BenchError(
                f"{loaded.description} has another last layer than {spec.architecture} "
                f"({place.missing[0]} is missing, unexpected: "
                f"{', '.join(place.unexpected[:3]) or 'nothing'}); write a function that builds "
                "yours, and set model=user model.architecture=net.py:build."
            )
        if not place.unexpected and len(counts) == 1:
            return {**kwargs, CLASSES: counts.pop()[0]}
    return {}
