"""The target layer: found in one forward pass, for any network, or checked if the user names it.

The default layer is the last module, in the order of execution, that fulfils all of the following:

- Its output is a feature map (B, K, H, W) with H W > 1.
- Everything passes through it: the autograd graph of the pass shows that no other value computed
  from the image reaches the scores. If no module fulfils this, the last feature map is the default.
- It comes before the layer that computes the class scores (in SqueezeNet, that layer returns maps).
- It isn't padding, dropout or adaptive pooling, which belong to the head.
- If the network has several inputs, its output is computed from the explained one.

Several containers may end in that map. The name is then that of the outermost one that doesn't
contain the network's first layer: `layer4` in a ResNet, but `features.30` in VGG-16.

A transformer's features are tokens. Its default is the last module of tokens through which
everything passes, such as Swin's last norm. If the scores depend only on the class token behind
that module, the default is the first norm of the last block, whose attention still mixes tokens.

In a network of several branches, there may be no layer through which everything passes. Or the only
such layer belongs to the stem: less than a quarter of the parameters (without the head's) lie up to
it. The default is then the last map, or the last tokens, at whose positions the scores have
gradients. A note says that part of the scores doesn't pass through it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.images import check_inputs, first_convolution, several_inputs
from axiom_bench.cutting.model_copy import layer_name, parts_with_hooks, private_state, shared_copy
from axiom_bench.cutting.output import ScoreFunction, score_function
from axiom_bench.cutting.tokens import AnyReshape, ChannelOrder, fits, layout
from axiom_bench.data.preprocessing import RGB
from axiom_bench.errors import BenchError, unknown_name

HEAD_TYPES = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    # Padding around a single position would turn it into a map of the next layer's border.
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
)
RELU_TYPES = (nn.ReLU, nn.ReLU6)
# A layer belongs to the stem if less than this share of the body's parameters lies up to it.
EARLY = 0.25

# A value's place in the autograd graph: a node, and the index of the value among its outputs.
Edge = tuple[Node, int]


@dataclass(frozen=True)
class Call:
    """One finished call of a module, as far as the choice of the layer needs it."""

    name: str  # the module's dotted name; "" for the network
    module: nn.Module
    output: object
    # Whether the output, of as many dimensions as the input, is (B, H, W, K); None if unknown.
    channels_last: bool | None = None
    space: tuple[int, ...] = ()  # the sides of the input, (B, C, *space)
    of_images: bool = True  # False if the output depends only on the network's other inputs
    # The output's place in the autograd graph when the call ended; None if the pass has no graph.
    edge: Edge | None = None

    @property
    def ndim(self) -> int:
        """The number of dimensions of the input."""
        return len(self.space) + 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape; empty if it isn't a tensor."""
        return tuple(self.output.shape) if isinstance(self.output, Tensor) else ()

    @property
    def is_tokens(self) -> bool:
        """True if the output is a transformer's: a sequence (B, N, K) or a grid (B, H, W, K)."""
        if self.ndim > 3 and len(self.shape) == 3:
            return self.shape[0] == 1 < self.shape[1]  # the windows of an image are a batch
        if len(self.shape) != self.ndim:
            return False
        looks_last = self.ndim == 4 and 1 < self.shape[1] == self.shape[2] != self.shape[3]
        return looks_last if self.channels_last is None else self.channels_last

    @property
    def is_map(self) -> bool:
        """True if the output is a feature map (B, K, H, W) of one image with H W > 1.

        It has as many dimensions as the input. Attention's heads may have such a shape too.
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
def record_calls(
    module: nn.Module,
    input_size: tuple[int, ...],
    function: ScoreFunction | None = None,
    channels: int = RGB,
) -> tuple[Call, ...]:
    """Record every call of one forward pass over one black image.

    The pass runs on a parameter-sharing copy in eval mode, on the module's device (which may be the
    meta device). It has an autograd graph unless the pass fails with one.

    Args:
        module: The network.
        input_size: The sides of the image.
        function: A user's own function from what the network returns to scores; None for the rule
            of cutting.outputs.output.
        channels: The number of channels of the image.

    Returns:
        The calls in the order in which they end. The network is last, with its scores (1, n) as its
        output.

    Raises:
        BenchError: if the network can't run on such an image, or has no scores.
    """
    network = shared_copy(module)
    check_inputs(network)
    # With several inputs, only the images require gradients: a value without them has another
    # origin.
    has_other_inputs = several_inputs(network) is not None
    finished: list[Call] = []

    def record_call(name: str, module: nn.Module, returned: object) -> None:
        tensors = (leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor))
        is_of_images = not has_other_inputs or any(tensor.requires_grad for tensor in tensors)
        # A later in-place operation would move the output's place in the graph: it is read now.
        finished.append(
            Call(
                name,
                module,
                returned,
                space=input_size,
                of_images=is_of_images,
                edge=_edge(returned),
            )
        )

    for name, child in parts_with_hooks(network):
        child.register_forward_hook(
            lambda module, _, returned, name=name: record_call(name, module, returned)
        )
    state = chain(network.parameters(), network.buffers())
    like = next((tensor for tensor in state if tensor.is_floating_point()), torch.zeros(()))
    image = torch.zeros(1, channels, *input_size, device=like.device, dtype=like.dtype)

    def run(has_graph: bool) -> ChannelOrder:
        finished.clear()
        leaf = image.clone().requires_grad_(has_graph)
        order = ChannelOrder(image.ndim)
        with torch.set_grad_enabled(has_graph), private_state(network), order:
            network(leaf.clone())  # a network that changes its input in place can't change a leaf
        return order

    try:
        try:
            order = run(has_graph=True)
        except Exception:  # a network may compute something without gradients, such as by NumPy
            if has_other_inputs:
                raise
            order = run(has_graph=False)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise _run_error(network, channels, input_size, error) from error
    calls = [replace(call, channels_last=order.channels_last(call.output)) for call in finished]
    scores = score_function(function, calls[-1].output, type(module).__name__, image)
    if scores is not None:
        output = scores(calls[-1].output)
        calls[-1] = Call("", network, output, space=input_size, edge=_edge(output))
    return tuple(calls)


def _run_error(
    network: nn.Module, channels: int, input_size: tuple[int, ...], error: BaseException
) -> BenchError:
    """Return the error for a network that raises `error` on an image of this size."""
    kinds = {(2, RGB): "RGB image", (2, 1): "grey image"}
    kind = kinds.get((len(input_size), channels))
    if kind is None:
        return BenchError(
            f"The network can't run on a sample of the shape {(channels, *input_size)}, which "
            f"these files hold ({error}); set data.channels to the axis of their channels, or "
            "give the files the network's own shape."
        )
    expected = getattr(first_convolution(network)[1], "in_channels", channels)
    if expected not in (1, RGB) and f"to have {expected} channels" in str(error):
        return BenchError(
            f"The network takes images of {expected} channels, and pictures have {channels}. "
            f"Save its images as .npy files ({expected}, H, W), as the network takes them, and "
            "set data=arrays data.root=FOLDER model.resize=null model.crop=null "
            "model.mean=null model.std=null."
        )
    return BenchError(
        f"The network can't run on one {kind} of {'x'.join(map(str, input_size))} pixels "
        f"({error}). Set model.resize and model.crop to the size that it expects; for grey "
        "images, model.mean and model.std have one number each, [0.5], for RGB three."
    )


def _edge(value: object) -> Edge | None:
    """Return the place of a value in the autograd graph, which a later in-place operation moves."""
    if isinstance(value, Tensor) and value.grad_fn is not None:
        return value.grad_fn, value.output_nr
    return None


def choose_layer(
    module: nn.Module, layer: str, calls: Sequence[Call], reshape: AnyReshape | None = None
) -> str:
    """Return the dotted name of the target layer.

    Args:
        module: The network.
        layer: `default`, `last_relu`, or a dotted name, which is checked.
        calls: The module's recorded calls.
        reshape: The user's own, which turns the layer's output into maps.

    Raises:
        BenchError: if the layer is unknown or never called, or if its output isn't maps (B, K, H,
            W).
    """
    if layer == "default":
        return default_layer(calls, reshape)
    if layer == "last_relu":
        return last_relu(calls)
    names = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
    layer = layer_name(module, layer) or layer
    if layer not in names:
        maps = [call.name for call in calls if call.name and (call.is_map or call.is_tokens)]
        outer = [name for name in maps if "." not in name]
        # If the given name resembles none, the message lists only the outer modules.
        close = difflib.get_close_matches(layer, maps, n=1, cutoff=0.5)
        raise unknown_name("layer", layer, {*(maps if close or len(outer) < 2 else outer)})
    # A shared module has several names, of which calls have the first.
    target = module.get_submodule(layer)
    layer = next(name for name, child in module.named_modules() if child is target)
    layer_calls = [call for call in calls if call.name == layer]
    if not layer_calls:
        raise BenchError(
            f"The layer {layer!r} isn't called in a forward pass; name a module that is."
        )
    last = layer_calls[-1]  # the call at which the network is cut
    if last.is_tokens and reshape is None:
        raise BenchError(
            f"The layer {layer!r} gives tokens {last.description}, not maps (B, K, H, W); set "
            "model.reshape=tokens."
        )
    if not (last.is_map or (reshape is not None and len(last.shape) > 2)):
        maps = [call.name for call in calls if call.is_map and call.name]
        example = f", such as {maps[-1]!r}" if maps else ""
        raise BenchError(
            f"The layer {layer!r} gives {last.description}, not maps (B, K, H, W); choose a "
            f"layer with maps{example}."
        )
    return layer


def cut_index(layer: str, calls: Sequence[Call]) -> int:
    """Return the index of a layer's last call, where it is cut, in the order in which calls end.

    The manifest has it as the depth of the layer, by which reports order several layers.
    """
    return max(index for index, call in enumerate(calls) if call.name == layer)


def has_tokens(layer: str, calls: Sequence[Call]) -> bool:
    """Return whether the layer's last call returns tokens, which a reshape turns into maps.

    It is False if there is no such layer, which `choose_layer` refuses.
    """
    layer_calls = [call for call in calls if call.name == layer]
    return bool(layer_calls) and layer_calls[-1].is_tokens


def default_notes(
    layer: str, calls: Sequence[Call], reshape: AnyReshape | None = None
) -> list[str]:
    """Return sentences about a default layer: that part of the scores doesn't pass through it, and
    that it returns tokens.
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


def default_layer(calls: Sequence[Call], reshape: AnyReshape | None = None) -> str:
    """Return the default layer according to the rule at the top of this file.

    Raises:
        BenchError: if the features are tokens and no grid of them is known.
    """
    return _default(calls, reshape)[0]


def _default(calls: Sequence[Call], reshape: AnyReshape | None) -> tuple[str, bool]:
    """Return the default layer, and whether part of the scores is known not to pass through it."""
    scores = calls[-1]
    body = calls[: _class_layer(calls)]
    ends = _ends(body)
    maps = _maps(ends)
    # The last map, and the last tokens, through which everything passes.
    complete = None
    for index in reversed(maps):
        if _takes_everything(ends[index], body, scores):
            complete = index
            break
    tokens, problem = _last_tokens(body, scores, reshape)
    if tokens is not None and _is_later(tokens, complete, maps, ends):
        return _name(ends[tokens], body), False
    if maps and complete in (None, maps[-1]):
        return _name(ends[maps[-1]], body), False
    # The network has branches: the last map or tokens on which the scores depend may come later.
    if problem is None:
        for index in sorted({*maps, *_token_places(ends)}, reverse=True):
            if not _is_reached(ends[index][0], scores, reshape):
                continue
            if complete is None or _is_early(ends[complete], ends[index], body):
                return _name(ends[index], body), True
            break
    if complete is not None:
        return _name(ends[complete], body), False
    _check_copies(calls)
    if problem is not None:
        raise problem
    if scores.edge is None and isinstance(scores.output, Tensor) and not scores.output.is_meta:
        raise BenchError(
            "The network's scores have no gradient; compute them without detach, no_grad, "
            "inference_mode, item or NumPy."
        )
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
    tokens: int, map_index: int | None, maps: Sequence[int], ends: Sequence[Sequence[Call]]
) -> bool:
    """Return whether the default layer is the one of the tokens and not the one of the map.

    Tokens of a transformer's blocks behind the map are the default. Tokens that only rearrange or
    normalise the last map aren't.
    """
    if map_index is None:
        return True
    between = chain.from_iterable(ends[map_index + 1 : tokens])
    has_matrix = any(_has_matrix(call.module) for call in between)
    return tokens > map_index and (map_index != maps[-1] or has_matrix)


def _has_matrix(module: nn.Module) -> bool:
    """Return whether the module itself has a parameter of two or more dimensions.

    Only such modules compute: the others rearrange, normalise or scale.
    """
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))


def _is_early(end: Sequence[Call], last: Sequence[Call], body: Sequence[Call]) -> bool:
    """Return whether the layers up to `end` have less than EARLY of the parameters of those up to
    `last`.

    Such a layer belongs to the stem; see the top of this file.
    """
    return _parameters_up_to(end, body) < EARLY * _parameters_up_to(last, body)


def _parameters_up_to(end: Sequence[Call], body: Sequence[Call]) -> int:
    """Return the number of parameters of all modules that are called up to the end."""
    sizes = {}  # by the parameter's id: shared parameters count once
    for call in body:
        for parameter in call.module.parameters(recurse=False):
            sizes[id(parameter)] = parameter.numel()
        if call is end[0]:
            break
    return sum(sizes.values())


def _takes_everything(end: Sequence[Call], body: Sequence[Call], scores: Call) -> bool:
    """Return whether every path from the image to the scores passes through the cut at this end.

    A layer with weights that is called several times, such as on views of an image, is cut at all
    of its calls.
    """
    name = _name(end, body)
    calls = [call for call in body if call.name == name]
    is_cut = any(call is calls[-1] for call in end)
    if is_cut and _meets_all_paths({calls[-1].edge}, scores.edge):
        return True
    has_weights = any(True for _ in calls[0].module.parameters())
    if len(calls) == 1 or not has_weights:
        return False
    return _meets_all_paths({call.edge for call in calls}, scores.edge)


def _meets_all_paths(edges: Collection[Edge | None], scores: Edge | None) -> bool:
    """Return whether the scores depend on these values, and on the image only through them.

    If another path leads to the scores, a map at this layer explains only part of them.
    """
    is_met = False
    waiting = [] if scores is None else [scores]
    visited: set[Node] = set()
    while waiting:
        edge = waiting.pop()
        if edge in edges:
            is_met = True
        elif edge[0] not in visited:
            visited.add(edge[0])
            if not edge[0].next_functions:  # the walk has reached the image
                return False
            for node, number in edge[0].next_functions:
                if node is not None:
                    waiting.append((node, number))
    return is_met


def last_relu(calls: Sequence[Call]) -> str:
    """Return the last ReLU module with a map at or before the default layer.

    It is `features.29` in VGG-16.

    Raises:
        BenchError: if there is none. A ReLU that is a function, such as in Inception_V3, has no
            name to cut at.
    """
    body = calls[: _class_layer(calls)]
    ends = _ends(body)
    maps = _maps(ends)
    for end in reversed(ends[: maps[-1] + 1] if maps else []):
        if isinstance(end[0].module, RELU_TYPES) and end[0].is_map:
            return _name(end, body)
    raise BenchError(
        f"The network has no ReLU module up to {default_layer(calls)!r}, its default layer; name a "
        "layer instead."
    )


def _ends(calls: Sequence[Call]) -> list[list[Call]]:
    """Return the calls grouped by output.

    An end is a module and the containers with the same output, innermost first. A cut at any of
    them is the same cut, so only one of them can be the layer. Modules that return their input (an
    identity, dropout in eval mode) are left out.
    """
    ends: list[list[Call]] = []
    for call in calls:
        inner = ends[-1][-1] if ends else None
        if inner is None or call.output is not inner.output:
            ends.append([call])
        elif _holds(call, inner):
            ends[-1].append(call)
        elif not isinstance(call.module, HEAD_TYPES):
            ends.append([call])  # an in-place ReLU, which returns its input, but has changed it
    return ends


def _maps(ends: Sequence[Sequence[Call]]) -> list[int]:
    """Return the indices of the ends that are feature maps of the images and not the head's own;
    none if the network's features are tokens.
    """
    maps = []
    for index, (innermost, *_) in enumerate(ends):
        is_head = isinstance(innermost.module, HEAD_TYPES)
        if innermost.is_map and innermost.of_images and not is_head:
            maps.append(index)
    tokens_after = sum(end[0].is_tokens for end in ends[maps[-1] if maps else 0 :])
    # A head of tokens on a convolutional body has fewer tokens than the body has maps.
    return maps if tokens_after < len(maps) else []


def _last_tokens(
    body: Sequence[Call], scores: Call, reshape: AnyReshape | None
) -> tuple[int | None, BenchError | None]:
    """Return the index of the end that is a transformer's default, or None and the reason why its
    tokens fill no grid.
    """
    ends = _ends(body)
    token_ends = _token_places(ends)
    # A block is a module with two or more norms.
    norms_by_module: dict[str, list[int]] = {}
    for index in token_ends:
        innermost = ends[index][0]
        if "norm" in type(innermost.module).__name__.lower():
            block = innermost.name.rpartition(".")[0]
            norms_by_module.setdefault(block, []).append(index)
    blocks = [norms for name, norms in norms_by_module.items() if name and len(norms) > 1]
    first_norm = blocks[-1][0] if blocks else 0
    candidates = [
        index
        for index in reversed(token_ends)
        if index > first_norm and _takes_everything(ends[index], body, scores)
    ]
    if first_norm and _takes_everything(ends[first_norm - 1], body, scores):
        candidates.append(first_norm)
    problem = None
    for index in candidates:
        tokens = ends[index][0]
        are_mixed = index == first_norm  # by the attention behind the norm
        try:
            if _reach_scores(tokens, scores, reshape or "tokens", are_mixed):
                return index, None
        except BenchError as error:
            problem = error
    return None, problem


def _token_places(ends: Sequence[Sequence[Call]]) -> list[int]:
    """Return the indices of the ends that are tokens of the images, except a head's and those of
    single linear layers.
    """
    indices = []
    for index, (innermost, *_) in enumerate(ends):
        is_left_out = isinstance(innermost.module, (*HEAD_TYPES, nn.Linear))
        if innermost.is_tokens and innermost.of_images and not is_left_out:
            indices.append(index)
    return indices


def _is_reached(call: Call, scores: Call, reshape: AnyReshape | None) -> bool:
    """Return whether the scores have gradients at positions of this map, or of these tokens if they
    fill a grid.
    """
    if call.is_map:
        # A map whose sides don't fit the image's is that of attention's heads.
        if len(call.space) == 2 and not fits(call.shape[2:], call.space):
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
    # Probabilities sum to 1, so their unweighted sum would have no gradient.
    weights = torch.linspace(1, 2, scores.output.numel()).to(scores.output)
    weighted = (scores.output.flatten() * weights).sum()
    return torch.autograd.grad(weighted, call.output, retain_graph=True, allow_unused=True)[0]


def _reach_scores(tokens: Call, scores: Call, reshape: AnyReshape, are_mixed: bool) -> bool:
    """Return whether the scores have gradients at the tokens of two or more patches, or raise if
    the tokens don't fill exactly one grid.

    All gradients may be zero, such as those of a last layer of zeros. Then tokens that are mixed
    afterwards count, and so do tokens without a class token.
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
    """Return whether a gradient is nonzero somewhere, which is assumed on the meta device."""
    return gradient.is_meta or bool(gradient.any())


def _check_copies(calls: Sequence[Call]) -> None:
    """Raise an error if every convolution returns maps of several images for one image."""
    maps = []
    for call in calls:
        if isinstance(call.module, nn.modules.conv._ConvNd) and len(call.shape) == call.ndim:
            maps.append(call)
    if not maps or any(call.shape[0] == 1 for call in maps):
        return
    # The outermost module that contains the convolution and returns vectors is a network by itself.
    parts = []
    for call in calls:
        if call.name and len(call.shape) == 2 and _holds(call, maps[-1]):
            parts.append(call.name)
    part = (
        f"the part that takes one of them, network.get_submodule({parts[-1]!r})"
        if parts
        else "a network of one"
    )
    raise BenchError(
        f"The network's layers give maps of {maps[-1].shape[0]} images for one, such as its crops, "
        f"frames or copies, and have no default layer; explain {part}."
    )


def _name(end: Sequence[Call], body: Sequence[Call]) -> str:
    """Return the name of the outermost module of an end that doesn't contain the network's first
    layer, or of the innermost module if all contain it.
    """
    first = next(call for call in body if any(True for _ in call.module.parameters(recurse=False)))
    for call in reversed(end):
        if call is not first and not _holds(call, first):
            return call.name
    return end[0].name


def _holds(outer: Call, inner: Call) -> bool:
    """Return whether the module of one call contains that of the other."""
    return inner.name.startswith(f"{outer.name}." if outer.name else "")


def _class_layer(calls: Sequence[Call]) -> int:
    """Return the index of the call that computes the class scores: the last one with a weight
    matrix, if it has one output per class.

    Otherwise the scores come from a function. Then every module belongs to the body, and the index
    is the end of the list.

    The target layer comes before it, since its output has classes for channels.
    """
    with_matrix = [index for index, call in enumerate(calls) if _has_matrix(call.module)]
    if not with_matrix:
        return len(calls)
    last = with_matrix[-1]
    shape = calls[last].shape
    if not shape:  # such as torch's attention, which returns a tuple
        return len(calls)
    channels = shape[1] if len(shape) == calls[-1].ndim else shape[-1]
    return last if channels == calls[-1].shape[1] else len(calls)
