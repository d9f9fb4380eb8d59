"""The checks of metrics: each fails for a broken metric and passes for a correct one."""

import itertools

import pytest
import torch

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.testing import METRIC_CHECKS, check_metric, metric_checks
from axiom_bench.testing.metric_checks import METRIC_CASES


def mean_of_heatmap(explanation):
    """Return the mean of the heatmap, as a user's function outside of the project does."""
    return explanation.heatmap.float().mean((1, 2))


def several_values(explanation):
    return {"least": explanation.raw_map.amin((1, 2)), "largest": explanation.raw_map.amax((1, 2))}


def largest_value(explanation):
    return explanation.raw_map.amax((1, 2))


def relative_to_the_batch(explanation):
    values = mean_of_heatmap(explanation)
    return values / values.sum()


def by_row_number(explanation):
    return mean_of_heatmap(explanation) + torch.arange(len(explanation))


def after(change):
    """Return a metric that first changes the explanation."""

    def metric(explanation):
        change(explanation)
        return mean_of_heatmap(explanation)

    return metric


def doubled_weights(explanation):
    with torch.no_grad():
        next(explanation.trace.cut_model.model.parameters()).mul_(2)


def gradient_of_the_images(explanation):
    images = explanation.images.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(explanation.trace.forward(images).sum(), images)
    return gradients.abs().sum((1, 2, 3))


def undefined_for_the_first_row(explanation):
    rows = torch.arange(len(explanation))
    return torch.where(rows > 0, mean_of_heatmap(explanation), torch.nan)


def of_the_trace(explanation):
    return mean_of_heatmap(explanation) if explanation.trace is None else explanation.trace.scores


def summed_in_half_precision(explanation):
    return explanation.heatmap.sum((1, 2)).double()


def needs_boxes(explanation):
    return torch.tensor([float(len(boxes)) for boxes in explanation.boxes])


def claiming(about):
    return plugins.from_config(
        "metric", "mine", {"_target_": f"{__name__}.mean_of_heatmap", **about}
    )


COUNTER = itertools.count()
# The check that fails, and a metric or its metadata, by the name of the mistake.
BROKEN = {
    "without a batch": ("returns_declared_values", lambda explanation: explanation.heatmap.mean()),
    "without values": ("returns_declared_values", lambda explanation: {}),
    "undefined": ("values_are_finite", undefined_for_the_first_row),
    "of the global state": (
        "deterministic",
        lambda explanation: mean_of_heatmap(explanation) + torch.rand(1),
    ),
    "counts its calls": (
        "deterministic",
        lambda explanation: mean_of_heatmap(explanation) + next(COUNTER),
    ),
    "relative to the batch": ("batch_invariant", relative_to_the_batch),
    "by row number": ("order_invariant", by_row_number),
    "overwrites the heatmap": ("leaves_explanation_alone", after(lambda e: e.heatmap.sub_(0.5))),
    "overwrites and restores": (
        "leaves_explanation_alone",
        after(lambda e: e.trace.activations.mul_(2).div_(2)),
    ),
    "overwrites the model": ("leaves_model_alone", after(doubled_weights)),
    "trains": (
        "leaves_model_alone",
        after(lambda explanation: explanation.trace.cut_model.model.train()),
    ),
    "a gradient": ("works_without_autograd", gradient_of_the_images),
    "on the default device": (
        "follows_the_device",
        lambda e: e.heatmap.mean((1, 2)) * torch.ones(len(e)),
    ),
    "reads the trace": (
        "reads_what_it_says",
        {"_target_": f"{__name__}.of_the_trace", "reads": "maps"},
    ),
    "in half precision": ("takes_half_precision_maps", summed_in_half_precision),
    "relative to a broken row": ("broken_row_changes_no_other", relative_to_the_batch),
    "a claim of passes": (
        "passes_claim_holds",
        {"_target_": f"{__name__}.mean_of_heatmap", "passes": 3},
    ),
    "needs boxes": ("takes_missing_annotations", needs_boxes),
    "a claim of bounds": (
        "values_lie_in_bounds",
        {"_target_": f"{__name__}.mean_of_heatmap", "bounds": [0.9, 1]},
    ),
    "a share without bounds": (
        "values_lie_in_bounds",
        {"_target_": f"{__name__}.mean_of_heatmap", "kind": "bounded"},
    ),
    "of the map's scale": ("ignores_the_maps_scale", {"_target_": f"{__name__}.largest_value"}),
    "the wrong direction": (
        "prefers_an_exact_map",
        {"_target_": f"{__name__}.mean_of_heatmap", "better": "higher"},
    ),
}


def plugin_of(metric):
    """Return the plug-in of a function, or of metadata as a YAML file has them."""
    if isinstance(metric, dict):
        return plugins.from_config("metric", "mine", metric)
    return plugins.plugin_for("metric", metric)


@pytest.mark.parametrize("broken", BROKEN)
def test_check_detects_a_broken_metric(broken):
    name, metric = BROKEN[broken]
    check = getattr(metric_checks, name)
    case = METRIC_CASES["weights"]
    plugin = plugin_of(metric)
    with pytest.raises((AssertionError, BenchError, RuntimeError, TypeError)):
        check(plugin, case)
    check(plugins.plugin_for("metric", mean_of_heatmap), case)


def test_all_checks_have_a_broken_metric():
    assert {check for check, _ in BROKEN.values()} == {check.__name__ for check in METRIC_CHECKS}


_, OVERWRITING = BROKEN["overwrites the heatmap"]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (by_row_number, r"by_row_number fails batch_invariant on the explanation by weights: \w+"),
        (
            plugins.from_config("metric", "mine", {"_target_": f"{__name__}.several_values"}),
            "returned 'least', which it doesn't declare",
        ),
        (OVERWRITING, r"explanation\.heatmap was overwritten"),
        (
            claiming({"bounds": [0.9, 1]}),
            r"metric\.mine, value mine: values below 0\.9 .* Write `bounds: \[null, 1\]`",
        ),
        (claiming({"bounds": [0, 0.1]}), r"values above 0\.1 .* Write `bounds: \[0, null\]`"),
        (
            claiming({"kind": "bounded"}),
            r"`kind: bounded` has no `bounds` within -1 and 1, and values from .* Write",
        ),
    ],
)
def test_failure_message_contains_metric_check_and_case(metric, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_metric(metric)


@pytest.mark.slow
def test_users_functions_and_a_registered_name_pass_and_an_error_is_raised_with_a_note():
    for metric in (mean_of_heatmap, several_values, "gini"):
        check_metric(metric)
    with pytest.raises(TypeError) as caught:
        check_metric(needs_boxes)
    *_, check_note = caught.value.__notes__
    assert check_note == "in takes_missing_annotations, on the explanation by weights"


@pytest.mark.slow
def test_needless_and_unknown_exemptions_are_refused():
    exemptions = {"takes_half_precision_maps": "sums in the map's own type"}
    check_metric(summed_in_half_precision, exempt=exemptions)
    with pytest.raises(AssertionError, match="passes it: remove the exemption"):
        check_metric(mean_of_heatmap, exempt={"deterministic": "none"})
    with pytest.raises(BenchError, match="did you mean 'deterministic'"):
        check_metric(mean_of_heatmap, exempt={"determinist": "none"})


def test_assumptions_about_the_cases():
    """Check that no row has a zero map, a zero score, or a map without negative values."""
    for name, case in METRIC_CASES.items():
        explanation = case.explanation()
        assert (explanation.heatmap.amax((1, 2)) == 1).all()
        assert (explanation.raw_map.amin((1, 2)) < 0).all()
        assert (explanation.trace.scores != 0).all()
        assert (explanation.contributions is None) == (name == "map")
