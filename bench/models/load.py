"""Load a network from its configuration: find and build it, and give it weights, a target layer and
preprocessing.

Runs, `explain`, `doctor` and `ab.load_model` get their networks from `load_model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from axiom_bench.cutting import recognition
from axiom_bench.cutting.dependence import FixedDraws
from axiom_bench.cutting.images import TWO_CLASSES
from axiom_bench.cutting.model_copy import (
    check_shapes,
    layer_name,
    shared_copy,
    unwrap_parts,
    unwrapped,
)
from axiom_bench.cutting.output import LOGITS, Output, OutputModule
from axiom_bench.cutting.tokens import AnyReshape, check_reshape
from axiom_bench.data.layouts.classes import NetworkClasses, class_indices, network_class_names
from axiom_bench.data.preprocessing import Preprocessing, usual_normalisation
from axiom_bench.errors import BenchError, plural, type_name, unknown_name
from axiom_bench.kinds import home_expanded, shorten_for_error
from axiom_bench.models import layers, weights
from axiom_bench.models.other_inputs import InputsFile
from axiom_bench.models.outputs import find_output
from axiom_bench.models.sources import Source, find_source
from axiom_bench.models.spec import AS_BUILT, PLACED_OUTPUTS, ModelSpec, named_settings
from axiom_bench.models.user_code import call_without_arguments, import_function
from axiom_bench.models.weights import Weights
from axiom_bench.models.words import WordScores

if TYPE_CHECKING:
    from axiom_bench.models.objects import Objects

CLASSES = "num_classes"  # as torchvision and timm call it
NO_PREPROCESSING = Preprocessing(None, None, (), (), shape=(0,))  # arrays are used as they are


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to be cut."""

    name: str  # contains the output's name, if the output isn't the logits
    module: nn.Module  # in eval mode, on the CPU, float32
    layer: str  # the dotted name of the target layer
    number_of_classes: int
    classes: tuple[str, ...] | None  # one name per logit; None if the data set gives their order
    preprocessing: Preprocessing
    weights: str  # where the weights come from
    weights_sha256: str  # of the file, or of the state dict if there is no file
    reshape: AnyReshape | None = None  # as `CutModel` takes it
    output: Output = LOGITS  # as `CutModel` takes it
    output_module: OutputModule | None = None  # the module that computes `output`
    depth: int = 0  # the index of the layer in the order in which modules finish
    random_weights: bool = False
    build: Callable[[], nn.Module] | None = None  # builds the network without its weights
    note: str = ""  # what a reader must know about the model's values
    # The published accuracy of the weights, a share of ImageNet's validation images; 0 if unknown.
    accuracy: float = 0.0
    # A sentence on what the network returns, if it was recognised as something other than logits.
    recognition_note: str = ""
    lines: tuple[str, ...] = ()  # sentences for the user on how the network was made
    # The network's inputs in addition to the images, or the objects that it finds.
    inputs: InputsFile | Objects | None = None
    finetuned: nn.Module | None = None  # the copy with the weights of model.finetuned

    @property
    def finds_objects(self) -> bool:
        """True if a score belongs to one object of an image, see cutting.objects."""
        return getattr(self.module, "of_objects", False)

    @property
    def says_words(self) -> bool:
        """True if a score belongs to one word of a text about an image."""
        return isinstance(self.module, WordScores)

    @property
    def noun(self) -> str:
        """The noun for what a row of a run explains: "image", "object" or "word"."""
        if not self.finds_objects:
            return "image"
        return "word" if self.says_words else "object"

    @property
    def named_classes(self) -> NetworkClasses:
        """The names and the number of the classes, by which a data set may recognise them."""
        return NetworkClasses(self.classes, self.number_of_classes)

    def class_index(self, text: str) -> int:
        """Return the index of the class with this name or index.

        Raises:
            BenchError: if there is no such class (the nearest names are listed), or if several
                classes have this name.
        """
        names = self.classes or ()
        # A class may be called by a number, so names come before indices.
        indices = [index for index, name in enumerate(names) if name == text]
        if len(indices) > 1:
            listed = " and ".join(map(str, indices))
            raise BenchError(
                f"{len(indices)} classes of {self.name} are called {text!r}; give an index: "
                f"{listed}."
            )
        if indices:
            return indices[0]
        if text.isdecimal() and int(text) < self.number_of_classes:
            return int(text)
        recognised = class_indices([text], [], names)
        if text in recognised:
            return recognised[text]
        if names and not text.isdecimal():
            raise unknown_name("class", text, names, place=f"of {self.name}")
        kind = "a name or an index" if names else "an index"
        last = self.number_of_classes - 1
        advice = f"give {kind} from 0 to {last}" if last else f"its one class is 0. {TWO_CLASSES}"
        raise BenchError(f"There is no class {text!r} of {self.name}; {advice}.")


def load_model(cfg: Mapping[str, object], shape: tuple[int, ...] | None = None) -> LoadedModel:
    """Return the model that a mapping with the keys of conf/model/user.yaml describes.

    Args:
        cfg: The settings, see `ModelSpec`.
        shape: (C, *space) of the samples, if they are arrays. Arrays are used as they are, except
            that a configured mean and std are applied.

    Raises:
        BenchError: if a setting is impossible: a name, a file, the weights, the layer, the input
            size or the number of classes.
    """
    spec = _with_configured_classes(ModelSpec.of(cfg))
    source = find_source(spec)
    spec = _completed(spec, source)
    module, source, loaded, lines = _load_weights(spec, source)
    has_checkpoint = spec.checkpoint is not None or source.weights_file is not None
    if has_checkpoint and source.note:
        lines = [*lines, source.note]
    origin = ""
    if spec.source == "user":
        mean, std, origin = usual_normalisation(module)
        source = replace(source, preprocessing=replace(source.preprocessing, mean=mean, std=std))
    name = spec.name
    if spec.draw is not None:
        module = FixedDraws(module, spec.draw)
        name = f"{name}+draw{spec.draw}"
    preprocessing = _preprocessing(spec, source, shape)
    sides = input_size(preprocessing)
    noise = torch.rand(
        1, preprocessing.channels, *sides, generator=torch.Generator().manual_seed(0)
    ).to(source.dtype)
    module, output, inputs = _with_inputs(spec, module, noise)
    word_scores = module if isinstance(module, WordScores) else None
    if word_scores is not None:
        if spec.layer == "default":
            spec = replace(spec, layer=word_scores.default_layer)
        if word_scores.prompt:
            lines = [*lines, f"the prompt is {word_scores.prompt!r}."]

    # One forward pass shows the layers and the scores.
    network = shared_copy(module)
    if inputs is not None:
        inputs.takes.give(network, inputs.first)
    try:
        calls = layers.record_calls(network, sides, output.function, preprocessing.channels)
    except BenchError as error:
        if inputs is None:
            raise
        raise BenchError(f"{error} {inputs.description}") from error
    reshape = _reshape(spec)
    if reshape == "tokens" and source.reshape is not None:
        reshape = source.reshape
    is_recognised = output.returns is None
    if is_recognised:
        output = recognition.recognised(output, network, noise)

    # A default layer of a network that finds objects must be one on which all objects depend.
    layer_calls = calls
    is_default = spec.layer in ("default", "last_relu")
    if inputs is not None and not isinstance(inputs, InputsFile) and is_default:
        layer_calls = inputs.shared(module, sides, preprocessing.channels)
    if word_scores is not None and reshape is None:
        full_name = layer_name(module, spec.layer) or spec.layer
        if layers.has_tokens(full_name, calls):
            reshape = "tokens"
    layer = layers.choose_layer(module, spec.layer, layer_calls, reshape)
    if is_default:
        lines += layers.default_notes(layer, layer_calls, reshape)
        if reshape is None and layers.has_tokens(layer, layer_calls):
            reshape = "tokens"
    depth = layers.cut_index(layer, calls)
    if spec.draw is not None or spec.output in PLACED_OUTPUTS:
        layer = re.sub(r"^(module\.)+", "", layer)  # the name inside the wrappers

    number_of_classes = calls[-1].shape[1]
    # A file of other classes than the library's was trained by the user.
    is_trained = bool(source.classes) and number_of_classes != len(source.classes or ())
    if is_trained and spec.source in ("torchvision", "timm") and spec.weights_file is not None:
        origin = f"those of {spec.source}'s own weights"
    if origin and preprocessing.shape is None:
        lines = [*lines, *_normalisation_notes(spec, preprocessing, origin)]
    classes = _class_names(spec, source, module, number_of_classes)
    return LoadedModel(
        name=output.model_name(name),
        module=module,
        layer=layer,
        number_of_classes=len(output.classes or ()) or number_of_classes,
        classes=output.classes or classes,
        preprocessing=preprocessing,
        weights=loaded.description,
        random_weights=loaded.are_random,
        weights_sha256=loaded.sha256,
        reshape=reshape,
        output=output,
        output_module=output.module(number_of_classes),
        depth=depth,
        build=source.build,
        note=source.note,
        accuracy=0.0 if output.classes else source.accuracy,
        recognition_note=recognition.note(output, "model.output=logits") if is_recognised else "",
        lines=tuple(f"{spec.name}: {line}" for line in lines),
        inputs=inputs,
        finetuned=_finetuned(spec, source, noise),
    )


def named_layer(name: str) -> str:
    """Return the target layer of a model of conf/model or of a library, without loading weights.

    Args:
        name: The model's name.

    Raises:
        BenchError: if the settings don't decide the network, such as for model=user.
    """
    spec = ModelSpec.of(named_settings(name, {"weights": None}))
    if spec.layer not in ("default", "last_relu"):
        return spec.layer
    source = find_source(spec)
    preprocessing = _preprocessing(spec, source, None)
    with torch.device("meta"):  # shapes are enough
        network = source.build().eval()
    sides = input_size(preprocessing)
    calls = layers.record_calls(network, sides, channels=preprocessing.channels)
    return layers.choose_layer(network, spec.layer, calls)


def background_of(cfg: Mapping[str, object]) -> int | None:
    """Return the output that is no class of the data, or None, without loading the network.

    Args:
        cfg: The settings, see `ModelSpec`.
    """
    spec = ModelSpec.of(cfg)
    if spec.checkpoint is not None and spec.background is None:
        return find_source(spec).background
    return spec.background


def _completed(spec: ModelSpec, source: Source) -> ModelSpec:
    """Return the spec with what the source knows of the settings that are null."""
    output = spec.output or source.output
    background = source.background if spec.background is None else spec.background
    return replace(spec, output=output, background=background)


def _finetuned(spec: ModelSpec, source: Source, image: Tensor) -> nn.Module | None:
    """Return a copy of the network with the weights of model.finetuned; `image` is (1, C,
    *space).

    The metric f_fidelity judges maps by this copy.
    """
    if spec.finetuned is None:
        return None
    spec = replace(spec, weights=spec.finetuned, weights_key=None)
    try:
        file = spec.weights_file
        loaded = (
            source.load_published(str(spec.weights)) if file is None else weights.read_weights(file)
        )
        module = _build(spec, source)
        weights.load_into(module, loaded, spec.architecture)
    except BenchError as error:
        raise BenchError(f"model.finetuned: {error}") from error
    if spec.draw is not None:
        module = FixedDraws(module, spec.draw)
    network, _, _ = _with_inputs(spec, module, image)
    return network


def _preprocessing(spec: ModelSpec, source: Source, shape: tuple[int, ...] | None) -> Preprocessing:
    """Return the source's preprocessing with the configured settings; see `load_model` for
    `shape`.
    """
    preprocessing = source.preprocessing
    if shape is not None:
        if preprocessing.shape is None:  # the source expects pictures
            preprocessing = NO_PREPROCESSING
        preprocessing = replace(preprocessing, shape=shape)
    if preprocessing.shape is None:
        spec.check_colours()
    changes = {}
    for key in ("resize", "crop", "mean", "std", "interpolation"):
        value = getattr(spec, key)
        if value is not None:
            changes[key] = value
    return replace(preprocessing, **changes)


def _normalisation_notes(spec: ModelSpec, used: Preprocessing, origin: str) -> list[str]:
    """Return a sentence on the mean and std of a network that the user trained, if the user hasn't
    set both.

    The values of every method depend on them, and weights don't say what they are.

    Args:
        spec: The settings of the model.
        used: The preprocessing that is used.
        origin: Words for the origin of its mean and std.
    """
    names = [key for key in ("mean", "std") if getattr(spec, key) is None]
    if not names:
        return []
    settings = [f"model.{key}={list(getattr(used, key))}".replace(", ", ",") for key in names]
    return [
        f"you haven't set {' and '.join(names)}, so images are normalised by {origin}; set "
        f"{' '.join(settings)}, or the numbers of its training (0 and 1 if the network normalises "
        "images itself)."
    ]


def _with_inputs(
    spec: ModelSpec, module: nn.Module, image: Tensor
) -> tuple[nn.Module, Output, InputsFile | Objects | None]:
    """Return the network (wrapped if it finds objects), its output, and its inputs in addition to
    the images; `image` is (1, C, *space).
    """
    if spec.output in PLACED_OUTPUTS:
        from axiom_bench.models.objects import wrap_object_network  # few networks find objects

        return wrap_object_network(spec, module, image)
    inputs = None
    if spec.inputs:
        path = home_expanded(spec.inputs)
        inputs = InputsFile.of(path, module, image, spec.explained)
    return module, find_output(spec.output), inputs


def input_size(preprocessing: Preprocessing) -> tuple[int, ...]:
    """Return (H', W') of the images that reach the network, or the space of an array.

    It is 224 x 224 if nothing resizes or crops pictures.
    """
    side = preprocessing.resize if isinstance(preprocessing.resize, int) else 224
    return preprocessing.size or (side, side)


def _class_names(
    spec: ModelSpec, source: Source, module: nn.Module, number: int
) -> tuple[str, ...] | None:
    """Return `number` names of classes: the configured ones, those of the weights, or `id2label` of
    transformers; None if none of these has `number` names.

    Commands find a class by its name, and a data set recognises the network's classes by them.
    """
    configured = () if isinstance(spec.classes, int | None) else network_class_names(spec.classes)
    count = _configured_classes(spec)
    if spec.background is not None and configured and len(configured) == number - 1:
        position = range(number)[spec.background]
        configured = (*configured[:position], "background", *configured[position:])
        count = number
    if count not in (None, number):
        advice = f". {TWO_CLASSES}"
        if number > 1:
            advice = "; name each logit once, in the order of the logits"
        raise BenchError(
            f"model.classes names {plural(count, 'class')}, and {spec.name} has "
            f"{plural(number, 'logit')}{advice}."
        )
    words = module.class_names if isinstance(module, WordScores) else ()
    for names in (configured, source.classes or (), words):
        if len(names) == number:
            return names
    for part in module.modules():
        labels = getattr(getattr(part, "config", None), "id2label", None)
        # transformers calls classes LABEL_0, LABEL_1, ... if it doesn't know their names.
        if isinstance(labels, Mapping) and labels.get(0) != "LABEL_0" and len(labels) == number:
            return tuple(str(labels.get(index, index)) for index in range(number))
    return None


def _configured_classes(spec: ModelSpec) -> int | None:
    """Return how many classes model.classes configures, by their number or by their names."""
    classes = spec.classes
    if isinstance(classes, int | None):
        return classes
    return len(network_class_names(classes)) or None


def _with_configured_classes(spec: ModelSpec) -> ModelSpec:
    """Return the spec with the configured number of classes as an argument, if it is a library's
    network with random weights.

    Its last layer then has one output per class.
    """
    is_random = spec.source in ("torchvision", "timm") and spec.weights is None
    if not is_random or CLASSES in spec.kwargs:
        return spec
    count = _configured_classes(spec)
    if count is None:
        return spec
    return replace(spec, kwargs={CLASSES: count, **spec.kwargs})


def _build(spec: ModelSpec, source: Source) -> nn.Module:
    """Return the network with random weights drawn from `seed`, without changing torch's global
    random state.

    The same seed thus gives the same network, whatever was drawn before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        try:
            module = source.build()
        except BenchError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            missing = re.search(r"missing \d+ required .*?'(\w+)'", str(error))
            advice = f"; set model.kwargs.{missing[1]}=VALUE" if missing else ""
            raise BenchError(
                f"{spec.architecture} can't be built with "
                f"model.kwargs={shorten_for_error(dict(spec.kwargs))}: {type(error).__name__}: "
                f"{error}{advice}."
            ) from error
    # A function may return transforms or a config together with the network.
    if isinstance(module, Mapping | tuple | list):
        parts = list(module.values() if isinstance(module, Mapping) else module)
        networks = [part for part in parts if isinstance(part, nn.Module)]
        module = networks[0] if len(networks) == 1 else module
    if not isinstance(module, nn.Module):
        raise BenchError(f"{spec.architecture} must return an nn.Module, not {type_name(module)}.")
    check_shapes(module)
    network = unwrap_parts(unwrapped(module)).cpu().to(source.dtype)
    network.eval()
    return network


def _reshape(spec: ModelSpec) -> AnyReshape | None:
    """Return the reshape for `CutModel`, built from the user's class if the setting names one."""
    if not isinstance(spec.reshape, str) or not set(spec.reshape) & set(":."):
        return check_reshape(spec.reshape)
    expected = "give module:class or path/to/file.py:class, a class with to_maps and from_maps"
    reshape_class = import_function(spec.reshape, "model.reshape", expected)
    return check_reshape(call_without_arguments(reshape_class, "model.reshape"))


def _load_weights(spec: ModelSpec, source: Source) -> tuple[nn.Module, Source, Weights, list[str]]:
    """Return the network with its weights, the source that builds it for the file, the weights, and
    sentences on how they were loaded.
    """
    module = _build(spec, source)
    if source.weights_file is not None:
        sha256 = weights.file_sha256(source.weights_file)
        return module, source, Weights(None, source.weights_file.name, sha256), []
    is_as_built = spec.source in ("user", "huggingface") and spec.weights == AS_BUILT
    if spec.weights is None or is_as_built:
        built, lines = _built_weights(spec, source, module)
        return module, source, built, lines
    lines = []
    file = spec.weights_file
    loaded = source.load_published(spec.weights) if file is None else weights.read_weights(file)
    fits = weights.find_places(loaded, weights.tensors_of(module))[0].fits
    if file is not None and not fits:
        kwargs = _arguments_for_file(spec, source, loaded)
        if kwargs:
            source = replace(source, build=partial(source.build, **kwargs))
            module = _build(spec, source)
            text = ", ".join(f"{name}={value}" for name, value in kwargs.items())
            lines = [f"{spec.architecture} is built with {text}, as {loaded.description} has it."]
    lines += weights.load_into(module, loaded, spec.architecture, spec.weights_key)
    if spec.weights_key is not None:
        # The file holds several networks, so its checksum doesn't say which one was loaded.
        loaded = replace(loaded, sha256=weights.state_sha256(module.state_dict()))
    return module, source, loaded, lines


def _built_weights(spec: ModelSpec, source: Source, module: nn.Module) -> tuple[Weights, list[str]]:
    """Return the weights with which the network was built, and sentences about them."""
    built = Weights(None, "as built", weights.state_sha256(module.state_dict()))
    if spec.weights == AS_BUILT:
        return built, []
    if spec.source == "user":
        # If another seed gives the same weights, the user's function has loaded them.
        other = _build(replace(spec, seed=spec.seed ^ 1), source)
        if weights.state_sha256(other.state_dict()) == built.sha256:
            return built, [
                "its weights don't change with model.seed, so they count as model.weights=as_built."
            ]
    return replace(built, description=f"random, seed {spec.seed}", are_random=True), []


def _arguments_for_file(spec: ModelSpec, source: Source, loaded: Weights) -> dict[str, object]:
    """Return the arguments (a number of classes, no auxiliary heads) with which a library builds
    the network that a file holds; {} if there are none.
    """
    if CLASSES in spec.kwargs:
        return {}
    for kwargs in source.variants:
        # The tensors whose shape follows the number of classes are those of the heads.
        with torch.random.fork_rng(devices=[]):
            two_classes = weights.tensors_of(source.build(**kwargs, num_classes=2))
            three_classes = weights.tensors_of(source.build(**kwargs, num_classes=3))
        heads = {
            name for name in two_classes if two_classes[name].shape != three_classes[name].shape
        }
        place = weights.find_places(loaded, two_classes)[0]
        counts = {place.tensors[name].shape[:1] for name in heads & place.tensors.keys()}
        if not heads.issuperset([*place.wrong_shape, *place.missing]):
            continue
        if place.missing:
            unexpected = ", ".join(place.unexpected[:3]) or "nothing"
            raise BenchError(
                f"{loaded.description} has another last layer than {spec.architecture} "
                f"({place.missing[0]} is missing, unexpected: {unexpected}); write a function that "
                "builds yours, and set model=user model.architecture=net.py:build."
            )
        if not place.unexpected and len(counts) == 1:
            return {**kwargs, CLASSES: counts.pop()[0]}
    return {}
