"""The common suite of metrics, the project's own and a user's: `check_metric(my_metric)`.

Each check is a function of a metric and a MetricCase, a tiny network with an explanation and
annotations. A check raises AssertionError if it fails. The message repeats the check's docstring
without its first words, "Check that".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from axiom_bench.columns import OK
from axiom_bench.cutting.interventions import FINDER_PATTERNS, GROUND, TIMING_PATTERNS, Part
from axiom_bench.cutting.trace import Trace, compute_trace
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import Measured, maps_only, measure, reads_maps
from axiom_bench.evaluation.plugins import (
    Metric,
    precondition_names,
    value_names,
    whole_set_value_names,
)
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.explanation.explanation import Curve, Explanation, Map, Method
from axiom_bench.testing import exact_map
from axiom_bench.testing.cases import (
    CLASSES,
    TRACE_TENSORS,
    Case,
    assert_model_unchanged,
    assert_unchanged,
    cache_latest,
    run_checks,
    same_weights,
    yaml_place,
)
from axiom_bench.testing.other_device import OtherDevice

MetricFunction = Callable[..., Any]
SCORE_SCALE = "score_scale"  # the need of metrics that measure the axioms
BOUND_TOLERANCE = 1e-12  # float64: sums of some hundred terms of the size of 1
FIELDS = ("contributions", "raw_map", "heatmap", "images", "masks")
PASSES_SIZE = (16, 16)  # of images: more pixels than a curve has steps
# float64: sums of some hundred terms of the size of 1.
CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12, "equal_nan": True}


@dataclass(frozen=True)
class MetricCase:
    """An explanation of a tiny network's images, with annotations.

    Each image has two boxes, called cells of a mosaic, a mask of the explained class, and versions
    without its parts.
    """

    method: Method
    """The method that explains the images."""
    case: Case
    """The network and its images."""

    def explanation(self) -> Explanation:
        """Explain all images again at each call, with a network that is cut once."""
        return self.explain(self.case.trace())

    def explanation_of_new_model(self) -> Explanation:
        """Explain all images with a new network, which nothing has been asked of."""
        return self.explain(self.case.trace(self.case.model()))

    def explanation_of_second_model(self) -> Explanation:
        """Explain all images with a second network of the same weights."""
        return self.explain(replace(self.case, change=same_weights).trace())

    def explain(self, trace: Trace, mirrored: bool = False, ids: Sequence[str] = ()) -> Explanation:
        """Explain a trace of the same image size.

        There is a box of the explained object, one of the next class, and one of another object of
        the explained class.

        Args:
            trace: The trace.
            mirrored: Whether left and right of the trace's images are swapped. Annotations and
                parts are then mirrored, too.
            ids: The images' ids, by default their rows.

        Returns:
            The explanation.
        """
        size = self.case.size
        width = size[-1]
        explained_box = tuple(_slices(size, (2, 9), (3, 11)))
        other_box = _slices(size, (0, 6), (0, 12))
        same_class_box = _slices(size, (8, 14), (1, 9))
        boxes = torch.tensor(
            [_corners(explained_box), _corners(other_box), _corners(same_class_box)]
        )
        object_pixels = torch.zeros(size, dtype=torch.bool)
        object_pixels[explained_box] = True
        if mirrored:
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes = torch.stack([width - x1, y0, width - x0, y1], dim=1)
            object_pixels = object_pixels.flip(1)
        annotations = []
        interventions = []
        for image, target in zip(trace.images, trace.targets.tolist(), strict=True):
            annotation = Annotation(
                labels=torch.tensor([target, (target + 1) % CLASSES]),
                boxes=boxes[:2],
                mask=torch.where(object_pixels, target, -1),
                cells=True,
            )
            annotations.append(annotation)
            if mirrored:
                # The parts of the image as it was, which are mirrored then.
                parts = parts_of(image.flip(2), target)
                interventions.append(tuple(_mirrored(part) for part in parts))
            else:
                interventions.append(parts_of(image, target))
        image_ids = tuple(ids or map(str, range(len(trace))))
        batch = Batch(trace.images, image_ids, trace.targets, tuple(annotations))
        trace = replace(trace, interventions=tuple(interventions))
        trace.cut_model.finetuned = trace.cut_model.model
        explanation = Explanation.of(trace, self.method(trace), batch, self.method)
        return replace(explanation, same_class=(boxes[2:],) * len(trace))


def parts_of(image: Tensor, target: int) -> tuple[Part, ...]:
    """Return an object of class `target`, one of another class, a mark and the ground of an image.

    The objects have the names of a QR code's parts, which some metrics need. The mark changes
    nothing. Without the ground, the image is blank there, or inverted. The image is (3, H', W').
    """
    size = image.shape[1:]

    def region(*places: tuple[int, int]) -> Tensor:
        pixels = torch.zeros(size, dtype=torch.bool, device=image.device)
        pixels[tuple(_slices(size, *places))] = True
        return pixels

    # The regions are disjoint and cover the image together, as those of a data set's parts do.
    first = region((2, 7), (3, 11))
    second = region((8, 12), (1, 9))
    mark = region((0, 2), (0, 2))
    ground = ~(first | second | mark)
    blank = image.masked_fill(ground, 0)
    inverted = torch.where(ground, -image, image)
    grounds = torch.stack([blank, inverted])
    without_first = image.masked_fill(first, 0)[None]
    without_second = image.masked_fill(second, 0)[None]
    return (
        Part(FINDER_PATTERNS, target, first, without_first),
        Part(TIMING_PATTERNS, (target + 1) % CLASSES, second, without_second),
        Part("mark", None, mark, image[None]),
        Part(GROUND, None, ground, grounds, grounds.masked_fill(~ground, 0)),
    )


def _slices(size: Sequence[int], *places: tuple[int, int]) -> list[slice]:
    """Return one slice per side from places along the last sides, the last first.

    A third side is taken whole. Sides of 1 don't count.
    """
    remaining_places = iter(places)
    slices = []  # the last side first
    for side in reversed(size):
        place = (0, 1) if side == 1 else next(remaining_places, (0, side))
        slices.append(slice(*place))
    return slices[::-1]


def _corners(box: Sequence[slice]) -> list[float]:
    """Return a box's starts and then its ends, the last axis first."""
    starts = [float(side.start) for side in reversed(box)]
    ends = [float(side.stop) for side in reversed(box)]
    return starts + ends


def _mirrored(part: Part) -> Part:
    """Return a part with left and right swapped."""
    return replace(part, region=part.region.flip(1), images=part.images.flip(3))


def _weights(trace: Trace) -> Tensor:
    """Return the weights of HiResCAM."""
    return trace.gradients


def _tripled(method: Method, trace: Trace) -> Tensor | Map:
    """Return three times the method's result."""
    answer = method(trace)
    return Map(3 * answer.raw) if isinstance(answer, Map) else 3 * answer


def _map(trace: Trace) -> Map:
    """Return a signed map at the layer's size, which has no contributions."""
    return Map((trace.gradients * trace.activations).sum(1))


IMAGES = Case(size=(12, 14), channels=5, tells=True)
METRIC_CASES = {"weights": MetricCase(_weights, IMAGES), "map": MetricCase(_map, IMAGES)}


@cache_latest
def _expected(metric: Metric, case: MetricCase) -> Measured:
    """Return the metric's values of the case's explanation."""
    return measure(metric, case.explanation(), True)


def returns_declared_values(metric: Metric, case: MetricCase) -> None:
    """Check that the result is a tensor (B,), or a dict of one per name that the YAML declares."""
    answers = _expected(metric, case)
    # The values of more dimensions are curves.
    returned = {name for name, (values, _) in answers.items() if values.ndim == 1}
    declared = returned if metric.bare else set(value_names(metric))
    assert returned, "no value was returned"
    assert returned == declared, f"returned {sorted(returned)}, and declared {sorted(declared)}"


def values_are_finite(metric: Metric, case: MetricCase) -> None:
    """Check that each value is finite, or NaN with a status.

    The status is that of a need that isn't met, or `undefined`.
    """
    answers = _expected(metric, case)
    for name, (_, statuses) in answers.items():
        assert "not_finite" not in statuses, (
            f"{name} isn't finite for image {statuses.index('not_finite')}"
        )
    _assert_statuses(answers)


def deterministic(metric: Metric, case: MetricCase) -> None:
    """Check that a second call gives the same bits and doesn't use the global random state."""
    first = _values(_expected(metric, case))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        _assert_close(_values(measure(metric, case.explanation(), True)), first, rtol=0, atol=0)
        assert torch.equal(torch.get_rng_state(), before), (
            "the global random state changed; use a torch.Generator"
        )
        torch.manual_seed(1)
        with_second_model = _values(measure(metric, case.explanation_of_second_model(), True))
        _assert_close(with_second_model, first, rtol=0, atol=0)


def batch_invariant(metric: Metric, case: MetricCase) -> None:
    """Check that the value of an image doesn't depend on the other images of its batch."""
    trace = case.case.trace()
    batch_values = _values(_expected(metric, case))
    for row in range(len(trace)):
        actual = _values(measure(metric, case.explain(trace[row : row + 1]), True))
        expected = {name: values[row : row + 1] for name, values in batch_values.items()}
        _assert_close(actual, expected, **CLOSE)


def order_invariant(metric: Metric, case: MetricCase) -> None:
    """Check that images in another order have the same values in that order."""
    trace = case.case.trace()
    reordered = compute_trace(trace.cut_model, trace.images.flip(0), trace.targets.flip(0))
    expected = {name: values.flip(0) for name, values in _values(_expected(metric, case)).items()}
    _assert_close(_values(measure(metric, case.explain(reordered), True)), expected, **CLOSE)


def leaves_explanation_alone(metric: Metric, case: MetricCase) -> None:
    """Check that the tensors of explanation and trace aren't written to.

    The next metric reads the same tensors.
    """
    explanation = case.explanation()
    tensors = {f"explanation.{name}": getattr(explanation, name) for name in FIELDS}
    for name in TRACE_TENSORS:
        tensors[f"explanation.trace.{name}"] = getattr(explanation.trace, name)
    with assert_unchanged({name: tensor for name, tensor in tensors.items() if tensor is not None}):
        measure(metric, explanation, True)


def leaves_model_alone(metric: Metric, case: MetricCase) -> None:
    """Check that the model, the copy that is cut, and torch's settings stay as they are.

    This covers parameters, gradients, requires_grad flags, modes and hooks.
    """
    model = case.case.model()
    with assert_model_unchanged(model):
        trace = case.case.trace(model)
        with assert_model_unchanged(trace.cut_model.model):
            measure(metric, case.explain(trace), True)


def works_without_autograd(metric: Metric, case: MetricCase) -> None:
    """Check that a caller in torch.no_grad or torch.inference_mode gets the same values."""
    expected = _values(_expected(metric, case))
    # Nothing is computed yet on this network, nor on a replaced trace. Inference mode is first,
    # since its tensors are the ones that a later pass may not be able to use.
    new_explanation = case.explanation_of_new_model()
    assert new_explanation.trace is not None
    for mode in (torch.inference_mode, torch.no_grad):
        explanation = replace(new_explanation, trace=replace(new_explanation.trace))
        with mode():
            actual = _values(measure(metric, explanation, True))
        _assert_close(actual, expected, **CLOSE)


def follows_the_device(metric: Metric, case: MetricCase) -> None:
    """Check that everything computed stays on the model's device, as a GPU demands.

    See OtherDevice.
    """
    with OtherDevice() as device:
        measure(metric, case.explain(case.case.trace(device=device)), True)


def reads_what_it_says(metric: Metric, case: MetricCase) -> None:
    """Check that a metric with `reads: maps` has the same values when it is given only maps.

    The explanation has no trace, no contributions and no images.
    """
    if reads_maps(metric):
        expected = _values(_expected(metric, case))
        actual = _values(measure(metric, maps_only(case.explanation()), True))
        _assert_close(actual, expected, rtol=0, atol=0)


def takes_half_precision_maps(metric: Metric, case: MetricCase) -> None:
    """Check that a map in float16 or bfloat16 has the values of the same map in float32.

    To achieve this, compute with `heatmap.double()`.
    """
    explanation = case.explanation()
    for dtype in (torch.float16, torch.bfloat16):
        half = {name: getattr(explanation, name).to(dtype) for name in ("heatmap", "raw_map")}
        single = {name: values.float() for name, values in half.items()}
        actual = _values(measure(metric, replace(explanation, **half), True))
        expected = _values(measure(metric, replace(explanation, **single), True))
        _assert_close(actual, expected, rtol=0, atol=0)


def broken_row_changes_no_other(metric: Metric, case: MetricCase) -> None:
    """Check that a row of zeros, NaN or infinities changes no value of another row.

    The row itself must have a value or a status.
    """
    explanation = case.explanation()
    expected = _expected(metric, case)
    other_rows = [row for row in range(len(explanation)) if row != 1]
    for number in (0.0, float("nan"), float("-inf")):
        broken = measure(metric, with_row(explanation, 1, number), True)
        for name, (values, statuses) in broken.items():
            expected_values, expected_statuses = expected[name]
            torch.testing.assert_close(values[other_rows], expected_values[other_rows], **CLOSE)
            for row in other_rows:
                assert statuses[row] == expected_statuses[row]
        _assert_statuses(broken)


def passes_claim_holds(metric: Metric, case: MetricCase) -> None:
    """Check that the YAML's `passes` is the number of passes that an image takes.

    The images are such that no two perturbed copies are equal.
    """
    claim = metric.spec.passes
    if claim is None:
        return
    larger = replace(case, case=replace(case.case, size=PASSES_SIZE))
    trace = larger.case.trace()
    explanation = larger.explain(trace)
    before = replace(trace.passes)
    measure(metric, explanation, True)
    after = trace.passes
    forward = after.trunk_forward - before.trunk_forward
    backward = after.trunk_backward - before.trunk_backward
    counted = (forward + backward) / len(trace)
    expected = pass_count(claim, larger.case.channels)
    assert counted == expected, f"passes is {claim}, and {counted:g} were counted"


def values_lie_in_bounds(metric: Metric, case: MetricCase) -> None:
    """Check that values lie within the YAML's `bounds`.

    Shares, probabilities and correlations must have bounds within -1 and 1.
    """
    for name, values in _values(_expected(metric, case)).items():
        if not metric.bare and name in (*value_names(metric), *whole_set_value_names(metric)):
            assert_within_bounds(metric, name, values)


def assert_within_bounds(metric: Metric, name: str, values: Tensor) -> None:
    """Raise AssertionError, with the line to write, if a value lies outside the YAML's bounds."""
    about = metric.spec.about(name)
    least, most = about.bounds or (None, None)
    finite = values[values.isfinite()]
    smallest = float(finite.min()) if len(finite) else least
    largest = float(finite.max()) if len(finite) else most
    place = f"{yaml_place(metric)}, value {name}"
    if about.kind in ("proportion", "bounded"):
        are_bounds = least is not None and most is not None and -1 <= least < most <= 1
        assert are_bounds, (
            f"{place}: `kind: {about.kind}` has no `bounds` within -1 and 1, and values from "
            f"{smallest} to {largest} were measured. Write `bounds: [0, 1]`, or another `kind`."
        )
    if least is not None and smallest is not None:
        assert smallest >= least - BOUND_TOLERANCE, (
            f"{place}: values below {least} were measured ({smallest:.6g}). Write `bounds: [null, "
            f"{_text(most)}]`, or fix {metric.target}."
        )
    if most is not None and largest is not None:
        assert largest <= most + BOUND_TOLERANCE, (
            f"{place}: values above {most} were measured ({largest:.6g}). Write `bounds: "
            f"[{_text(least)}, null]`, or fix {metric.target}."
        )


def _text(bound: float | None) -> str:
    """Return a bound as YAML has it."""
    return "null" if bound is None else f"{bound:g}"


def ignores_the_maps_scale(metric: Metric, case: MetricCase) -> None:
    """Check that a map times 3 has the same values.

    This doesn't apply to metrics that need contributions on the score's scale.
    """
    if metric.bare or metric.spec.of == "layer" or SCORE_SCALE in precondition_names(metric):
        return
    tripled = replace(case, method=partial(_tripled, case.method))
    actual = _values(measure(metric, tripled.explanation(), True))
    _assert_close(actual, _values(_expected(metric, case)), **CLOSE)


def prefers_an_exact_map(metric: Metric, case: MetricCase) -> None:
    """Check that the exact map of `testing.exact_map` is better than a map of the other class."""
    if not metric.bare and metric.spec.of == "method" and metric.spec.better != "none":
        gains = exact_map.gains(metric, exact_map.exact_weights, exact_map.wrong_weights)
        assert exact_map.is_better(gains), (
            f"`better` is {metric.spec.better}, and the exact map's values are better by "
            f"{gains or 'nothing'}."
        )


def takes_missing_annotations(metric: Metric, case: MetricCase) -> None:
    """Check that the metric has values, or statuses of its `needs`, without boxes and masks.

    It may also raise BenchError.
    """
    explanation = replace(case.explanation(), boxes=None, cells=None, masks=None, others=None)
    with suppress(BenchError):
        _assert_statuses(measure(metric, explanation, True))


def _assert_statuses(measured: Measured) -> None:
    """Raise AssertionError if a value isn't finite with status "ok", or is with another status."""
    for name, (values, statuses) in measured.items():
        for row, status in enumerate(statuses):
            assert (status == OK) == bool(values[row].isfinite().all()), (
                f"{name} of image {row} has status {status}"
            )


# The other checks rely on the first one.
CHECKS: tuple[Callable[[Metric, MetricCase], None], ...] = (
    returns_declared_values,
    values_are_finite,
    deterministic,
    batch_invariant,
    order_invariant,
    leaves_explanation_alone,
    leaves_model_alone,
    works_without_autograd,
    follows_the_device,
    reads_what_it_says,
    takes_half_precision_maps,
    broken_row_changes_no_other,
    takes_missing_annotations,
    passes_claim_holds,
    values_lie_in_bounds,
    ignores_the_maps_scale,
    prefers_an_exact_map,
)


def check_metric(metric: str | MetricFunction, exempt: Mapping[str, str] | None = None) -> None:
    """Run every check on an explanation by weights and on one by a map.

    Args:
        metric: A name from `conf/metric`, or a callable.
        exempt: {name of a check: reason why the metric fails it by design}, in addition to the
            `exempt` of the metric's YAML. Such a check must fail.

    Raises:
        AssertionError: If a check fails, with the names of check and case. An error of the metric
            itself passes through, with both names as a note.
        BenchError: If an exempt check doesn't exist.
    """
    plugin = plugins.plugin_for("metric", metric)
    run_checks(
        plugin,
        CHECKS,
        cases={f"the explanation by {name}": case for name, case in METRIC_CASES.items()},
        exempt={**plugin.spec.exempt, **(exempt or {})},
        # The engine refuses some mistakes with a BenchError.
        mistakes=(AssertionError, BenchError),
    )


def answered(metric: MetricFunction) -> Callable[..., Any]:
    """Return a metric function that asks the model at once, as `metrics.get` gives it.

    Args:
        metric: A metric function, which may be a generator of requests.

    Returns:
        A function with the same parameters. It returns the values, and a curve as its points.
    """

    def call(explanation: Explanation, *args: object, **kwargs: object) -> object:
        plugin = plugins.plugin_for(
            "metric", lambda explanation: metric(explanation, *args, **kwargs)
        )
        result = plugin(explanation)
        if not isinstance(result, Mapping):
            return result
        points_or_values = {}
        for name, values in result.items():
            points_or_values[name] = values.points if isinstance(values, Curve) else values
        return points_or_values

    return call


def _values(measured: Measured) -> dict[str, Tensor]:
    """Return the values without their statuses."""
    return {name: values for name, (values, _) in measured.items()}


def _assert_close(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], **tolerance: Any
) -> None:
    """Raise AssertionError, with the name of the value, if values differ."""
    settings = {"equal_nan": True, **tolerance}
    for name, values in expected.items():
        try:
            torch.testing.assert_close(actual[name], values, **settings)
        except AssertionError as error:
            raise AssertionError(f"{name} differs: {error}") from None


def with_row(explanation: Explanation, row: int, number: float) -> Explanation:
    """Return the explanation with a row's maps and score set to a number, and its boxes removed."""

    def filled(tensor: Tensor) -> Tensor:
        return tensor.index_fill(0, torch.tensor([row], device=tensor.device), number)

    assert explanation.trace is not None
    assert explanation.boxes is not None
    boxes = tuple(boxes[:0] if i == row else boxes for i, boxes in enumerate(explanation.boxes))
    fields: dict[str, Any] = {}
    for name in ("contributions", "raw_map", "heatmap"):
        values = getattr(explanation, name)
        if values is not None:
            fields[name] = filled(values)
    trace = replace(explanation.trace, scores=filled(explanation.trace.scores))
    return replace(explanation, boxes=boxes, trace=trace, **fields)
