"""What methods and metrics cost: passes that are shared, and what is loaded or said only where
something needs it.
"""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace, cut
from axiom_bench.data.batch import Batch
from axiom_bench.data.embedded import Scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.loop import rows_of
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.smoothed import smoothed as smoothing
from axiom_bench.run import images, shards, spine
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.samples import spread_rows
from axiom_bench.testing import Case


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
    """A method that runs the whole model on each image; `shared`: what it keeps in the trace for
    others.
    """

    def run(trace):
        return sum(trace.forward(trace.images).sum(1) for _ in range(passes))

    def method(trace):
        _ = trace.once(shared, lambda: run(trace)) if shared else run(trace)
        return trace.gradients

    return named("method", name, method)


def three_methods() -> list[Plugin]:
    return [running("one", 2), running("two", 3, "masks"), running("three", 3, "masks")]


def test_what_is_shared_is_computed_once(trace):
    """Methods share masks, and metrics an image's copies and its other trace; `d` has a trace for
    each method.
    """
    several = [
        asking("a", 3),
        asking("b", 2, of_image=True),
        reexplaining("c", "noise"),
        reexplaining("d", None),
    ]
    explaining = (2 + 3) + (2 + 3) + (2 + 3 + 3)  # on the trace, on that of c, and on those of d
    asked = 3 * 3 + 2 + 1 + 3
    assert (
        measured(trace, [with_scale(method) for method in three_methods()], several)
        == explaining + asked
    )


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
    """Images have different numbers of versions, three on average: once for each trace that has
    them.
    """
    readers = [reading_effects("method", f"reading {number}") for number in range(count)]
    chosen = [with_scale(method) for method in (*readers, running("one", 2))]
    several = [
        *(reading_effects("metric", name) for name in "ab"),
        reexplaining("c", "noise"),
        reexplaining("d", None),
    ]
    traced = with_parts(trace, [1, 5, 3])
    of_trace = 3 + 2
    of_c = 1 + (3 if count else 0) + 2
    of_d = (1 + 3) * count + (1 + 2)
    assert measured(traced, chosen, several) == of_trace + of_c + of_d


def with_scale(method: Plugin) -> Plugin:
    return replace(method, spec=replace(method.spec, on_score_scale=True))


@pytest.mark.parametrize(("wrapper", "expected"), [("refine_cam", 2), ("smoothed refine_cam", 6)])
def test_traces_of_finer_layers_are_counted(wrapper, expected):
    """Which layers a method explains beside the run's own only the network itself can tell."""
    torch.manual_seed(0)
    stages = [
        [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()],
    ]
    features = nn.Sequential(*stages[0], *stages[1], nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.ReLU())
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    trace = cut(model, "0.7").trace(torch.rand(1, 3, 24, 16))
    refine = methods.get("refine_cam")
    smoothed = plugins.of("method", lambda trace: smoothing(trace, wrapped=refine, samples=2))
    method = replace({"refine_cam": refine, "smoothed refine_cam": smoothed}[wrapper], name=wrapper)
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
    """Also by a metric of other parameter names; what differs is not shared."""
    same = {key: value for key, value in params.items() if key in ("fractions", "steps")}
    values = {changed: params, **dict.fromkeys(others, same)}
    chosen = [plugins.with_params("metric", name, changes) for name, changes in values.items()]
    explanation = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)
    counted = forwards(trace, lambda: [measure(entry, explanation, True) for entry in chosen])
    assert counted == passes


def other_image(trace):
    """The map of another image."""
    return methods.get("grad_cam")(trace.again(images=trace.other_images))


def reading(explanation):
    return torch.stack([effects.sum() for effects in explanation.trace.part_effects])


def method(requires=()):
    about = {
        "_target_": f"{__name__}.other_image",
        "requires": list(requires),
        "on_score_scale": False,
    }
    return plugins.from_config("method", "other", about)


def metric():
    return plugins.from_config(
        "metric", "reading", {"_target_": f"{__name__}.reading", "needs": ["interventions"]}
    )


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
    assert all(
        batch.interventions is None
        for batch in images.rows(job, job.indices, required(job.methods))
    )
    assert spread_rows(job, 2).interventions is None


def test_the_key_of_a_method_covers_the_other_images(job):
    def key(job, *requires):
        facts = Keys(
            replace(job, methods=(method(requires),), metrics=(ab.metrics.get("box_iou"),))
        )
        return facts.values["other"]["box_iou"]

    more = replace(job, data=Scenes(9))
    assert key(job) == key(more)
    assert key(job, "other_images") == key(job, "other_images")
    assert len({key(job), key(job, "other_images"), key(more, "other_images")}) == 3


def test_own_batches_may_have_them():
    case = Case()
    model, images, targets = case.model(), case.images(), torch.arange(3)
    region = torch.ones(case.size, dtype=torch.bool)
    parts = (ab.Part("ground", None, region, torch.zeros(1, 3, *case.size, dtype=torch.float64)),)
    batch = ab.Batch(
        images,
        ("a", "b", "c"),
        targets,
        interventions=(parts, (), parts),
        other_images=images.flip(0),
    )
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
        r"ablation drops cost about 2[5-9] forward passes for each image \(torch.fx can't follow "
        "the model, and each "
    )
    assert re.match(start, sentence)
    assert "~method.ablation_cam" in sentence
    assert "~metric.sensitivity_error" in sentence
    assert shards.costly_drops(trace, []) is None
    assert "drops" not in vars(trace)
