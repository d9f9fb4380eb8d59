"""What methods and metrics cost: counted beforehand, announced, and held to a budget that refuses a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.columns import OK
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace, cut
from axiom_bench.data.batch import Batch
from axiom_bench.data.embedded import Scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import rows_of, trace_of_batch
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.evaluation.method_costs import passes_of_methods
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.smoothed import smoothed as smoothing
from axiom_bench.run import sweep as sweeps
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.computing import compute
from axiom_bench.run.computing.costs import Cost, check
from axiom_bench.run.computing.samples import spread_rows
from axiom_bench.run.inputs import images
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job
from axiom_bench.testing import CASES, Case, accepted_cases


@pytest.fixture
def trace() -> Trace:
    return Case().trace()


def named(kind: str, name: str, function) -> Plugin:
    return replace(plugins.of(kind, function), name=name)


def asking(name: str, count: int, key: str = "", of_image: bool = False) -> Plugin:
    """A metric that asks about `count` copies of each image."""

    def metric(explanation):
        images = explanation.images
        scores = yield PerturbedImages(
            key or name, count, lambda rows, copies: images[rows, None].expand(-1, count, -1, -1, -1)[:, copies],
            of_image=of_image,
        )  # fmt: skip
        return scores.sum((1, 2))

    return named("metric", name, metric)


def reexplaining(name: str, key: str | None) -> Plugin:
    """A metric that explains each image once more."""

    def metric(explanation):
        trace = explanation.trace
        return (yield Reexplanation(trace.again, lambda other: other.raw_map.sum((1, 2)), key=key))

    return named("metric", name, metric)


def running(name: str, passes: int, shared: str = "") -> Plugin:
    """A method that runs the whole model on each image; `shared`: what it keeps in the trace for others."""

    def run(trace):
        return sum(trace.forward(trace.images).sum(1) for _ in range(passes))

    def method(trace):
        _ = trace.once(shared, lambda: run(trace)) if shared else run(trace)
        return trace.gradients

    return named("method", name, method)


def three_methods() -> list[Plugin]:
    return [running("one", 2), running("two", 3, "masks"), running("three", 3, "masks")]


def test_what_is_shared_counts_once(trace):
    several = [asking("a", 1, "kept"), asking("b", 1, "kept"), asking("c", 10), asking("d", 100, of_image=True)]
    cost = Cost.of(three_methods(), [*several, reexplaining("e", "noise"), reexplaining("f", None)], trace)
    assert dict(cost.of_methods) == {"one": 2, "two": 3, "three": 3}
    assert (cost.together, cost.shared_traces, cost.own_traces) == (5, 1, 1)
    assert (cost.per_image_and_method, sum(cost.of_image.values())) == (12, 101)
    assert cost.explaining == 5 * 2 + 8
    assert cost.per_image == 18 + 3 * 12 + 101
    start = "forward passes beside those of the traces, at most: "
    assert cost.line(images=20, rows=20) == (
        f"{start}18 per image of the methods (three 3, two 3, one 2), 12 per image and method (c 10, a 1, f 1), "
        "101 per image for all methods (d 100, e 1), 3,100 for 20 images x 3 methods"
    )
    line = cost.line(images=20, rows=50)
    assert "12 per label and method (c 10, a 1, f 1)" in line
    assert "7,750 for 50 labels of 20 images x 3 methods" in line


def test_a_run_of_these_costs_what_is_announced(trace):
    several = [asking("a", 3), asking("b", 2, of_image=True), reexplaining("c", "noise"), reexplaining("d", None)]
    three = three_methods()
    announced = Cost.of(three, several, trace).per_image
    batch = Batch(trace.images, tuple(map(str, range(len(trace)))), trace.targets)
    before = trace.passes.trunk_forward
    list(rows_of(replace(trace), batch, [with_scale(method) for method in three], several))
    assert (trace.passes.trunk_forward - before) / len(trace) == announced


def with_parts(trace: Trace, counts: list[int]) -> Trace:
    """Each image has one part, with so many versions of the image without it."""
    region = torch.ones(trace.images.shape[-2:], dtype=torch.bool)
    versions = [trace.images[row].expand(count, -1, -1, -1) for row, count in enumerate(counts)]
    parts = [(Part("ground", None, region, images),) for images in versions]
    return trace.cut_model.trace(trace.images, trace.targets, interventions=parts)


def reading_effects(kind: str, name: str) -> Plugin:
    def method(trace):
        _ = trace.part_effects
        return trace.gradients

    def metric(explanation):
        return torch.stack([effects.sum() for effects in explanation.trace.part_effects])

    return named(kind, name, method if kind == "method" else metric)


@pytest.mark.parametrize("reading", [0, 1, 2])
def test_effects_of_parts_cost_each_version_once_for_all(trace, reading):
    """With a different number of versions in each image: their mean is announced, for each trace that has them."""
    counts = [1, 5, 3]
    readers = [reading_effects("method", f"reading {number}") for number in range(reading)]
    chosen = [with_scale(method) for method in (*readers, running("one", 2))]
    several = [reading_effects("metric", "a"), reading_effects("metric", "b"), reexplaining("c", "noise"),
               reexplaining("d", None)]  # fmt: skip
    traced = with_parts(trace, counts)
    batch = Batch(trace.images, tuple("abc"), trace.targets)
    cost = Cost.of(chosen, several, traced, versions=sum(counts) / 3)
    before = traced.passes.trunk_forward
    list(rows_of(traced, batch, chosen, several))
    assert (traced.passes.trunk_forward - before) / 3 == cost.per_image
    assert dict(cost.of_image) == ({"c": 1} if reading else {"a": 3, "c": 1})


def test_metrics_of_interventions_cost_nothing_where_there_are_none(trace):
    """VOC's images, say: the first run of object_effects on them failed here."""
    several = [metrics.get(name) for name in ("object_effects", "object_deletion", "ground_reliance", "target_shift")]
    cost = Cost.of([running("one", 2), reading_effects("method", "reading")], several, trace)
    assert dict(cost.of_methods) == {"one": 2, "reading": 0}
    assert cost.per_image == 2
    some = replace(trace, interventions=((), *with_parts(trace, [1, 4, 3]).interventions[1:]))
    assert Cost.of([running("one", 2)], several, some, versions=3.5).per_image == 2 + 3.5 + (2 + 1)


def with_scale(method: Plugin) -> Plugin:
    return replace(method, spec=replace(method.spec, on_score_scale=True))


@pytest.mark.parametrize("name", methods.names())
def test_a_method_costs_on_the_stand_in_what_it_costs_on_a_network(name):
    """Of channels that all vary; what the stand-ins refuse is run on the network itself."""
    method = methods.get(name)
    for case in accepted_cases(method).values():
        trace = replace(case, size=(16, 24), layer="features.2").trace()
        before = trace.passes.trunk_forward
        try:
            method(trace[:])
        except BenchError:  # of this layer
            continue
        counted = (trace.passes.trunk_forward - before) / len(trace)
        assert passes_of_methods([method], trace) == ({name: counted}, counted)


@pytest.mark.parametrize("wrapper", ["refine_cam", "smoothed refine_cam"])
def test_traces_of_finer_layers_are_counted(wrapper):
    """Which layers a method explains beside the run's own only the network itself can tell."""
    torch.manual_seed(0)
    stages = [[nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)], [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]]
    features = nn.Sequential(*stages[0], *stages[1], nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.ReLU())
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    trace = cut(model, "0.7").trace(torch.rand(1, 3, 24, 16))
    refine = methods.get("refine_cam")
    smoothed = plugins.of("method", lambda trace: smoothing(trace, wrapped=refine, samples=2))
    method = replace({"refine_cam": refine, "smoothed refine_cam": smoothed}[wrapper], name=wrapper)
    cost = passes_of_methods([methods.get("score_cam"), method, methods.get("grad_cam")], trace)
    before = trace.passes.trunk_forward
    method(trace[:])
    counted = trace.passes.trunk_forward - before
    assert counted == {"refine_cam": 2, "smoothed refine_cam": 6}[wrapper]
    assert cost == ({"score_cam": 4, wrapper: counted, "grad_cam": 0}, 4 + counted)


def test_a_method_that_applies_nowhere_costs_nothing(trace):
    def refusing(trace):
        raise BenchError("not for this model")

    def relying(trace):
        trace.cut_model.model.get_submodule("features.2")  # which the stand-ins lack
        trace.forward(trace.images)
        return trace.gradients

    both = [plugins.of("method", refusing), plugins.of("method", relying)]
    assert passes_of_methods(both, trace) == ({"refusing": 0, "relying": 1}, 1)
    trace = replace(CASES["pooled"], channels=9).trace()
    assert passes_of_methods([methods.get("score_cam")], trace) == ({"score_cam": 9}, 9)  # of all channels


@pytest.mark.parametrize(
    ("changed", "others", "params"),
    [
        ("road_morf", ["road_combined"], {"fractions": [0.3, 0.6], "noise": 0.02}),
        ("road_lerf", ["road_combined"], {"fractions": [0.3, 0.6]}),
        ("deletion_auc", ["insertion_minus_deletion", "insertion_auc"], {"steps": 4, "fill": "mean"}),
        ("deletion_auc", ["insertion_minus_deletion", "insertion_auc"], {"steps": 4}),
        ("average_drop", ["increase_in_confidence", "average_gain"], {"fill": "mean"}),
        ("average_drop", ["increase_in_confidence", "average_gain"], {}),
    ],
)
def test_as_many_passes_are_run_as_are_announced_at_other_parameters(changed, others, params):
    """And no fewer: what is equal is shared, also by a metric of other parameter names."""
    same = {key: value for key, value in params.items() if key in ("fractions", "steps")}
    values = {changed: params, **dict.fromkeys(others, same)}
    chosen = [plugins.with_params("metric", name, changes) for name, changes in values.items()]
    trace = Case().trace()
    explanation = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)
    before = trace.passes.trunk_forward
    for entry in chosen:
        measure(entry, explanation, True)
    announced = Cost.of([methods.get("grad_cam")], chosen, replace(trace)).per_image
    assert (trace.passes.trunk_forward - before) / len(trace) == announced


def test_the_budget_names_what_costs_most_and_the_way_out(trace):
    several, two = [asking("cheap", 1), asking("dear", 50)], [running("one", 0), running("two", 0)]
    cost = Cost.of(two, several, trace)
    check(cost, several, None)
    check(cost, several, 102)
    with pytest.raises(BenchError, match=r"102 forward passes.*is 101: dear 100, cheap 2\..*~metric\.dear"):
        check(cost, several, 101)
    slow = [running("slow", 70)]
    with pytest.raises(BenchError, match=r"121 forward passes.*is 101: slow 70, dear 50, cheap 1\..*~method\.slow"):
        check(Cost.of(slow, several, trace), several, 101)


def test_all_metrics_together_cost_at_most_what_is_announced():
    """Of one method: every metric of conf/metric/ that applies, on one explanation, counted. On 96 pixels many of the
    224 steps of a curve change the same ones, and are classified once."""
    trace, measured = Case().trace(), []

    def of_method() -> Explanation:
        return Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)

    for entry in (metrics.get(name) for name in metrics.names()):
        explanation = of_method() if entry.spec.of == "method" else Explanation(trace=trace)
        if any(OK in statuses for _, statuses in measure(entry, explanation, True).values()):
            measured.append(entry)
    trace = Case().trace()  # nothing of it is computed
    before = trace.passes.trunk_forward
    measure_all([entry for entry in measured if entry.spec.of == "method"], [(of_method(), True)])
    counted = (trace.passes.trunk_forward - before) / len(trace)
    announced = Cost.of([methods.get("grad_cam")], measured, replace(trace)).per_image
    assert 0.8 * announced < counted < announced


def test_all_fast_costs_a_third_of_all_with_the_default_methods():
    """As docs/studies/budget.md says, of an image and class; a run of many images shares no more than that counts."""
    job = Job.of(sweeps.configuration(["model=scenes_vgg", "metric=all_fast"]))
    row = images.first_row(job)
    cost = Cost.of(job.methods, job.metrics, trace_of_batch(compute.cut_of(job.model, job.device), row))
    assert len(cost.of_methods) == 11
    assert cost.per_image == 2431


def test_a_run_over_its_budget_is_refused_before_anything_is_computed(run, results):
    failure = run("metrics.max_forwards_per_image=1")[0].failure
    assert failure.mendable
    assert "max_forwards_per_image is 1: confidence_drop 2." in failure.message
    assert not list(results.rglob("*.parquet"))
    assert run("metrics.max_forwards_per_image=1", "~metric.confidence_drop")[0].failure is None
    with pytest.raises(BenchError, match="a number of forward passes, 0 or more or null"):
        run("metrics.max_forwards_per_image=-1")


def test_the_cost_is_said_before_a_run_and_not_where_nothing_is_left_to_do(run, ran, capsys):
    ran()
    output = "at most: 1 per image and method (confidence_drop 1), 10 for 5 images x 2 methods"
    run("target=label")
    assert output in capsys.readouterr().out
    run("target=label")
    assert "forward passes" not in capsys.readouterr().out


def test_each_label_is_a_row_and_costs_its_own_passes(run, rows, capsys):
    outcomes = run("target=each_label")
    output = capsys.readouterr().out
    measured = rows(outcomes)
    explained = len(measured[measured["metric"] == "confidence_drop"])  # with both methods
    assert explained > 10
    total = f"{explained} for {explained // 2} labels of 5 images x 2 methods"
    assert f"at most: 1 per label and method (confidence_drop 1), {total}" in output


def test_a_method_that_fails_on_the_real_model_is_not_counted_as_free():
    """Its error says what is wrong, before anything is announced."""

    def broken(trace):
        raise ZeroDivisionError("no such method")

    with pytest.raises(ZeroDivisionError, match="no such method"):
        passes_of_methods([plugins.of("method", broken)], CASES["dense"].trace())


def other_image(trace):
    """The map of another image."""
    return ab.methods.get("grad_cam")(trace.again(images=trace.other_images))


def reading(explanation):
    return torch.stack([effects.sum() for effects in explanation.trace.part_effects])


def method(requires=(), name="other"):
    return plugins.from_config(
        "method", name, {"_target_": f"{__name__}.other_image", "requires": list(requires), "on_score_scale": False}
    )


def metric(needs=("interventions",)):
    return plugins.from_config("metric", "reading", {"_target_": f"{__name__}.reading", "needs": list(needs)})


@pytest.fixture
def job():
    with composed(["experiment=quick", "data.size=3", "method=[grad_cam]", "metric=[zeta]"]) as composition:
        return Job.of(composition.plain_job())


def test_what_is_required():
    assert required([ab.methods.get("grad_cam"), ab.metrics.get("zeta")]) == set()
    assert required([method(["other_images"]), metric()]) == {"other_images", "interventions"}
    wrapper = replace(ab.methods.get("smoothed_xgrad_cam"), inner=method(["other_images"]))
    assert required([wrapper]) == {"other_images"}
    with pytest.raises(BenchError, match="did you mean 'other_images'"):
        method(["other_image"])


def test_a_run_that_does_not_ask_draws_nothing_more(job, monkeypatch):
    def refuse(*_):
        raise AssertionError("drawn")

    monkeypatch.setattr(Scenes, "interventions", refuse)
    assert all(batch.interventions is None for batch in images.rows(job, job.indices, required(job.methods)))
    assert spread_rows(job, 2).interventions is None


def test_the_key_of_a_method_covers_the_other_images(job):
    def keys(job, requires):
        values = Facts(replace(job, methods=(method(requires),), metrics=(ab.metrics.get("box_iou"),))).values
        return values["other"]["box_iou"]

    more = replace(job, data=Scenes(9))
    assert keys(job, ()) == keys(more, ())
    assert keys(job, ["other_images"]) == keys(job, ["other_images"])
    assert len({keys(job, ()), keys(job, ["other_images"]), keys(more, ["other_images"])}) == 3


def test_a_run_of_scenes_costs_what_is_announced():
    """Scenes have different numbers of objects, and a row for each."""
    names = ["object_effects", "object_deletion", "ground_reliance", "target_shift"]
    chosen = ["method=[grad_cam]", f"metric=[{','.join(names)}]"]
    with composed(["data=scenes_many", "data.size=3", *chosen]) as composition:
        job = Job.of(composition.plain_job())
    cut_model = compute.cut_of(job.model, job.device)
    versions = compute.versions_per_row(job, job.shards)
    cost = Cost.of(job.methods, job.metrics, trace_of_batch(cut_model, images.first_row(job)), versions)
    (batch,) = images.rows(job, job.indices, required(job.metrics))
    assert len({len(parts) for parts in batch.interventions}) > 1
    trace = trace_of_batch(cut_model, batch)
    before = trace.passes.trunk_forward
    values = [part for part in rows_of(trace, batch, job.methods, job.metrics) if len(part["value"])]
    assert trace.passes.trunk_forward - before == pytest.approx(cost.per_image * len(batch), abs=1e-9)
    assert {name for part in values for name in part["metric"]} >= set(names)


def test_own_batches_may_have_them():
    case = Case()
    model, images, targets = case.model(), case.images(), torch.arange(3)
    region = torch.ones(case.size, dtype=torch.bool)
    parts = (ab.Part("ground", None, region, torch.zeros(1, 3, *case.size, dtype=torch.float64)),)
    batch = ab.Batch(images, ("a", "b", "c"), targets, interventions=(parts, (), parts), other_images=images.flip(0))
    frame = ab.evaluate(model, case.layer, [batch], [method(["other_images"])], [metric()])
    assert list(frame["status"]) == ["ok", "no_interventions", "ok"]
    drops = model(images)[targets, targets] - model(torch.zeros_like(images))[targets, targets]
    assert frame["value"].tolist()[::2] == pytest.approx(drops[::2].tolist(), rel=1e-12)
    bare = ab.evaluate(model, case.layer, [(images, targets)], ["grad_cam"], [metric()])
    assert set(bare["status"]) == {"no_interventions"}
