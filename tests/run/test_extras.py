"""What runs load beside the images: nothing unless asked for; keys that cover it; data sets without it."""

from dataclasses import replace

import pytest
import torch

import axiom_bench as ab
from axiom_bench.data.embedded import Scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import rows_of, trace_of_batch
from axiom_bench.evaluation.plugins import required
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.computing import compute, stored
from axiom_bench.run.computing.costs import Cost
from axiom_bench.run.computing.pictures import spread_rows
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job
from axiom_bench.testing import Case


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
    assert all(batch.interventions is None for batch in compute.rows(job, job.indices, required(job.methods)))
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
    cut_model = compute.cut_of(job)
    versions = stored.versions_per_row(job, job.shards)
    cost = Cost.of(job.methods, job.metrics, trace_of_batch(cut_model, compute.first_row(job)), versions)
    (batch,) = compute.rows(job, job.indices, required(job.metrics))
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
