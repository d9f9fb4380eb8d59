"""The common suite of CAM methods, the project's own and a user's: `check_method(my_cam)`.

Each check is a function of a method and a Case, a tiny network with images. A check raises
AssertionError if it fails. The message repeats the check's docstring without its first words,
"Check that".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace, compute_trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import scales_with_score
from axiom_bench.evaluation.plugins import AnyPlugin, Plugin
from axiom_bench.evaluation.specs import MethodSpec, pass_count
from axiom_bench.explanation.explanation import Map, Method, heatmap, weighted
from axiom_bench.testing.cases import (
    CASES,
    OTHER_CASES,
    TRACE_TENSORS,
    Case,
    TinyNetwork,
    assert_model_unchanged,
    assert_unchanged,
    cache_latest,
    run_checks,
    same_weights,
    yaml_place,
)
from axiom_bench.testing.other_device import OtherDevice

# Relative to the largest value: float64, over sums of some hundred terms.
RELATIVE_TOLERANCE = 1e-12
# The channels of the layer on which passes are counted. They are more than the passes of a method
# whose number of passes doesn't depend on the channels.
CHANNELS = 320


@cache_latest
def _answer(method: Method, case: Case) -> Tensor | Map:
    """Return the method's result for the case's trace."""
    return method(case.trace())


def finite(method: Method, case: Case) -> None:
    """Check that weights, map and heatmap hold no NaN and no infinity."""
    answer = _answer(method, case)
    _assert_finite(_values(answer), "of the result")
    _assert_finite(heatmap(_raw_map(answer, case.trace()), case.size), "of the heatmap")


def shape_is_declared(method: Method, case: Case) -> None:
    """Check that weights are (B, K), (B, K, 1, 1) or (B, K, H, W), and that a Map is (B, h, w)."""
    _assert_shape(_answer(method, case), case.trace())


def dtype_follows(method: Method, case: Case) -> None:
    """Check that float64 activations give a float64 result, and float32 ones a float32 result."""
    for dtype in (torch.float64, torch.float32):
        actual = _values(_answer(method, replace(case, dtype=dtype))).dtype
        assert actual == dtype, f"{dtype} activations gave {actual}"


def is_detached(method: Method, case: Case) -> None:
    """Check that the result needs no gradient, which would keep its autograd graph in memory."""
    assert not _values(_answer(method, case)).requires_grad, (
        "the result requires a gradient; call .detach()"
    )


def follows_the_device(method: Method, case: Case) -> None:
    """Check that everything computed stays on the trace's device, as a GPU demands.

    See OtherDevice.
    """
    with OtherDevice() as device:
        answer = _values(method(case.trace(device=device)))
    assert device.holds(answer), "the result is on the CPU"


def leaves_trace_alone(method: Method, case: Case) -> None:
    """Check that the trace's tensors aren't written to, not even to be restored afterwards.

    The next method reads the same tensors.
    """
    trace = case.trace()
    with assert_unchanged({f"trace.{name}": getattr(trace, name) for name in TRACE_TENSORS}):
        method(trace)


def leaves_model_alone(method: Method, case: Case) -> None:
    """Check that the model, the copy that is cut, and torch's settings stay as they are.

    This covers parameters, gradients, requires_grad flags, modes and hooks.
    """
    model = case.model().train()
    model.filters[0].requires_grad_(False)
    with assert_model_unchanged(model):
        trace = case.trace(model)
        with assert_model_unchanged(trace.cut_model.model):
            method(trace)


def deterministic(method: Method, case: Case) -> None:
    """Check that a second call gives the same bits and doesn't use the global random state."""
    trace = case.trace()
    first = _values(_answer(method, case))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        method(trace)
        assert torch.equal(torch.get_rng_state(), before), (
            "the global random state changed; use a torch.Generator"
        )
        torch.manual_seed(1)
        assert torch.equal(_values(method(trace)), first), "a second call gave another result"
        new_trace = replace(case, change=same_weights).trace()
        assert torch.equal(_values(method(new_trace)), first), "a new trace gave another result"


def batch_invariant(method: Method, case: Case) -> None:
    """Check that the result for an image doesn't depend on the other images of its batch."""
    trace = case.trace()
    rows = [_values(method(trace[i : i + 1])) for i in range(len(trace))]
    _assert_equal(torch.cat(rows), _values(_answer(method, case)))


def order_invariant(method: Method, case: Case) -> None:
    """Check that images in another order give the same results in that order."""
    forward = case.trace()
    other_inputs = tuple(tensor.flip(0) for tensor in forward.other_inputs)
    backward = compute_trace(
        forward.cut_model, forward.images.flip(0), forward.targets.flip(0), others=other_inputs
    )
    parts = forward.interventions and forward.interventions[::-1]
    backward = replace(backward, interventions=parts, other_images=case.other_images().flip(0))
    _assert_equal(_values(method(backward)), _values(_answer(method, case)).flip(0))


def follows_the_image(method: Method, case: Case) -> None:
    """Check that an image that moves by rounding moves the result by no more than that.

    Random draws must belong to the image as first traced (`trace.generators(seed)`), not to the
    bits of its perturbed copy.
    """
    trace = case.trace()
    moved = trace.images.clone()
    moved.flatten(1)[:, 0] += 1e-6
    answer = _answer(method, case)
    again = method(trace.again(images=moved))
    expected = _raw_map(answer, trace)
    actual = _raw_map(again, trace)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3 * expected.abs().max().item())


def _channel_order(channels: int) -> Tensor:
    """Return the channels of a layer in the order of `_reorder_channels`."""
    return torch.arange(channels).roll(1)


def _reorder_channels(model: TinyNetwork) -> None:
    """Give the network's channels another order, which changes no score."""
    order = _channel_order(len(model.filters[1]))
    for parameter in model.filters:
        parameter.copy_(parameter[order])
    model.readout.copy_(model.readout[:, order])


def _silence_channel(model: TinyNetwork) -> None:
    """Make the first channel zero everywhere."""
    for parameter in model.filters:
        parameter[0] = 0


def _silence_channel_with_other_weights(model: TinyNetwork) -> None:
    """Make the first channel zero everywhere, and change the head's weights for it."""
    _silence_channel(model)
    model.readout[:, 0] *= -3.0


def _zero_layer(model: TinyNetwork) -> None:
    """Make the layer zero everywhere."""
    for parameter in model.filters:
        parameter.zero_()


def _lower_scores(model: TinyNetwork) -> None:
    """Make all scores negative."""
    nn.init.constant_(model.head[-1].bias, -100)  # type: ignore[arg-type]


def channel_equivariant(method: Method, case: Case) -> None:
    """Check that a network with its channels in another order gets the same map.

    The weights must be the same, in that order.
    """
    trace = case.trace()
    answer = _answer(method, case)
    reordered_trace = replace(case, change=_reorder_channels).trace()
    reordered_answer = method(reordered_trace)
    _assert_equal(_raw_map(reordered_answer, reordered_trace), _raw_map(answer, trace))
    if not isinstance(answer, Map):
        # Weights of any shape, spread over the layer's positions.
        ones = torch.ones_like(trace.activations)
        order = _channel_order(case.channels)
        _assert_equal(weighted(_values(reordered_answer), ones), weighted(answer, ones)[:, order])


def dead_channel_is_silent(method: Method, case: Case) -> None:
    """Check that the head's weights for a channel that is zero everywhere don't change the map.

    The map must stay finite.
    """
    maps = []
    for change in (_silence_channel, _silence_channel_with_other_weights):
        trace = replace(case, change=change).trace()
        maps.append(_raw_map(method(trace), trace))
    _assert_finite(maps[0], "of the map with a dead channel")
    _assert_equal(maps[1], maps[0])


def takes_zero_activations(method: Method, case: Case) -> None:
    """Check that a layer that is zero everywhere gives finite weights and a zero map.

    A Map must only be finite.
    """
    trace = replace(case, change=_zero_layer).trace()
    answer = method(trace)
    _assert_finite(_values(answer), "of the result")
    if not isinstance(answer, Map):
        largest = float(_raw_map(answer, trace).abs().max())
        assert largest == 0, f"the map of zero activations has values up to {largest:.3g}"


def takes_negative_scores(method: Method, case: Case) -> None:
    """Check that scores far below zero give finite values of the same shape."""
    trace = replace(case, change=_lower_scores).trace()
    assert (trace.scores < 0).all()
    answer = method(trace)
    _assert_shape(answer, trace)
    _assert_finite(_values(answer), "of the result")


def takes_one_channel(method: Method, case: Case) -> None:
    """Check that a layer of one channel, K = 1, gives a finite result of the declared shape."""
    for check in (shape_is_declared, finite):
        check(method, replace(case, channels=1))


def takes_one_pixel(method: Method, case: Case) -> None:
    """Check that a single image with maps of one pixel, H = W = 1, gives a finite result.

    The result must have the declared shape.
    """
    for check in (shape_is_declared, finite):
        check(method, replace(case, size=(2,) * len(case.size), rows=1))


def works_without_autograd(method: Method, case: Case) -> None:
    """Check that a caller in torch.no_grad or torch.inference_mode gets the same result."""
    expected = _values(_answer(method, case))
    # Nothing is computed yet on this network, nor on a replaced trace. Inference mode is first,
    # since its tensors are the ones that a later pass may not be able to use.
    new_trace = case.trace(case.model())
    for mode in (torch.inference_mode, torch.no_grad):
        trace = replace(new_trace)
        with mode():
            actual = _values(method(trace))
        _assert_equal(actual, expected)


def score_scale_claim_holds(method: Method, case: Case) -> None:
    """Check that the YAML's `on_score_scale` is what the check of the scale measures."""
    spec = _claims(method)
    if spec is not None and spec.on_score_scale is not None:
        measured = scales_with_score(method, case.trace())
        _assert_claim(method, "on_score_scale", spec.on_score_scale, measured)


def needs_drops_claim_holds(method: Method, case: Case) -> None:
    """Check that the YAML's `needs_drops` says if the method reads `trace.ablation_drops`."""
    spec = _claims(method)
    if spec is not None:
        trace = case.trace()
        method(trace)
        _assert_claim(method, "needs_drops", spec.needs_drops, "ablation_drops" in vars(trace))


def passes_claim_holds(method: Method, case: Case) -> None:
    """Check that the YAML's `passes` is the number of passes that explaining an image takes.

    The layer has CHANNELS channels.
    """
    spec = _claims(method)
    if spec is None or spec.passes is None:
        return
    # No channel of the convolution before the ReLU is constant.
    signed = replace(case, layer="features.2", channels=CHANNELS, rows=1, dtype=torch.float32)
    try:
        counted = _counted_passes(method, signed)
    except BenchError:
        # A method may need the case's own layer, such as `cam`, whose head must pool the layer.
        counted = _counted_passes(method, replace(signed, layer=case.layer))
    if counted != pass_count(spec.passes, CHANNELS):
        _assert_claim(method, "passes", spec.passes, "K" if counted == CHANNELS else counted)


def dimensions_claim_holds(method: Method, case: Case) -> None:
    """Check that the method takes the signals, images and volumes that `dimensions` lists."""
    spec = _claims(method)
    if spec is None:
        return
    claimed = list(spec.dimensions or (2,))
    errors = {}
    for other_case in OTHER_CASES.values():
        dimensions = len(other_case.size)
        error = _error_on(method, other_case) if dimensions in claimed else None
        # A BenchError refuses a kind of network, not a dimension.
        if error is not None and not isinstance(error, BenchError):
            errors[dimensions] = error
    if errors:
        number, error = next(iter(errors.items()))
        _assert_claim(
            method,
            key="dimensions",
            claimed=claimed,
            measured=[dimensions for dimensions in claimed if dimensions not in errors],
            details=f"With {number} it ends in {type(error).__name__}: {error}.",
        )


def _error_on(method: Method, case: Case) -> Exception | None:
    """Return the error of a method on a network, or None if the result has its shape."""
    try:
        trace = case.trace()
        _assert_shape(method(trace), trace)
    except (BenchError, AssertionError, RuntimeError, ValueError, IndexError) as error:
        return error
    return None


def _counted_passes(method: Method, case: Case) -> int:
    """Count the whole network's passes in one call, without those of the ablation drops."""
    trace = case.trace()
    _ = trace.ablation_drops
    before = replace(trace.passes)
    method(trace)
    after = trace.passes
    return after.trunk_forward - before.trunk_forward + after.trunk_backward - before.trunk_backward


# The other checks rely on the first one.
CHECKS: tuple[Callable[[Method, Case], None], ...] = (
    shape_is_declared,
    finite,
    dtype_follows,
    is_detached,
    leaves_trace_alone,
    leaves_model_alone,
    deterministic,
    batch_invariant,
    order_invariant,
    follows_the_image,
    channel_equivariant,
    dead_channel_is_silent,
    takes_zero_activations,
    takes_negative_scores,
    takes_one_channel,
    takes_one_pixel,
    works_without_autograd,
    score_scale_claim_holds,
    needs_drops_claim_holds,
    passes_claim_holds,
    dimensions_claim_holds,
    follows_the_device,
)


def check_method(method: str | Method, exempt: Mapping[str, str] | None = None) -> None:
    """Run every check on each tiny network that the method doesn't refuse with a BenchError.

    The networks take images, and signals and volumes if the method's `dimensions` list them.

    Args:
        method: A name from `conf/method`, or a callable.
        exempt: {name of a check: reason why the method fails it by design}, in addition to the
            `exempt` of the method's YAML. Such a check must fail.

    Raises:
        AssertionError: If a check fails, with the names of check and network. An error of the
            method itself passes through, with both names as a note.
        BenchError: If an exempt check doesn't exist.
    """
    plugin = plugins.plugin_for("method", method)
    cases = accepted_cases(plugin)
    assert cases, (
        f"{plugin.name} refuses all of the tiny networks: {', '.join(CASES)}: "
        f"{_refusal(plugin, Case())}"
    )
    cases_by_name = {f"the {name} network": case for name, case in cases.items()}
    # A method may refuse signals or volumes, so only those that it takes are checked.
    for name, case in OTHER_CASES.items():
        if _error_on(plugin, case) is None:
            cases_by_name[f"a network of {name}"] = case
    run_checks(plugin, CHECKS, cases_by_name, exempt={**exemptions(plugin), **(exempt or {})})


def exemptions(plugin: AnyPlugin) -> dict[str, str]:
    """Return the checks that a method fails by design, from its YAML: {name: reason}.

    Args:
        plugin: The method.

    Returns:
        The reasons by the check's name.
    """
    return dict(plugin.spec.exempt)


def accepted_cases(method: Method) -> dict[str, Case]:
    """Return the cases of CASES that the method doesn't refuse with a BenchError.

    Args:
        method: The method.

    Returns:
        The cases by name.
    """
    return {name: case for name, case in CASES.items() if _refusal(method, case) is None}


def _refusal(method: Method, case: Case) -> BenchError | None:
    """Return the error with which the method refuses the network, or None if it takes it."""
    try:
        method(case.trace())
    except BenchError as error:
        return error
    return None


def _claims(method: Method) -> MethodSpec | None:
    """Return the metadata of a method, or None for a callable without a YAML file."""
    return method.spec if isinstance(method, Plugin) and not method.bare else None


def _assert_claim(
    method: Method, key: str, claimed: object, measured: object, details: str = ""
) -> None:
    """Raise AssertionError, with the line to write, if a claim isn't what was measured."""
    assert isinstance(method, Plugin)
    to_write = json.dumps(measured)  # as YAML has it, too
    assert claimed == measured, (
        f"{yaml_place(method)}: `{key}` is {json.dumps(claimed)}, and {to_write} was measured. "
        f"{details} Write `{key}: {to_write}`, or fix {method.target}."
    )


def _assert_finite(values: Tensor, description: str) -> None:
    """Raise AssertionError, with a description of the values, if some aren't finite."""
    broken = int((~values.isfinite()).sum())
    assert not broken, f"{broken} of {values.numel()} values {description} are NaN or infinite"


def _values(answer: Tensor | Map) -> Tensor:
    """Return the tensor of weights, or of a map."""
    return answer.raw if isinstance(answer, Map) else answer


def _raw_map(answer: Tensor | Map, trace: Trace) -> Tensor:
    """Return the signed raw map (B, h, w) of a method's result."""
    return answer.raw if isinstance(answer, Map) else weighted(answer, trace.activations).sum(1)


def _assert_shape(answer: Tensor | Map, trace: Trace) -> None:
    """Raise AssertionError if a method's result has another shape than those that are allowed."""
    full = tuple(trace.activations.shape)
    B, K, *space = full
    values = _values(answer)
    assert isinstance(values, Tensor), (
        f"a {type(values).__name__} is neither a tensor nor an ab.Map of one"
    )
    shape = tuple(values.shape)
    if isinstance(answer, Map):
        assert (len(shape), shape[0]) == (len(full) - 1, B), f"the map is {shape}, not ({B}, h, w)"
    else:
        per_channel = (B, K, *(1 for _ in space))
        assert shape in {(B, K), per_channel, full}, (
            f"the weights are {shape}, not {per_channel} or {full}"
        )


def _assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Raise AssertionError if tensors differ by more than rounding."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=RELATIVE_TOLERANCE * scale)
