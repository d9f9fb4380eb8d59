"""Read a transformer's self-attention as it runs, and the score's gradient in its probabilities.

A = softmax(Z), Z = scale Q K', and a head's output is O = A V. So dS/dA = (dS/dO) V', and A
doesn't have to be kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.objects import BoxScores, DecoderTokens, PlacedScores
from axiom_bench.cutting.trace import Trace
from axiom_bench.cutting.trunk_and_head import Step
from axiom_bench.errors import BenchError, InvalidParameter, invalid_choice
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
)

# Arguments of torch's multi_head_attention_forward that a plain self-attention doesn't set.
SPECIAL = (
    "bias_k",
    "bias_v",
    "key_padding_mask",
    "attn_mask",
    "q_proj_weight",
    "static_k",
    "static_v",
)


@dataclass(frozen=True, eq=False)
class Attention:
    """One call of an attention over N tokens.

    Q, K and V are detached, and the output O has a gradient. All four are (B, heads, N, d). In a
    cross-attention, K and V have another number of tokens M.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float
    mask: Tensor | None = None  # added to the scores, (N, N) or with more leading dimensions

    @property
    def scores(self) -> Tensor:
        """The scores Z before the softmax, of each query for each key: (B, heads, N, N)."""
        scores = self.scale * self.query @ self.key.mT
        return scores if self.mask is None else scores + self.mask

    @property
    def probabilities(self) -> Tensor:
        """The attention probabilities A, (B, heads, N, N)."""
        return self.scores.softmax(3)


class Attentions(Interceptor):
    """Append each self-attention to `calls` and make its output a leaf, while active.

    No gradient passes through a leaf, so the score's gradient in an output runs only through
    residual connections and the layers between attentions. The class reads
    nn.MultiheadAttention and scaled_dot_product_attention. It raises BenchError for a mask and
    for other forms of attention.
    """

    takes_cross_attention = False
    """True if the keys may be other tokens than the queries."""
    takes_masks = False
    """True if tokens may attend to some of the tokens only."""
    skips_poolings = False
    """True if other forms of nn.MultiheadAttention, such as a pooling by a learned query, aren't
    recorded instead of refused."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Attention] = []

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, from `attend` if the call is an attention."""
        if func is functional.multi_head_attention_forward:
            arguments = inspect.signature(func).bind(*args, **kwargs).arguments
            if _is_plain(arguments):
                return self._multi_head(arguments)
            if not self.skips_poolings:
                raise BenchError(UNSUPPORTED_ATTENTION)
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        return self.other(func, args, kwargs)

    def other(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the output of a call that isn't an attention."""
        return func(*args, **kwargs)

    def project(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of a linear layer inside an attention."""
        return functional.linear(tokens, weight, bias)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None
    ) -> Tensor:
        """Return softmax(scale Q K' + mask) V, with a gradient."""
        output = functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)
        return output.detach().requires_grad_()

    def _multi_head(self, arguments: Keywords) -> tuple[Tensor, None]:
        """Return the output for tokens (N, B, heads d), and None for the attention weights.

        Plain networks don't read the weights.
        """
        tokens = arguments["query"]
        heads = arguments["num_heads"]
        projected = self.project(tokens, arguments["in_proj_weight"], arguments["in_proj_bias"])
        query, key, value = projected.unflatten(2, (3, heads, -1)).permute(2, 1, 3, 0, 4)
        output = self._attend(query, key, value)
        joined = output.permute(2, 0, 1, 3).flatten(2)
        result = self.project(joined, arguments["out_proj_weight"], arguments["out_proj_bias"])
        return result, None

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Append the call to `calls` and return its output."""
        has_mask = attn_mask is not None or is_causal
        if query.ndim != 4 or (has_mask and not self.takes_masks):
            raise BenchError(UNSUPPORTED_ATTENTION)
        if enable_gqa:  # several heads of queries share one of keys and values
            shared = query.shape[1] // key.shape[1]
            key = key.repeat_interleave(shared, 1)
            value = value.repeat_interleave(shared, 1)
        is_same_tokens = query.shape == key.shape or self.takes_cross_attention
        if not is_same_tokens or key.shape != value.shape:
            raise BenchError(UNSUPPORTED_ATTENTION)
        mask = _added_mask(query, attn_mask, is_causal)
        scale = query.shape[3] ** -0.5 if scale is None else scale
        output = self.attend(query, key, value, scale, mask)
        self.calls.append(
            Attention(query.detach(), key.detach(), value.detach(), output, scale, mask)
        )
        return output


class FlowingAttentions(Attentions):
    """Append each attention to `calls`, while active. Gradients pass through all attentions."""

    takes_cross_attention = True

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None
    ) -> Tensor:
        """Return softmax(scale Q K' + mask) V, with a gradient."""
        output = functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)
        return output if output.requires_grad else output.requires_grad_()


class DecoderAttentions(FlowingAttentions):
    """Append each attention to `calls`, also those in which tokens attend to some tokens only."""

    takes_masks = True
    skips_poolings = True


class TowerAttentions(Attentions):
    """Append each attention to `calls`, also those of a decoder behind a vision tower."""

    takes_masks = True
    skips_poolings = True


def _is_plain(arguments: Keywords) -> bool:
    """Return True if a call of nn.MultiheadAttention is plain self-attention."""
    tokens = arguments["query"]
    is_special = arguments["add_zero_attn"] or any(
        arguments.get(name) is not None for name in SPECIAL
    )
    return not is_special and arguments["key"] is tokens and arguments["value"] is tokens


def _added_mask(query: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Return the mask that is added to the scores: 0, or -inf where a query reads no key."""
    if is_causal:
        mask = torch.ones(query.shape[2], query.shape[2], device=query.device).tril().bool()
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)


UNSUPPORTED_ATTENTION = (
    "This needs a vision transformer whose tokens all attend to each other, by "
    "nn.MultiheadAttention or scaled_dot_product_attention without a mask; leave the method out "
    "for this network."
)


def attention_error(trace: Trace, sentence: str = UNSUPPORTED_ATTENTION) -> BenchError:
    """Return the error for a network whose attentions can't be read.

    It is the sentence, or, if transformers computes them by other code than
    scaled_dot_product_attention, what to type.
    """
    for module in trace.cut_model.model.modules():
        code = getattr(getattr(module, "config", None), "_attn_implementation", None)
        if code not in (None, "sdpa"):
            return BenchError(
                "This method reads attention by scaled_dot_product_attention, and the network "
                f"computes it by attn_implementation={code!r}; type "
                "model.set_attn_implementation('sdpa'), which gives the same scores up to rounding."
            )
    return BenchError(sentence)


def probability_gradients(scores: Tensor, calls: list[Attention]) -> list[Tensor]:
    """Compute dS/dA = (dS/dO) V' of each attention.

    Args:
        scores: The scores S of the images, any shape, with an autograd graph.
        calls: The attentions that ran in the forward pass of these images.

    Returns:
        A tensor (B, heads, N, N) per attention, 0 if the scores don't depend on the attention.
    """
    outputs = [call.output for call in calls]
    gradients = torch.autograd.grad(scores.sum(), outputs, materialize_grads=True)
    # A trunk in bf16 has tensors of that type, and the scores' type is more precise.
    return [
        gradient.to(scores) @ call.value.to(scores).mT
        for gradient, call in zip(gradients, calls, strict=True)
    ]


def key_maps(trace: Trace, values: Tensor) -> Tensor:
    """Return the values of the patch tokens, the last ones, as maps of the trace's layer.

    Args:
        trace: The trace whose layer has maps of H x W positions.
        values: A value for each key, (B, N).

    Returns:
        The maps, (B, H, W).

    Raises:
        BenchError: If the network has fewer than H W tokens.
    """
    height, width = trace.activations.shape[2:]
    num_tokens = values.shape[1]
    if num_tokens < height * width:
        raise BenchError(
            f"The network's attentions have {num_tokens} tokens, and the layer "
            f"{trace.layer!r} {height}x{width} positions; choose a layer whose maps are the patch "
            "tokens."
        )
    grid: Tensor = values[:, num_tokens - height * width :].unflatten(1, (height, width))
    return grid


def self_attentions(trace: Trace) -> list[Attention]:
    """Run the network on the trace's images, and return its attentions in the order of the blocks.

    Args:
        trace: The traced batch.

    Returns:
        The attentions, all of the same N tokens.

    Raises:
        BenchError: If the network has no attentions, or others than these.
    """
    takes_batches = trace.capture.step not in (Step.HEAD, Step.MODEL) and not trace.cut_model.mates
    if len(trace) > 1 and not takes_batches:
        calls_by_image = [self_attentions(trace[row : row + 1]) for row in range(len(trace))]
        return [_joined(image_calls) for image_calls in zip(*calls_by_image, strict=True)]
    cut_model = trace.cut_model
    with torch.no_grad(), Attentions() as attentions:
        cut_model.run_network(trace.images, *trace.other_inputs, precision=cut_model.precision)
    calls: list[Attention] = attentions.calls
    check_tokens(trace, calls)
    return calls


@dataclass(frozen=True)
class WordTokens:
    """The tokens of a network's decoder that belong to the explained words."""

    decoder: DecoderTokens
    size: tuple[int, int]  # the grid of the image's tokens

    def start(self, num_tokens: int, like: Tensor) -> Tensor:
        """Return 1 at each row's query, and 0 at the other tokens: (B, 1, N), as `like` is."""
        rows = functional.one_hot(self.decoder.queries.to(like.device), num_tokens)
        return rows[:, None].to(like)

    def maps(self, values: Tensor) -> Tensor:
        """Return the values (B, N) of the image's tokens, (B, H, W)."""
        of_image = values[:, self.decoder.image.to(values.device)]
        maps: Tensor = of_image.unflatten(1, self.size)
        return maps

    def attentions(self, trace: Trace, calls: Sequence[Attention]) -> list[Attention]:
        """Return the decoder's attentions among those of the trace's network.

        Raises:
            BenchError: If there are none.
        """
        found = [call for call in calls if call.query.shape[2] in self.decoder.totals]
        if not found:
            raise attention_error(trace)
        return found


def word_tokens(trace: Trace) -> WordTokens | None:
    """Return the tokens of the explained words; None for a network that says no words.

    Args:
        trace: The traced batch.

    Raises:
        BenchError: If the layer's maps aren't of the image's tokens.
    """
    network = trace.cut_model.model
    if not isinstance(network, PlacedScores):
        return None
    (place,) = trace.other_inputs
    decoder = network.decoder_tokens(place)
    if decoder is None:
        return None
    height, width = trace.activations.shape[2:]
    if height * width != len(decoder.image):
        raise BenchError(
            f"The decoder reads {len(decoder.image)} tokens of the image, and the layer "
            f"{trace.layer!r} has {height}x{width} positions; choose a layer whose maps are these "
            "tokens, or leave the method out, as for BLIP-2, whose queries are no positions."
        )
    return WordTokens(decoder, (height, width))


def decoder_attentions(trace: Trace, tokens: WordTokens) -> list[Attention]:
    """Run a network of words on the trace's images, and return its decoder's attentions."""
    cut_model = trace.cut_model
    with torch.no_grad(), DecoderAttentions() as attentions:
        cut_model.run_network(trace.images, *trace.other_inputs, precision=cut_model.precision)
    return tokens.attentions(trace, attentions.calls)


def chosen_block(calls: Sequence[Attention], block: int) -> Attention:
    """Return the attention with this index.

    Raises:
        InvalidParameter: If there is none.
    """
    count = len(calls)
    if not -count <= block < count:
        raise InvalidParameter(
            f"Invalid block={block} of raw attention; give a number from {-count} to "
            f"{count - 1}, since the network has {count} attentions."
        )
    return calls[block]


def _joined(calls: Sequence[Attention]) -> Attention:
    """Return one attention of several images from the same attention of each of them."""
    return Attention(
        query=torch.cat([call.query for call in calls]),
        key=torch.cat([call.key for call in calls]),
        value=torch.cat([call.value for call in calls]),
        output=torch.cat([call.output for call in calls]),
        scale=calls[0].scale,
    )


def check_tokens(trace: Trace, calls: Sequence[Attention]) -> None:
    """Check that there are attentions, all of the same tokens, without windows and a decoder.

    Args:
        trace: The traced batch.
        calls: The attentions of one pass of all its images.

    Raises:
        BenchError: If they aren't.
    """
    shapes = {(len(call.query), call.query.shape[2], call.key.shape[2]) for call in calls}
    num_tokens = calls[0].query.shape[2] if calls else 0
    is_detector = isinstance(trace.cut_model.model, BoxScores)
    if is_detector or shapes != {(len(trace), num_tokens, num_tokens)}:
        raise attention_error(trace)


def check_choices(title: str, query: str, heads: str = "mean") -> None:
    """Check the choices of a method that shows some queries' attention.

    Args:
        title: The method's title for the message.
        query: See `query_rows`.
        heads: The fusion of heads, one of HEADS.

    Raises:
        BenchError: If a choice is unknown.
    """
    if query not in QUERIES:
        raise invalid_choice(f"query of {title}", query, QUERIES)
    if heads not in HEADS:
        raise invalid_choice(f"fusion of heads of {title}", heads, HEADS)


# The fusions of (B, heads, N, N) over heads.
HEADS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}
QUERIES = ("class", "mean")


def query_rows(trace: Trace, num_tokens: int, query: str) -> Tensor:
    """Return how much of each query's row of an attention matrix a map shows.

    Args:
        trace: The trace whose layer has maps of H x W positions.
        num_tokens: The number N of tokens. The last H W are the patches.
        query: One of QUERIES. "class": the first token, if the network has other tokens than
            patches. "mean": the mean of all patches, also taken if there are only patches.

    Returns:
        The weights of the rows, which add up to 1: (B, 1, N).
    """
    num_patches = trace.activations[0, 0].numel()
    weights = trace.activations.new_zeros(len(trace), 1, num_tokens)
    if query == "class" and num_tokens > num_patches:
        weights[..., 0] = 1
    else:
        weights[..., -num_patches:] = 1 / num_patches
    return weights
