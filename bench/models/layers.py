"""The target layer: found in one forward pass, for any network, or checked where the user names it.

The default is the last module, in the order of execution, whose output is a feature map (B, K, H,
W) with H W > 1, and through which everything passes. No other value that is made from the image
then reaches the scores, as the autograd graph of the pass shows. If it shows no such module, the
last feature map is taken. The module is before the layer that makes the class scores (whose output
is maps of classes in SqueezeNet). Padding, dropout and adaptive pooling belong to what follows and
don't count. If there are several inputs, the map is made of the explained one. If containers end in
that map, the outermost one that doesn't hold the network's first layer gives the name: `layer4` in
a ResNet, but `features.30` in VGG-16.

A transformer's features are tokens. Its default is the last module of tokens through which
everything passes, as Swin's last norm. If the scores depend on the class token alone behind it, the
default is the first norm of the last block, whose attention still mixes the tokens.

In a network of several branches, everything may pass through no layer, or only through one of the
stem, up to which less than a quarter of the parameters lies (a head's don't count). The default is
then the last map, or tokens, at whose positions the scores have gradients, and a note says that
part of the scores doesn't pass through it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.images import check_inputs, first_convolution, several_inputs
from axiom_bench.cutting.model_copy import layer_name, own_state, parts_with_hooks, shared_copy
from axiom_bench.cutting.output import ScoreFunction, scores_of
from axiom_bench.cutting.tokens import AnyReshape, ChannelOrder, fits, layout
from axiom_bench.data.preprocessing import RGB
from axiom_bench.errors import BenchError, unknown

HEAD_TYPES = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    # around one position it makes a map of the next layer's border
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
)
RELU_TYPES = (nn.ReLU, nn.ReLU6)
EARLY = (
    0.25  # a layer up to which less than this share of the body's parameters lies explains a stem
)

Edge = tuple[Any, int]


@dataclass(frozen=True)
class Call:
    """One finished call of a module: its dotted name ("" for the network) and its output.

    channels_last: whether an output of as many dimensions as the input is (B, H, W, K), None where
    no operation tells. space: the sides of the input, (B, C, *space). of_images: False where it has
    only other inputs of the network to do with. edge: the place of the output in the autograd graph
    when the call ended, a node and the number of the node's output; None if the pass has no graph.
    """

    name: str
    module: nn.Module
    output: object
    channels_last: bool | None = None
    space: tuple[int, ...] = ()
    of_images: bool = True
    edge: Edge | None = None

    @property
    def ndim(self) -> int:
        """The number of dimensions of the input."""
        return len(self.space) + 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape; empty where it isn't a tensor."""
        return tuple(self.output.shape) if isinstance(self.output, Tensor) else ()

    @property
    def is_tokens(self) -> bool:
        """Whether the output is a transformer's: a sequence (B, N, K), or a grid with channels last
        (B, H, W, K).
        """
        if self.ndim > 3 and len(self.shape) == 3:
            return self.shape[0] == 1 < self.shape[1]  # not of an image's windows
        if len(self.shape) != self.ndim:
            return False
        looks_last = self.ndim == 4 and 1 < self.shape[1] == self.shape[2] != self.shape[3]
        return looks_last if self.channels_last is None else self.channels_last

    @property
    def is_map(self) -> bool:
        """Whether the output is a feature map: (B, K, H, W) with H W > 1, of the input's
        dimensions, and of one image: heads of attention may stand in its place.
        """
        return (
            len(self.shape) == self.ndim
            and self.shape[0] == 1 < prod(self.shape[2:])
            and not self.is_tokens
        )

    @property
    def description(self) -> str:
        """The output in words, for an error."""
        return str(self.shape) if self.shape else f"a {type(self.output).__name__}"


@torch.inference_mode(False)
def record(
    module: nn.Module,
    input_size: tuple[int, ...],
    function: ScoreFunction | None = None,
    channels: int = RGB,
) -> tuple[Call, ...]:
    """Every call of one forward pass over one black image, in the order in which the calls end; the
    network is last, with its scores (1, n) as its output.

    The pass runs on a parameter-sharing copy in eval mode, where the module is (on the meta device
    too), with an autograd graph, or without one if it fails with it. function: a user's own, from
    what the network returns to scores; None for the rule of cutting.outputs.output. Raises
    BenchError for a network that can't run on such an image, and for one without scores.
    """
    network = shared_copy(module)
    check_inputs(network)
    has_others = (
        several_inputs(network) is not None
    )  # then gradients tell what is computed of the images
    ended: list[tuple[str, nn.Module, object, bool, Edge | None]] = []

    def end(name: str, module: nn.Module, returned: object) -> None:
        tensors = (leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor))
        is_of_images = not has_others or any(each.requires_grad for each in tensors)
        ended.append((name, module, returned, is_of_images, _edge(returned)))

    for name, child in parts_with_hooks(network):
        child.register_forward_hook(
            lambda module, _, returned, name=name: end(name, module, returned)
        )
    like = next(
        (p for p in chain(network.parameters(), network.buffers()) if p.is_floating_point()),
        torch.zeros(()),
    )
    image = torch.zeros(1, channels, *input_size, device=like.device, dtype=like.dtype)

    def run(has_graph: bool) -> ChannelOrder:
        ended.clear()
        own = image.clone().requires_grad_(has_graph)
        with (
            torch.set_grad_enabled(has_graph),
            own_state(network),
            ChannelOrder(image.ndim) as order,
        ):
            network(own.clone())
        return order

    try:
        try:
            order = run(has_graph=True)
        except Exception:  # a network may compute something that has no gradients, as by NumPy
            if has_others:
                raise
            order = run(has_graph=False)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        image_of = {(2, RGB): "RGB image", (2, 1): "grey image"}.get((len(input_size), channels))
        if image_of is None:
            raise BenchError(
                f"The network can't run on a sample of the shape {(channels, *input_size)}, which "
                f"these files hold ({error}); say by data.channels where their channels are, or "
                "give the files the network's own shape."
            ) from error
        taken = getattr(first_convolution(network)[1], "in_channels", channels)
        if taken not in (1, RGB) and f"to have {taken} channels" in str(error):
            raise BenchError(
                f"The network takes images of {taken} channels, and pictures have {channels}. "
                f"Save its images as .npy files ({taken}, H, W), as the network takes them, and "
                "set data=arrays data.root=FOLDER model.resize=null model.crop=null "
                "model.mean=null model.std=null."
            ) from error
        raise BenchError(
            f"The network can't run on one {image_of} of {'x'.join(map(str, input_size))} pixels "
            f"({error}). Set model.resize and model.crop to the size that it expects; for grey "
            "images, model.mean and model.std have one number each, [0.5], for RGB three."
        ) from error
    calls = [
        Call(name, module, returned, order.channels_last(returned), input_size, of_images, edge)
        for name, module, returned, of_images, edge in ended
    ]
    scores = scores_of(function, calls[-1].output, type(module).__name__, image)
    if scores is not None:
        output = scores(calls[-1].output)
        calls[-1] = Call("", network, output, space=input_size, edge=_edge(output))
    return tuple(calls)


def _edge(value: object) -> Edge | None:
    """The place of a value in the autograd graph now: a later in-place operation moves it."""
    return (
        (value.grad_fn, value.output_nr)
        if isinstance(value, Tensor) and value.grad_fn is not None
        else None
    )


def choose(
    module: nn.Module, layer: str, calls: Sequence[Call], reshape: AnyReshape | None = None
) -> str:
    """The dotted name of the target layer, from the module's recorded calls.

    layer: `default`, `last_relu`, or a dotted name, which is checked. reshape: the user's own,
    which makes maps of the layer's output. Raises BenchError for an unknown layer, and for one
    whose output isn't maps (B, K, H, W).
    """
    if layer == "default":
        return last_spatial(calls, reshape)
    if layer == "last_relu":
        return last_relu(calls)
    # the first name of the layer, if it exists, is called, and its output is maps at its last call,
    # which is cut
    names = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
    layer = layer_name(module, layer) or layer
    if layer not in names:
        maps = [call.name for call in calls if call.name and (call.is_map or call.is_tokens)]
        outer = [name for name in maps if "." not in name]  # few, for a name that is near none
        close = difflib.get_close_matches(layer, maps, n=1, cutoff=0.5)
        raise unknown("layer", layer, {*(maps if close or len(outer) < 2 else outer)})
    target = module.get_submodule(layer)
    layer = next(
        name for name, child in module.named_modules() if child is target
    )  # a shared module has several names
    outputs = [call for call in calls if call.name == layer]  # the last one is cut
    if not outputs:
        raise BenchError(
            f"The layer {layer!r} isn't called in a forward pass; name a module that is."
        )
    last = outputs[-1]
    if last.is_tokens and reshape is None:
        raise BenchError(
            f"The layer {layer!r} gives tokens {last.description}, not maps (B, K, H, W); set "
            "model.reshape=tokens."
        )
    if not (last.is_map or (reshape is not None and len(last.shape) > 2)):
        maps = [call.name for call in calls if call.is_map and call.name]
        example = f", as {maps[-1]!r} is" if maps else ""
        raise BenchError(
            f"The layer {layer!r} gives {last.description}, not maps (B, K, H, W); name a spatial "
            f"one{example}."
        )
    return layer


def depth(layer: str, calls: Sequence[Call]) -> int:
    """The place of a layer's last call, where it is cut, in the order in which calls end."""
    return max(i for i, call in enumerate(calls) if call.name == layer)


def has_tokens(layer: str, calls: Sequence[Call]) -> bool:
    """Return whether the layer's last call returns tokens, which a reshape makes maps of."""
    return calls[depth(layer, calls)].is_tokens


def default_notes(
    layer: str, calls: Sequence[Call], reshape: AnyReshape | None = None
) -> list[str]:
    """Return the sentences for a default layer: whether it misses part of the scores, and whether
    it returns tokens.
    """
    sentences = []
    if _default(calls, reshape) == (layer, True):
        sentences.append(
            "the network has branches that no late layer joins: part of the scores doesn't pass "
            f"through the layer {layer!r}, and its maps don't explain that part."
        )
    if reshape is None and has_tokens(layer, calls):
        sentences.append(f"the layer {layer!r} returns tokens, which become maps (reshape=tokens).")
    return sentences


def last_spatial(calls: Sequence[Call], reshape: AnyReshape | None = None) -> str:
    """The default layer by the rule at the top of this file. reshape: as `choose` takes it.

    Raises BenchError if the features are tokens and no grid of them is known.
    """
    return _default(calls, reshape)[0]


def _default(calls: Sequence[Call], reshape: AnyReshape | None) -> tuple[str, bool]:
    """Return the default layer, and whether part of the scores is known not to pass through it."""
    scores = calls[-1]
    body = calls[: _class_layer(calls)]
    ends = _ends(body)
    maps = _maps(ends)
    through = next(
        (place for place in reversed(maps) if _takes_everything(ends[place], body, scores)), None
    )
    tokens, problem = _last_tokens(body, scores, reshape)
    if tokens is not None and _is_later(tokens, through, maps, ends):
        return _name(ends[tokens], body), False
    if maps and through in (None, maps[-1]):
        return _name(ends[maps[-1]], body), False
    if problem is None:
        places = sorted({*maps, *_token_places(ends)})
        reached = next(
            (place for place in reversed(places) if _is_reached(ends[place][0], scores, reshape)),
            None,
        )
        if reached is not None and (
            through is None or _is_early(ends[through], ends[reached], body)
        ):
            return _name(ends[reached], body), True
    if through is not None:
        return _name(ends[through], body), False
    _check_copies(calls)
    if problem is not None:
        raise problem
    example = ""
    for end in reversed(ends):
        if end[0].is_tokens and end[0].of_images and _is_reached(end[0], scores, reshape):
            example = f", such as {_name(end, body)!r},"
            break
    raise BenchError(
        "The network's features are tokens or vectors, not H x W maps (a vision transformer?), "
        f"and it has no default layer; name a layer of tokens{example} and set reshape='tokens' "
        "(model.reshape=tokens on the command line), or choose a convolutional network."
    )


def _is_later(
    tokens: int, through: int | None, maps: Sequence[int], ends: Sequence[Sequence[Call]]
) -> bool:
    """Return whether these tokens are the default and not the layer of maps.

    Tokens that only rearrange or normalise the last map aren't, but those of a transformer's blocks
    behind it are.
    """
    if through is None:
        return True
    between = chain.from_iterable(ends[through + 1 : tokens])
    has_matrix = any(p.ndim > 1 for call in between for p in call.module.parameters(recurse=False))
    return tokens > through and (through != maps[-1] or has_matrix)


def _is_early(end: Sequence[Call], last: Sequence[Call], body: Sequence[Call]) -> bool:
    """Return whether the layers up to `end` have less than EARLY of the parameters of those up to
    `last`.
    """
    return _parameters_up_to(end, body) < EARLY * _parameters_up_to(last, body)


def _parameters_up_to(end: Sequence[Call], body: Sequence[Call]) -> int:
    place = next(place for place, call in enumerate(body) if call is end[0])
    parameters = {
        id(p): p.numel()
        for call in body[: place + 1]
        for p in call.module.parameters(recurse=False)
    }
    return sum(parameters.values())


def _is_own_map(end: Sequence[Call]) -> bool:
    """Return whether the end is a feature map of the images that isn't the head's own."""
    return end[0].is_map and end[0].of_images and not isinstance(end[0].module, HEAD_TYPES)


def _takes_everything(end: Sequence[Call], body: Sequence[Call], scores: Call) -> bool:
    """Return whether every path from the image to the scores passes through this end, where its
    layer is cut.

    A layer with weights that is called several times, as on views of an image, is cut at all calls.
    """
    name = _name(end, body)
    calls = [call for call in body if call.name == name]
    is_cut = any(call is calls[-1] for call in end)
    if is_cut and _meets_all_paths({calls[-1].edge}, scores.edge):
        return True
    has_weights = any(True for _ in calls[0].module.parameters())
    return (
        len(calls) > 1
        and has_weights
        and _meets_all_paths({call.edge for call in calls}, scores.edge)
    )


def _meets_all_paths(edges: Collection[Edge | None], scores: Edge | None) -> bool:
    """Return whether the scores are made of these values and, beside them, of nothing that is made
    of the image.
    """
    is_met = False
    waiting = [] if scores is None else [scores]
    visited = set()
    while waiting:
        edge = waiting.pop()
        if edge in edges:
            is_met = True
        elif edge[0] not in visited:
            visited.add(edge[0])
            if not edge[0].next_functions:  # the image
                return False
            waiting += [source for source in edge[0].next_functions if source[0] is not None]
    return is_met


def last_relu(calls: Sequence[Call]) -> str:
    """The last ReLU module with a map at or before the default layer: `features.29` in VGG-16.

    Raises BenchError where there is none: a ReLU that is a function, as in Inception_V3, has no
    name to cut at.
    """
    body = calls[: _class_layer(calls)]
    ends = _ends(body)
    maps = _maps(ends)
    for end in reversed(ends[: maps[-1] + 1] if maps else []):
        if isinstance(end[0].module, RELU_TYPES) and end[0].is_map:
            return _name(end, body)
    raise BenchError(
        f"The network has no ReLU module up to {last_spatial(calls)!r}, its default layer; name a "
        "layer instead."
    )


def _ends(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls grouped by output: a module, and the containers with the same output, innermost
    first.

    Modules that return their input (an identity, dropout in eval mode) are left out.
    """
    ends: list[list[Call]] = []
    for call in calls:
        inner = ends[-1][-1] if ends else None
        if inner is None or call.output is not inner.output:
            ends.append([call])
        elif _holds(call, inner):
            ends[-1].append(call)
        elif not isinstance(
            call.module, HEAD_TYPES
        ):  # an in-place ReLU returns its input, but has changed it
            ends.append([call])
    return ends


def _maps(ends: Sequence[Sequence[Call]]) -> list[int]:
    """Which of the ends are feature maps, the head's own left out; none if the features are
    tokens.
    """
    maps = [place for place, end in enumerate(ends) if _is_own_map(end)]
    tokens_after = sum(end[0].is_tokens for end in ends[maps[-1] if maps else 0 :])
    return (
        maps if tokens_after < len(maps) else []
    )  # a token head on a convolutional body has fewer


def _last_tokens(
    body: Sequence[Call], scores: Call, reshape: AnyReshape | None
) -> tuple[int | None, BenchError | None]:
    """Which of the ends is a transformer's default, or None and the problem of a grid."""
    ends = _ends(body)
    places = _token_places(ends)
    norms: dict[str, list[int]] = {}
    for place in places:
        if "norm" in type(ends[place][0].module).__name__.lower():
            norms.setdefault(ends[place][0].name.rpartition(".")[0], []).append(place)
    blocks = [of_block for block, of_block in norms.items() if block and len(of_block) > 1]
    first_norm = blocks[-1][0] if blocks else 0
    behind = [place for place in places if place > first_norm]
    proposed = [place for place in reversed(behind) if _takes_everything(ends[place], body, scores)]
    if first_norm and _takes_everything(ends[first_norm - 1], body, scores):
        proposed.append(first_norm)
    problem = None
    for place in proposed:
        try:
            if _reach_scores(
                ends[place][0], scores, reshape or "tokens", are_mixed=place == first_norm
            ):
                return place, None
        except BenchError as error:
            problem = error
    return None, problem


def _token_places(ends: Sequence[Sequence[Call]]) -> list[int]:
    """Return which of the ends are tokens of the images, except a head's and those of single linear
    layers.
    """
    return [
        place
        for place, end in enumerate(ends)
        if end[0].is_tokens
        and end[0].of_images
        and not isinstance(end[0].module, (*HEAD_TYPES, nn.Linear))
    ]


def _is_reached(call: Call, scores: Call, reshape: AnyReshape | None) -> bool:
    """Return whether the scores have gradients at positions of this map, or of these tokens if they
    fill a grid.
    """
    if call.is_map:
        if len(call.space) == 2 and not fits(call.shape[2:], call.space):  # heads of attention
            return False
        gradient = _gradient(call, scores)
        return gradient is not None and _is_nonzero(gradient)
    try:
        return _reach_scores(call, scores, reshape or "tokens", are_mixed=False)
    except BenchError:
        return False


def _gradient(call: Call, scores: Call) -> Tensor | None:
    """Return the gradient of a weighted sum of the scores at the call's output, or None if they
    don't depend on it.
    """
    assert isinstance(call.output, Tensor)
    assert isinstance(scores.output, Tensor)
    if scores.edge is None or not call.output.requires_grad:
        return None
    weights = torch.linspace(1, 2, scores.output.numel()).to(
        scores.output
    )  # since probabilities sum to 1
    weighted = (scores.output.flatten() * weights).sum()
    return torch.autograd.grad(weighted, call.output, retain_graph=True, allow_unused=True)[0]


def _reach_scores(tokens: Call, scores: Call, reshape: AnyReshape, are_mixed: bool) -> bool:
    """Return whether the scores have gradients at the tokens of an image's two or more patches.

    If all gradients are zero, as those of a last layer of zeros, tokens that are mixed afterwards
    count, and so do tokens without a class token. Raises BenchError if the tokens fill no one grid.
    """
    assert isinstance(tokens.output, Tensor)
    form = layout(reshape, tokens.name, tokens.output, tokens.space, lambda: tokens.channels_last)
    assert form is not None
    if form.to_maps(tokens.output.detach(), tokens.space)[0][0, 0].numel() == 1:
        return False
    gradient = _gradient(tokens, scores)
    if gradient is None:
        return False
    maps, rest = form.to_maps(gradient, tokens.space)
    return _is_nonzero(maps) or (not _is_nonzero(gradient) and (are_mixed or rest is None))


def _is_nonzero(gradient: Tensor) -> bool:
    """Return whether a gradient isn't zero everywhere. On the meta device, which has no values,
    none is.
    """
    return gradient.is_meta or bool(gradient.any())


def _check_copies(calls: Sequence[Call]) -> None:
    """Raises BenchError if all convolutions give maps of several images for one."""
    maps = [
        call
        for call in calls
        if isinstance(call.module, nn.modules.conv._ConvNd) and len(call.shape) == call.ndim
    ]
    if not maps or any(call.shape[0] == 1 for call in maps):
        return
    parts = [
        call.name for call in calls if call.name and len(call.shape) == 2 and _holds(call, maps[-1])
    ]
    part = (
        f"the part that takes one of them, network.get_submodule({parts[-1]!r})"
        if parts
        else "a network of one"
    )
    raise BenchError(
        f"The network's layers give maps of {maps[-1].shape[0]} images for one, as of its crops, "
        f"frames or copies, and have no default layer; explain {part}."
    )


def _name(end: Sequence[Call], body: Sequence[Call]) -> str:
    """The outermost module of one end that doesn't hold the network's first layer; the innermost
    where all do.
    """
    first = next(call for call in body if any(True for _ in call.module.parameters(recurse=False)))
    return next(
        (call.name for call in reversed(end) if call is not first and not _holds(call, first)),
        end[0].name,
    )


def _holds(outer: Call, inner: Call) -> bool:
    return inner.name.startswith(f"{outer.name}." if outer.name else "")


def _class_layer(calls: Sequence[Call]) -> int:
    """The index of the call that makes the class scores: the last one with a weight matrix, if its
    outputs are C.

    Where they aren't (the scores come from a function), it is the end of the list: every module
    belongs to the body.
    """
    with_matrix = [
        i
        for i, call in enumerate(calls)
        if any(p.ndim > 1 for p in call.module.parameters(recurse=False))
    ]
    if not with_matrix:
        return len(calls)
    shape = calls[with_matrix[-1]].shape
    channels = shape[1] if len(shape) == calls[-1].ndim else shape[-1]
    return with_matrix[-1] if channels == calls[-1].shape[1] else len(calls)
