"""Tests of the costs of methods and metrics.

Forward passes are shared, and images are loaded or warnings printed only if something needs them.
"""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.embedded import Scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.run import images, shards, spine
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.explaining import explained_trace
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import progress, silent
from axiom_bench.run.samples import spread_rows
from axiom_bench.run.shards import show_method
from axiom_bench.testing import CASES, Case


@pytest.fixture
def trace() -> Trace:
    return Case().trace()


def forwards(trace: Trace, work: Callable[[], object]) -> float:
    """Return the number of forward passes per image during `work`."""
    before = trace.passes.trunk_forward
    work()
    return (trace.passes.trunk_forward - before) / len(trace)


def num_passes(trace: Trace, methods: list[Plugin], metrics: list[Plugin]) -> float:
    """Return the number of forward passes per image that these methods and metrics need."""
    batch = Batch(trace.images, tuple(map(str, range(len(trace)))), trace.targets)
    return forwards(trace, lambda: list(columns_by_method(replace(trace), batch, methods, metrics)))


def named_plugin(kind: str, name: str, function) -> Plugin:
    return replace(plugins.plugin_for(kind, function), name=name)


def asking_metric(name: str, count: int, of_image: bool = False) -> Plugin:
    """Return a metric that asks for the scores of `count` copies of each image."""

    def metric(explanation):
        images = explanation.images

        def copies_of(rows, copies):
            return images[rows, None].expand(-1, count, -1, -1, -1)[:, copies]

        scores = yield PerturbedImages(name, count, copies_of, depends_on_image_only=of_image)
        return scores.sum((1, 2))

    return named_plugin("metric", name, metric)


def reexplaining_metric(name: str, key: str | None) -> Plugin:
    """Return a metric that explains each image once more.

    Methods share the second trace if the metric has a key for it.
    """

    def map_sums(other):
        return other.raw_map.sum((1, 2))

    def metric(explanation):
        return (yield Reexplanation(explanation.trace.again, map_sums, key=key))

    return named_plugin("metric", name, metric)


def running_method(name: str, passes: int, shared: str = "") -> Plugin:
    """Return a method that runs the whole model `passes` times on each image.

    If `shared` is a name, the method keeps the result in the trace under that name for others.
    """

    def run(trace):
        return sum(trace.forward(trace.images).sum(1) for _ in range(passes))

    def method(trace):
        _ = trace.once(shared, lambda: run(trace)) if shared else run(trace)
        return trace.gradients

    # Without a score scale, a metric would need further passes to find it.
    return with_score_scale(named_plugin("method", name, method))


def with_score_scale(method: Plugin) -> Plugin:
    return replace(method, spec=replace(method.spec, on_score_scale=True))


def test_what_is_shared_is_computed_once(trace):
    """Check methods that share masks, and metrics that share an image's copies and second trace.

    The metric `d` has a second trace for each method.
    """
    chosen_methods = [
        running_method("one", 2),
        running_method("two", 3, "masks"),
        running_method("three", 3, "masks"),
    ]
    chosen_metrics = [
        asking_metric("a", 3),
        asking_metric("b", 2, of_image=True),
        reexplaining_metric("c", "noise"),
        reexplaining_metric("d", None),
    ]
    # on the first trace, on the trace of c, and on the three traces of d
    method_passes = (2 + 3) + (2 + 3) + (2 + 3 + 3)
    # a per method, b once, c's trace, and d's trace per method
    metric_passes = 3 * 3 + 2 + 1 + 3
    assert num_passes(trace, chosen_methods, chosen_metrics) == method_passes + metric_passes


def with_parts(trace: Trace, counts: list[int]) -> Trace:
    """Return a trace whose images have one part each, with `counts` versions without the part."""
    region = torch.ones(trace.images.shape[-2:], dtype=torch.bool)
    parts = []
    for image, count in zip(trace.images, counts, strict=True):
        versions = image.expand(count, -1, -1, -1)
        parts.append((Part("ground", None, region, versions),))
    return trace.cut_model.trace(trace.images, trace.targets, interventions=parts)


def effects_method(name: str) -> Plugin:
    """Return a method that reads the effects of parts."""

    def method(trace):
        _ = trace.part_effects
        return trace.gradients

    return with_score_scale(named_plugin("method", name, method))


def effects_metric(name: str) -> Plugin:
    return named_plugin("metric", name, sum_of_effects)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_effects_of_parts_cost_each_version_once_for_all(trace, count):
    """Check images with different numbers of versions, three on average.

    Each trace with these versions costs them once.
    """
    chosen_methods = [effects_method(f"reading {number}") for number in range(count)]
    chosen_methods.append(running_method("one", 2))
    chosen_metrics = [
        effects_metric("a"),
        effects_metric("b"),
        reexplaining_metric("c", "noise"),
        reexplaining_metric("d", None),
    ]
    first_trace = 3 + 2
    trace_of_c = 1 + (3 if count else 0) + 2
    traces_of_d = (1 + 3) * count + (1 + 2)
    expected = first_trace + trace_of_c + traces_of_d
    assert num_passes(with_parts(trace, [1, 5, 3]), chosen_methods, chosen_metrics) == expected


@pytest.mark.parametrize(("wrapper", "expected"), [("refine_cam", 2), ("smoothed refine_cam", 6)])
def test_traces_of_finer_layers_are_counted(wrapper, expected):
    """Check a method that explains other layers in addition to the run's own.

    Only the network tells which layers those are.
    """
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 1),
        nn.ReLU(),
    )
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    trace = cut(model, "0.7").trace(torch.rand(1, 3, 24, 16))
    method = methods.get("refine_cam")
    if wrapper == "smoothed refine_cam":
        refine_cam = method
        method = plugins.plugin_for(
            "method", lambda trace: smoothed(trace, wrapped=refine_cam, samples=2)
        )
    method = replace(method, name=wrapper)
    assert forwards(trace, lambda: method(trace[:])) == expected


@pytest.mark.parametrize(
    ("changed", "others", "params", "passes"),
    [
        ("road_morf", ["road_combined"], {"fractions": [0.3, 0.6], "noise": 0.02}, 2 + 4),
        ("road_lerf", ["road_combined"], {"fractions": [0.3, 0.6]}, 2 + 4),
        (
            "deletion_auc",
            ["insertion_minus_deletion", "insertion_auc"],
            {"steps": 4, "fill": "mean"},
            4 + 4 + 4,
        ),
        ("deletion_auc", ["insertion_minus_deletion", "insertion_auc"], {"steps": 4}, 4 + 4),
        ("average_drop", ["increase_in_confidence", "average_gain"], {"fill": "mean"}, 1 + 1),
        ("average_drop", ["increase_in_confidence", "average_gain"], {}, 1),
    ],
)
def test_equal_copies_of_several_metrics_are_classified_once(
    trace, changed, others, params, passes
):
    """Check also metrics whose parameters have other names; different copies are not shared."""
    common = {key: value for key, value in params.items() if key in ("fractions", "steps")}
    metrics = [plugins.with_params("metric", changed, params)]
    metrics += [plugins.with_params("metric", name, common) for name in others]
    explanation = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)

    def measure_all():
        for metric in metrics:
            measure(metric, explanation, True)

    assert forwards(trace, measure_all) == passes


def map_of_other_image(trace):
    """Return the map of another image."""
    return methods.get("grad_cam")(trace.again(images=trace.other_images))


def sum_of_effects(explanation):
    return torch.stack([effects.sum() for effects in explanation.trace.part_effects])


def method(requires=()):
    settings = {
        "_target_": f"{__name__}.map_of_other_image",
        "requires": list(requires),
        "on_score_scale": False,
    }
    return plugins.from_config("method", "other", settings)


def metric():
    settings = {"_target_": f"{__name__}.sum_of_effects", "needs": ["interventions"]}
    return plugins.from_config("metric", "reading", settings)


QUICK = ("experiment=quick", "model=scenes_vgg", "data.size=3")


@pytest.fixture(scope="module")
def job() -> Job:
    return Job.of(Settings.of(spine.configuration([*QUICK, "method=[grad_cam]", "metric=[zeta]"])))


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
    for batch in images.rows(job, job.indices, required(job.methods)):
        assert batch.interventions is None
    assert spread_rows(job, 2).interventions is None


def test_the_key_of_a_method_covers_the_other_images(job):
    def key(job, *requires):
        metrics = (ab.metrics.get("box_iou"),)
        changed_job = replace(job, methods=(method(requires),), metrics=metrics)
        return Keys(changed_job).values["other"]["box_iou"]

    job_of_nine = replace(job, data=Scenes(9))
    assert key(job) == key(job_of_nine)
    assert key(job, "other_images") == key(job, "other_images")
    keys = {key(job), key(job, "other_images"), key(job_of_nine, "other_images")}
    assert len(keys) == 3


def test_own_batches_may_have_them():
    case = Case()
    model = case.model()
    images = case.images()
    targets = torch.arange(3)
    region = torch.ones(case.size, dtype=torch.bool)
    parts = (ab.Part("ground", None, region, torch.zeros(1, 3, *case.size, dtype=torch.float64)),)
    batch = ab.Batch(
        images,
        ("a", "b", "c"),
        targets,
        interventions=(parts, (), parts),
        other_images=images.flip(0),
    )

    values = ab.evaluate(model, case.layer, [batch], [method(["other_images"])], [metric()])
    assert list(values["status"]) == ["ok", "no_interventions", "ok"]
    drops = model(images)[targets, targets] - model(torch.zeros_like(images))[targets, targets]
    assert values["value"].tolist()[::2] == pytest.approx(drops[::2].tolist(), rel=1e-12)

    values = ab.evaluate(model, case.layer, [(images, targets)], ["grad_cam"], [metric()])
    assert set(values["status"]) == {"no_interventions"}


class Deciding(nn.Module):
    """A network with a condition on its image before the layer.

    torch.fx can't trace it, so each of its 24 ablation drops costs a whole forward pass.
    """

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
    beginning = (
        r"ablation drops cost about 2[5-9] forward passes for each image \(torch.fx can't follow "
        "the model, and each "
    )
    assert re.match(beginning, sentence)
    assert "~method.ablation_cam" in sentence
    assert "~metric.sensitivity_error" in sentence
    assert shards.costly_drops(trace, []) is None
    assert "drops" not in vars(trace)


def test_methods_of_many_passes_are_announced() -> None:
    trace = CASES["dense"].trace()[:1]
    sentence = shards.costly_method(methods.get("rise"), trace, images=16)
    assert sentence is not None
    assert sentence.startswith("RISE takes 4,000 passes for each image, 64,000 for 16; ")
    assert "(~method.rise)" in sentence
    assert "set method.rise.params.masks=1000, " in sentence
    assert "shard_size=1" in sentence
    for name in ("score_cam", "opti_cam", "occlusion"):
        assert shards.costly_method(methods.get(name), trace, images=16) is None


def passes_shown(run: Callable[[Callable], None]) -> list[str]:
    """Return the passes that a progress shows while a method of 40 passes runs."""
    texts = []

    def watched(trace: ab.Trace) -> ab.Map:
        answer = ab.Map(trace.images[:, 0])
        for _ in range(40):
            trace.forward(trace.images[:1])
            texts.append(display.step.counts())
        return answer

    with silent(), progress("Computing maps", 1) as display:
        run(watched)
        assert display.step is None
    return texts


def costly(call: Callable) -> Plugin:
    """Return a method of 40 passes that calls a function."""
    slow = methods.get("rise")
    return replace(slow, call=call, spec=replace(slow.spec, title="Slow", passes=40))


def test_a_method_s_passes_are_shown_while_it_explains_the_first_image() -> None:
    trace = CASES["dense"].trace()[:1]
    texts = passes_shown(lambda watched: explained_trace(trace, [costly(watched)]))
    assert texts[0].startswith("1 of 40 passes, about ")
    assert texts[-1] == "40 of 40 passes, about 0 s left"


def test_a_method_s_passes_are_shown_in_the_first_batch_of_a_run() -> None:
    case = CASES["dense"]
    batch = ab.Batch(case.images()[:1], ("a",), torch.tensor([0]))

    def run(watched: Callable) -> None:
        requests = [MethodsByMetrics((costly(watched),), (metrics.get("box_iou"),))]
        cut_model = cut(case.model(), case.layer)
        list(shard_rows(cut_model, [batch], requests, batch_rows=1, show_method=show_method))

    texts = passes_shown(run)
    assert texts[0].startswith("1 of 40 passes, about ")
    assert texts[-1] == "40 of 40 passes, about 0 s left"
