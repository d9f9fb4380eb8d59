"""Transformer attribution: Chefer et al., CVPR 2021 (arXiv:2012.09838) and ICCV 2021.

Transformer Interpretability Beyond Attention Visualization. Its successor of ICCV 2021, Generic
Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers
(arXiv:2103.15679), needs no relevance and also explains decoders.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.objects import BoxScores
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.attention import (
    Attention,
    Attentions,
    DecoderAttentions,
    FlowingAttentions,
    check_choices,
    check_tokens,
    key_maps,
    probability_gradients,
    query_rows,
    word_tokens,
)
from axiom_bench.methods.shared.nonlinear import (
    SMOOTH,
    Arguments,
    Keywords,
    TorchFunction,
    differentiable,
)
from axiom_bench.methods.shared.relevance import (
    RULES,
    RelevanceRules,
    Rule,
    pass_relevance_unchanged,
    ratio,
    with_gradient_of,
    z_plus,
)

FORMS = ("lrp", "generic")
NO_RULE = (
    "Transformer attribution has no relevance rule for {name!r}, which the network calls; set "
    "method.transformer_attribution.params.form=generic, which needs none."
)


def transformer_attribution(trace: Trace, form: str | None = None, query: str = "class") -> Map:
    """Product over blocks of I + mean over heads of relu(dS/dA R_A), token row -> (B, H, W).

    A are a block's attention probabilities and R_A their relevance. The last block's matrix comes
    first, and I itself isn't shown. Relevance starts as 1 at the class's logit. A linear layer has
    the z+ rule of `relevance_cam`. In a product, each of the two factors gets half of the
    relevance. A sum divides it as in equations 8 to 10: each operand gets a share in proportion to
    the size of its total. Norms, softmax and activation functions pass it on unchanged. Runs one
    image at a time, in float32 or higher. Costs two forward and two backward passes.

    Args:
        trace: The traced batch. Its layer's maps, (H, W), must be the patch tokens; only their
            size is used.
        form: "lrp", as above. "generic": the form of ICCV 2021, which has A in place of R_A and
            costs half. For a DETR it follows equations 5 to 10 of that paper, from the explained
            query to the positions. For a network that says words, the blocks are the decoder's,
            and the map is from the token that predicts the word's last token to the image's
            tokens. None: "generic" for these two, which "lrp" can't explain, otherwise "lrp".
        query: "class": the first token. "mean": the mean of all patches, for a network that pools
            them. A network of only patches always has "mean". A DETR has neither.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If a parameter is unknown, if the network's attentions aren't all of the same
            tokens, or if an operation has no relevance rule.
    """
    if form is None:
        network = trace.cut_model.model
        has_decoder = isinstance(network, BoxScores) or getattr(network, "of_words", False)
        form = "generic" if has_decoder else "lrp"
    if form not in FORMS:
        raise invalid_choice("form of transformer attribution", form, FORMS)
    check_choices("transformer attribution", query)

    def compute(row: int) -> Tensor:
        return _image_map(trace[row : row + 1], form, query)

    with torch.inference_mode(False), torch.enable_grad():
        return Map(trace.per_image(compute))


def _image_map(trace: Trace, form: str, query: str) -> Tensor:
    """Return the map (H, W) of a trace of one image."""
    tokens = word_tokens(trace)
    if tokens is not None and form == "lrp":
        raise BenchError(
            "Transformer attribution has no relevance rules for a network of words; set "
            "method.transformer_attribution.params.form=generic for this network."
        )
    attentions = FlowingAttentions() if tokens is None else DecoderAttentions()
    score = _score(trace, attentions)
    calls = attentions.calls
    is_detector = isinstance(trace.cut_model.model, BoxScores)
    if tokens is not None:
        calls = tokens.attentions(trace, calls)
    elif is_detector:
        _check_decoder(calls, form)
    else:
        check_tokens(trace, calls)
    gradients = probability_gradients(score, calls)
    if form == "lrp":
        relevances = _attention_relevances(trace)
    else:
        relevances = [call.probabilities.to(score) for call in calls]
    terms = [
        (gradient * relevance).relu().mean((0, 1))
        for gradient, relevance in zip(gradients, relevances, strict=True)
    ]
    if is_detector:
        return _query_map(trace, terms)
    if tokens is None:
        start = query_rows(trace, len(terms[0]), query)[:, 0]
    else:
        start = tokens.start(len(terms[0]), terms[0])[:, 0]
    change = torch.zeros_like(start)  # from the start to its product with the blocks' I + term
    for term in reversed(terms):
        change = change + (start + change) @ term
    maps = key_maps(trace, change) if tokens is None else tokens.maps(change)
    return maps[0]


def _score(trace: Trace, attentions: Attentions) -> Tensor:
    """Return the class's score, (1, 1), of a forward pass whose attentions are recorded."""
    with attentions:
        # Relevances divide by values that may be small, so half precision isn't enough.
        outputs = trace.cut_model.run_network(trace.images, *trace.other_inputs, precision="fp32")
    return outputs.gather(1, trace.targets[:, None].clone())


def _attention_relevances(trace: Trace) -> list[Tensor]:
    """Return the relevance R_A of each attention's probabilities, (1, heads, N, N)."""
    attentions = _RelevanceAttentions()
    score = _score(trace, attentions)
    start = ratio(torch.ones_like(score), score.detach())
    # Input times gradient is relevance, and A gets half of that of A V.
    gradients = probability_gradients(score * start, attentions.calls)
    return [
        call.probabilities.to(gradient) * gradient / 2
        for gradient, call in zip(gradients, attentions.calls, strict=True)
    ]


def _check_decoder(calls: list[Attention], form: str) -> None:
    """Raise BenchError if this form can't explain the network of boxes with these attentions.

    Its last attention must be from a number of queries to another number of positions.
    """
    if not calls or calls[-1].query.shape == calls[-1].key.shape:
        raise BenchError(
            "Of networks of boxes, transformer attribution explains only a DETR whose numbers of "
            "queries and of positions differ; set model.resize to another size of images, or "
            "leave transformer_attribution out."
        )
    if form == "lrp":
        raise BenchError(
            "Transformer attribution has no relevance rules for a DETR; set "
            "method.transformer_attribution.params.form=generic for this network."
        )


def _query_map(trace: Trace, terms: list[Tensor]) -> Tensor:
    """Return the map (H, W) of the explained query of a DETR.

    Args:
        trace: The trace of one image.
        terms: The mean over heads of relu(dS/dA A) of each attention, in the network's order.
    """
    # The last attention is the decoder's, from queries to positions.
    num_queries, num_positions = terms[-1].shape
    positions = torch.eye(num_positions).to(terms[-1])
    queries = torch.eye(num_queries).to(terms[-1])
    queries_to_positions = torch.zeros_like(terms[-1])
    for term in terms:
        if term.shape == positions.shape:
            positions = positions + term @ positions
        elif term.shape == queries.shape:
            queries = queries + term @ queries
            queries_to_positions = queries_to_positions + term @ queries_to_positions
        else:
            context = _normalised(queries).mT @ term @ _normalised(positions)
            queries_to_positions = queries_to_positions + context
    explained_query = trace.other_inputs[0][:, 0].long()
    return key_maps(trace, queries_to_positions[explained_query])[0]


def _normalised(relevance: Tensor) -> Tensor:
    """Divide each row of R - I by its sum, and add I again: equations 8 and 9."""
    identity = torch.eye(len(relevance)).to(relevance)
    context = relevance - identity
    return ratio(context, context.sum(1, keepdim=True)) + identity


class _RelevanceAttentions(Attentions):
    """Record the attentions, and give all operations gradients that carry relevance."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = RelevanceRules(NO_RULE, TRANSFORMER_RULES)

    def other(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with its rule's gradient.

        Raises:
            BenchError: If the operation changes a tensor in place, and has a rule whose output is
                another tensor: a network that doesn't use the output would lose the change.
        """
        name = getattr(func, "__name__", "")
        if name in IN_PLACE and differentiable(args):
            raise BenchError(NO_RULE.format(name=name))
        return self.rules.call(func, args, kwargs)

    def project(self, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of a linear layer inside an attention, by the z+ rule."""
        return z_plus(functional.linear, tokens, weight, bias)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None
    ) -> Tensor:
        """Return softmax(scale Q K' + mask) V, whose factors get half of the relevance each."""
        scores = scale * _halved(query) @ _halved(key).mT
        if mask is not None:
            scores = scores + mask
        probabilities = pass_relevance_unchanged(torch.softmax, scores, -1)
        output = _halved(probabilities) @ _halved(value)
        return output if output.requires_grad else output.requires_grad_()


def _halved(value: Tensor) -> Tensor:
    """Return the value, with half of its gradient."""
    return value.detach() + (value - value.detach()) / 2


class _DividedSum(torch.autograd.Function):
    """The sum of two tensors of one image, which divides relevance by equations 8 to 10."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first_total, second_total = [(part * gradient).sum() for part in ctx.saved_tensors]
        share = ratio(first_total + second_total, first_total.abs() + second_total.abs())
        scaled = share * gradient
        return scaled * first_total.sign(), scaled * second_total.sign()


def _add(func: Rule, first: Tensor, second: Tensor | float) -> Tensor:
    """Return a sum. A constant of another shape is a bias, which gets no relevance."""
    if not differentiable((first, second)):
        return func(first, second)
    if isinstance(second, Tensor) and second.shape == first.shape:
        divided: Tensor = _DividedSum.apply(first, second)
        return divided
    if isinstance(second, Tensor) and second.requires_grad:
        first, second = second, first
    output = func(first, second)
    return with_gradient_of(output, first)


def _multiply(func: Rule, first: Tensor, second: Tensor | float) -> Tensor:
    """Return a product, in which each of two factors that need relevance gets half of it."""
    if isinstance(second, Tensor) and first.requires_grad and second.requires_grad:
        return func(_halved(first), _halved(second))
    return func(first, second)


def _multiply_matrices(func: Rule, first: Tensor, second: Tensor) -> Tensor:
    """Return a matrix product. With a constant it is a linear layer."""
    if first.requires_grad == second.requires_grad:
        return _multiply(func, first, second)
    positive = func(first.clamp(min=0), second.clamp(min=0))
    positive = positive + func(first.clamp(max=0), second.clamp(max=0))
    return with_gradient_of(func(first, second), positive)


def _divide(func: Rule, numerator: Tensor, divisor: Tensor | float) -> Tensor:
    """Return a quotient, whose divisor counts as a constant."""
    return func(numerator, divisor.detach() if isinstance(divisor, Tensor) else divisor)


IN_PLACE = frozenset({"add_", "mul_", "div_"})
UNCHANGED = (
    *SMOOTH, "layer_norm", "rms_norm", "group_norm", "normalize", "softmax", "log_softmax",
)  # fmt: skip
TRANSFORMER_RULES: dict[str, Rule] = {
    **RULES,
    **dict.fromkeys(UNCHANGED, pass_relevance_unchanged),
    **dict.fromkeys(("add", "iadd", "radd"), _add),
    **dict.fromkeys(("mul", "imul", "rmul"), _multiply),
    **dict.fromkeys(("matmul", "bmm", "rmatmul"), _multiply_matrices),
    **dict.fromkeys(("div", "truediv"), _divide),
}
