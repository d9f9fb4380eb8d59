"""What methods and metrics cost: counted beforehand, announced, and held to a budget that refuses a run."""

import re
from collections.abc import Callable
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
from axiom_bench.run import images, shards, spine
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.samples import spread_rows
from axiom_bench.run.shards import Cost, check_budget
from axiom_bench.testing import CASES, Case, accepted_cases


@pytest.fixture
def trace() -> Trace:
    return Case().trace()


def forwards(trace: Trace, work: Callable[[], object]) -> float:
    """The forward passes that this takes, per image."""
    before = trace.passes.trunk_forward
    work()
    return (trace.passes.trunk_forward - before) / len(trace)


def measured(trace: Trace, chosen: list[Plugin], several: list[Plugin]) -> float:
    """The forward passes of a run of these, per image."""
    batch = Batch(trace.images, tuple(map(str, range(len(trace)))), trace.targets)
    return forwards(trace, lambda: list(rows_of(replace(trace), batch, chosen, several)))


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
    assert (sum(cost.of_method.values()), sum(cost.of_image.values())) == (12, 101)
    assert cost.explaining == 5 * 2 + 8
    assert cost.per_image == 18 + 3 * 12 + 101
    assert cost.line(images=20, rows=20) == (
        "at most 3,100 forward passes beside those of the traces "
        "(155 for each image: d 100, c 30, three 9, two 9, one 6, and 3 more)"
    )
    assert "at most 7,750 forward passes" in cost.line(images=20, rows=50)
    assert "(155 for each label: " in cost.line(images=20, rows=50)


def test_a_run_of_these_costs_what_is_announced(trace):
    several = [asking("a", 3), asking("b", 2, of_image=True), reexplaining("c", "noise"), reexplaining("d", None)]
    announced = Cost.of(three_methods(), several, trace).per_image
    assert measured(trace, [with_scale(method) for method in three_methods()], several) == announced


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


@pytest.mark.parametrize("count", [0, 1, 2])
def test_effects_of_parts_cost_each_version_once_for_all(trace, count):
    """With a different number of versions in each image: their mean is announced, for each trace that has them."""
    readers = [reading_effects("method", f"reading {number}") for number in range(count)]
    chosen = [with_scale(method) for method in (*readers, running("one", 2))]
    several = [*(reading_effects("metric", name) for name in "ab"), reexplaining("c", "noise"), reexplaining("d", None)]
    traced = with_parts(trace, [1, 5, 3])
    cost = Cost.of(chosen, several, traced, versions=3)
    assert measured(traced, chosen, several) == cost.per_image
    assert dict(cost.of_image) == ({"c": 1} if count else {"a": 3, "c": 1})


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
        try:
            counted = forwards(trace, lambda trace=trace: method(trace[:]))
        except BenchError:  # of this layer
            continue
        assert passes_of_methods([method], trace) == ({name: counted}, counted)


@pytest.mark.parametrize(("wrapper", "expected"), [("refine_cam", 2), ("smoothed refine_cam", 6)])
def test_traces_of_finer_layers_are_counted(wrapper, expected):
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
    assert cost == ({"score_cam": 4, wrapper: expected, "grad_cam": 0}, 4 + expected)
    assert forwards(trace, lambda: method(trace[:])) == expected


def test_a_method_that_applies_nowhere_costs_nothing_and_one_that_fails_is_an_error(trace):
    def refusing(trace):
        raise BenchError("not for this model")

    def relying(trace):
        trace.cut_model.model.get_submodule("features.2")  # which the stand-ins lack
        trace.forward(trace.images)
        return trace.gradients

    def broken(trace):
        raise ZeroDivisionError("no such method")

    both = [plugins.of("method", refusing), plugins.of("method", relying)]
    assert passes_of_methods(both, trace) == ({"refusing": 0, "relying": 1}, 1)
    trace = replace(CASES["pooled"], channels=9).trace()
    assert passes_of_methods([methods.get("score_cam")], trace) == ({"score_cam": 9}, 9)  # of all channels
    with pytest.raises(ZeroDivisionError, match="no such method"):  # before anything is announced
        passes_of_methods([plugins.of("method", broken)], CASES["dense"].trace())


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
def test_as_many_passes_are_run_as_are_announced_at_other_parameters(trace, changed, others, params):
    """And no fewer: what is equal is shared, also by a metric of other parameter names."""
    same = {key: value for key, value in params.items() if key in ("fractions", "steps")}
    values = {changed: params, **dict.fromkeys(others, same)}
    chosen = [plugins.with_params("metric", name, changes) for name, changes in values.items()]
    explanation = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)
    counted = forwards(trace, lambda: [measure(entry, explanation, True) for entry in chosen])
    assert counted == Cost.of([methods.get("grad_cam")], chosen, replace(trace)).per_image


def test_the_budget_names_what_costs_most_and_the_way_out(trace):
    several, two = [asking("cheap", 1), asking("dear", 50)], [running("one", 0), running("two", 0)]
    for budget in (None, 102):
        check_budget(Cost.of(two, several, trace), several, budget)
    for chosen, sentence in (
        (two, r"102 forward passes.*is 101: dear 100, cheap 2\..*~metric\.dear"),
        ([running("slow", 70)], r"121 forward passes.*is 101: slow 70, dear 50, cheap 1\..*~method\.slow"),
    ):
        with pytest.raises(BenchError, match=sentence):
            check_budget(Cost.of(chosen, several, trace), several, 101)


@pytest.mark.slow
def test_all_metrics_together_cost_at_most_what_is_announced(trace):
    """Of one method: every metric of conf/metric/ that applies, on one explanation, counted. On 96 pixels many of the
    224 steps of a curve change the same ones, and are classified once."""

    def of_method() -> Explanation:
        return Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)

    applying = []
    for entry in (metrics.get(name) for name in metrics.names()):
        explanation = of_method() if entry.spec.of == "method" else Explanation(trace=trace)
        if any(OK in statuses for _, statuses in measure(entry, explanation, True).values()):
            applying.append(entry)
    trace = Case().trace()  # nothing of it is computed
    of_maps = [entry for entry in applying if entry.spec.of == "method"]
    counted = forwards(trace, lambda: measure_all(of_maps, [(of_method(), True)]))
    announced = Cost.of([methods.get("grad_cam")], applying, replace(trace)).per_image
    assert 0.8 * announced < counted < announced


@pytest.mark.slow
def test_what_all_fast_costs_with_the_default_methods():
    """2,535 as in docs/studies/budget.md, and what metrics cost that came later, of an image and class. A run of many
    images shares no more than that counts."""
    job = Job.of(spine.configuration(["model=scenes_vgg", "metric=all_fast"]))
    row = images.first_row(job)
    cost = Cost.of(job.methods, job.metrics, trace_of_batch(job.cut_model, row))
    assert len(cost.of_methods) == 12
    assert cost.per_image == 5103


@pytest.mark.slow
def test_a_run_over_its_budget_is_refused_before_anything_is_computed(run, results):
    failure = run("metrics.max_forwards_per_image=1")[0].failure
    assert failure.mendable
    assert "max_forwards_per_image is 1: confidence_drop 2." in failure.message
    assert not list(results.rglob("*.parquet"))
    assert run("metrics.max_forwards_per_image=1", "~metric.confidence_drop")[0].failure is None


@pytest.mark.slow
def test_the_cost_is_said_before_a_run_and_not_where_nothing_is_left_to_do(run, rows, capsys):
    outcomes = run("target=each_label")
    output = capsys.readouterr().out
    measured = rows(outcomes)
    explained = len(measured[measured["metric"] == "confidence_drop"])  # with both methods
    assert explained > 10
    said = "at most {} forward passes beside those of the traces (2 for each {}: confidence_drop 2)"
    assert said.format(explained, "label") in output
    run("target=label")
    assert said.format(10, "image") in capsys.readouterr().out
    run("target=label")
    assert "forward passes" not in capsys.readouterr().out
    run("target=label", "metric=[average_drop,confidence_drop]")
    assert said.format(10, "image").replace("confidence", "average") in capsys.readouterr().out


def other_image(trace):
    """The map of another image."""
    return methods.get("grad_cam")(trace.again(images=trace.other_images))


def reading(explanation):
    return torch.stack([effects.sum() for effects in explanation.trace.part_effects])


def method(requires=()):
    about = {"_target_": f"{__name__}.other_image", "requires": list(requires), "on_score_scale": False}
    return plugins.from_config("method", "other", about)


def metric():
    return plugins.from_config("metric", "reading", {"_target_": f"{__name__}.reading", "needs": ["interventions"]})


QUICK = ("experiment=quick", "model=scenes_vgg", "data.size=3")


@pytest.fixture(scope="module")
def job() -> Job:
    return Job.of(spine.configuration([*QUICK, "method=[grad_cam]", "metric=[zeta]"]))


def test_what_is_required():
    assert required([ab.methods.get("grad_cam"), ab.metrics.get("zeta")]) == set()
    assert required([method(["other_images"]), metric()]) == {"other_images", "interventions"}
    wrapper = replace(ab.methods.get("smoothed_xgrad_cam"), inner=method(["other_images"]))
    assert required([wrapper]) == {"other_images"}
    with pytest.raises(BenchError, match="must be 'interventions' or 'other_images'"):
        method(["other_image"])


def test_a_run_that_does_not_ask_draws_nothing_more(job, monkeypatch):
    def refuse(*_):
        raise AssertionError("drawn")

    monkeypatch.setattr(Scenes, "interventions", refuse)
    assert all(batch.interventions is None for batch in images.rows(job, job.indices, required(job.methods)))
    assert spread_rows(job, 2).interventions is None


def test_the_key_of_a_method_covers_the_other_images(job):
    def key(job, *requires):
        facts = Keys(replace(job, methods=(method(requires),), metrics=(ab.metrics.get("box_iou"),)))
        return facts.values["other"]["box_iou"]

    more = replace(job, data=Scenes(9))
    assert key(job) == key(more)
    assert key(job, "other_images") == key(job, "other_images")
    assert len({key(job), key(job, "other_images"), key(more, "other_images")}) == 3


@pytest.mark.slow
def test_a_run_of_scenes_costs_what_is_announced():
    """Scenes have different numbers of objects, and a row for each."""
    names = ["object_effects", "object_deletion", "ground_reliance", "target_shift"]
    chosen = ("data=scenes_many", "method=[grad_cam]", f"metric=[{','.join(names)}]")
    job = Job.of(spine.configuration([*QUICK, *chosen]))
    cut_model = job.cut_model
    versions = shards.versions_per_row(job, job.shards)
    cost = Cost.of(job.methods, job.metrics, trace_of_batch(cut_model, images.first_row(job)), versions)
    (batch,) = images.rows(job, job.indices, required(job.metrics))
    assert len({len(parts) for parts in batch.interventions}) > 1
    trace, values = trace_of_batch(cut_model, batch), []
    counted = forwards(trace, lambda: values.extend(rows_of(trace, batch, job.methods, job.metrics)))
    assert counted == pytest.approx(cost.per_image, abs=1e-9)
    assert {name for part in values if len(part["value"]) for name in part["metric"]} >= set(names)


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


class Deciding(nn.Module):
    """Decides by its image before the layer, so that each of 24 drops is a whole pass."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 24, 3)
        self.fc = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x / 2 if x.mean() > 9 else x
        return self.fc(self.maps(x).relu().mean((2, 3)))


def test_costly_drops_are_announced_with_what_needs_them() -> None:
    trace = cut(Deciding(), "maps").trace(torch.rand(1, 3, 8, 8))
    sentence = shards.costly_drops(trace, ["~method.ablation_cam", "~metric.sensitivity_error"])
    assert sentence is not None
    start = (
        r"ablation drops cost about 2[5-9] forward passes for each image \(torch.fx can't follow the model, and each "
    )
    assert re.match(start, sentence)
    assert "~method.ablation_cam" in sentence
    assert "~metric.sensitivity_error" in sentence
    assert shards.costly_drops(trace, []) is None
    assert "drops" not in vars(trace)


def test_counting_computes_no_drop() -> None:
    """The drops of one row may take minutes, and no count depends on them."""
    trace = cut(Deciding(), "maps").trace(torch.rand(1, 3, 8, 8))
    before = trace.passes.head_forward
    Cost.of([plugins.of("method", "grad_cam")], [plugins.of("metric", "sensitivity_error")], trace)
    assert trace.passes.head_forward == before
