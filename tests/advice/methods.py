"""Advice for methods and metrics, and for a user's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.evaluation.cam_function import as_cam_function
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.methods.fused import fused
from axiom_bench.methods.score_cam import score_cam
from axiom_bench.methods.shared.wrapping import run_wrapped
from axiom_bench.methods.transformer_attribution import transformer_attribution
from axiom_bench.metrics.max_box_acc import max_box_acc
from tests.advice.nets import Queries, Small
from tests.advice.user import SHORT, User, advice_in, follows

OWN = """
import torch

from axiom_bench.evaluation.queries import PerturbedImages


def cam(trace, power=1):
    return trace.gradients.mean((2, 3)) ** power


def needs(trace, power):
    return cam(trace, power)


def in_place(trace):
    trace.activations.mul_(2)
    return trace.gradients.mean((2, 3))


def with_clone(trace):
    trace.activations.clone().mul_(2)
    return trace.gradients.mean((2, 3))


def two(explanation):
    mean = explanation.heatmap.mean((1, 2))
    return {"two": mean, "half": mean / 2}


def asks(explanation):
    images = explanation.trace.images
    logits = yield PerturbedImages("zero", 1, lambda rows, copies: images[rows, None] * 0)
    return logits.mean((1, 2))
"""


def run(user: User, *settings: str) -> tuple[str, ...]:
    user.write("own.py", OWN)
    return ("run=first", "model=scenes_vgg", "data.size=2", *SHORT, *settings)


@follows("The {kind} {name} has no _target_; set")
def method_without_a_function(user: User) -> None:
    message = user.refusal(run(user, "+method.mine.title=Mine"))
    setting = advice_in(message, r"set (\S+)\.\s")
    user.types(
        run(user, "+method.mine.title=Mine", "+" + setting.replace("module.function", "own.cam"))
    )


@follows("The {kind} {name} is {}; set {kind}.{name}._target_")
def method_that_is_a_text(user: User) -> None:
    message = user.refusal(run(user, "+method.mine=own.cam"))
    setting = advice_in(message, r"set (\S+)\.\s")
    user.types(run(user, "+" + setting.replace("module.function", "own.cam")))


@follows("is defined as {}({}), and a {kind} takes one argument")
def method_with_a_parameter_without_a_value(user: User) -> None:
    words = run(user, "+method.mine._target_=own.needs")
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (\+\S+=)VALUE") + "2"])


@follows("can't take its params: {error}; they are set by")
def method_with_a_parameter_of_another_name(user: User) -> None:
    words = run(user, "+method.mine._target_=own.cam")
    message = user.refusal([*words, "+method.mine.params.exponent=2"])
    setting = advice_in(message, r"are set by (\S+)\.\s")
    user.types([*words, "+" + setting.replace("KEY=VALUE", "power=2")])


@follows("List all of them under metric.{}.values, and curves under .curves")
def metric_with_an_undeclared_value(user: User) -> None:
    words = run(user, "+metric.two._target_=own.two", "+metric.two.better=higher")
    words = (*words, "+metric.two.values={two:{title: Two}}")
    message = user.refusal(words)
    setting = advice_in(message, r"under (metric\.two\.values)")
    user.types([*words[:-1], f"+{setting}={{two: {{title: Two}}, half: {{title: Half}}}}"])


@follows("give one of them other names under metric.{}.values")
def metrics_with_one_name(user: User) -> None:
    words = run(user, "+metric.two._target_=own.two", "+metric.one._target_=own.two")
    same = "={two: {title: Two}, half: {title: Half}}"
    message = user.refusal([*words, f"+metric.two.values{same}", f"+metric.one.values{same}"])
    assert advice_in(message, r"names under (metric\.\w+\.values)")
    user.types([*(word for word in words if "metric.one" not in word), f"+metric.two.values{same}"])


@follows("leave metric.{}.reads out")
def metric_of_maps_that_asks(user: User) -> None:
    words = run(user, "+metric.asks._target_=own.asks")
    message = user.refusal([*words, "+metric.asks.reads=maps"])
    assert advice_in(message, r"leave (metric\.asks\.reads) out")
    user.types(words)


@follows("restore every change of the network, of torch or of other modules.")
def method_that_changes_the_trace(user: User) -> None:
    message = user.refusal(run(user, "+method.mine._target_=own.in_place"))
    assert advice_in(message, r"made by (\.clone\(\))")
    user.types(run(user, "+method.mine._target_=own.with_clone"))


@follows("The method `fused` needs a list of layers")
def fused_without_layers(user: User) -> None:
    trace = ab.trace(Small(), "features", torch.rand(1, 3, 16, 16), [0])
    message = user.error(lambda: fused(trace, layers=()))
    name = advice_in(message, r"params\.(\w+)=\[LAYER,LAYER\]")
    fused(trace, **{name: ["features.0", "features.1"]})


@follows("set score=logit in the method's params")
def probability_of_one_logit(user: User) -> None:
    trace = ab.trace(Small(1), "features", torch.rand(1, 3, 16, 16), [0])
    message = user.error(lambda: score_cam(trace, score="probability"))
    score_cam(trace, score=advice_in(message, r"set score=(\w+)"))


@follows("Invalid wrapped={wrapped}; give a callable, such as methods.get({wrapped})")
def wrapped_method_by_name(user: User) -> None:
    trace = ab.trace(Small(), "features", torch.rand(1, 3, 16, 16), [0])
    message = user.error(lambda: run_wrapped("grad_cam", trace))
    run_wrapped(
        eval(advice_in(message, r"such as (methods\.get\('grad_cam'\))"), {"methods": methods}),
        trace,
    )


@follows("This method needs another image of the data set")
def other_image_without_another(user: User) -> None:
    method = methods.get("other_image")
    images = torch.rand(2, 3, 16, 16)
    message = user.error(lambda: method(ab.trace(Small(), "features", images[:1], [0])))
    name = advice_in(message, r"axiom_bench\.Batch\((\w+)=\.\.\.\)")
    batch = ab.Batch(images[:1], ("a",), torch.tensor([0]), **{name: images[1:]})
    ab.evaluate(Small(), "features", [batch], ["other_image"], ["box_iou"])


@follows("The wsol protocol has connectivity 8, not")
def protocol_with_another_connectivity(user: User) -> None:
    boxes = (torch.tensor([[0.0, 0.0, 4.0, 4.0]]),)
    explanation = ab.Explanation(heatmap=torch.rand(1, 16, 16), boxes=boxes)
    message = user.error(lambda: max_box_acc(explanation, connectivity=4))
    max_box_acc(explanation, connectivity=4, protocol=advice_in(message, r"set protocol=(\w+)"))


@follows("There is no layer {}; set params.layers to names of modules")
def peer_with_an_unknown_layer(user: User) -> None:
    with sandbox(ab.trace(Small(), "features", torch.rand(1, 3, 16, 16), [0]), "grad-cam") as copy:
        message = user.error(lambda: copy.with_layers(["nothing"]))
        assert advice_in(message, r"set params\.(layers) to names of modules")
        assert len(copy.with_layers(["features.0"])) == 2


def misleading_cam(x, layer, images, y):
    """Take the model as `x`, which is the images' name elsewhere."""
    return images.sum(1) * x(images).gather(1, y[:, None])[..., None]


@follows("Write a function cam(model, layer, images, targets) that returns a map")
def cam_with_misleading_names(user: User) -> None:
    message = user.error(lambda: as_cam_function(misleading_cam))
    form = advice_in(message, r"as in form: (\w+)")
    model = Small()
    cam = as_cam_function(misleading_cam, form=form)
    assert cam(model, model.features, torch.rand(2, 3, 16, 16), torch.tensor([0, 1])).ndim == 3


@follows("Invalid {name}={length}; give a share of the image's side")
def window_larger_than_the_image(user: User) -> None:
    pytest.importorskip("captum", reason="make peers")
    from axiom_bench.methods.peers.captum_pixels import occlusion

    trace = ab.trace(Small(), "features", torch.rand(1, 3, 16, 16), [0])
    message = user.error(lambda: occlusion(trace, window=50))
    occlusion(trace, window=float(advice_in(message, r"such as (0\.\d)")))
    occlusion(trace, window=int(advice_in(message, r"up to (\d+) pixels")))


@follows("There is no file or folder {path}; set {setting}=PATH")
def maps_that_are_not_there(user: User) -> None:
    words = run(user, "method=[from_maps]")
    message = user.refusal([*words, "method.from_maps.params.path=nowhere"])
    for number in range(2):
        user.array(f"maps/evaluation-0-{number:06d}.npy", np.random.default_rng(0).random((96, 96)))
    user.types([*words, "metric=[box_iou]", advice_in(message, r"set (\S+=)PATH") + "maps"])


def trace_of_a_detr(side: int) -> ab.Trace:
    """Return the trace of the most probable object in an image of this size."""
    network = ab.BoxScores(Queries())
    images = torch.rand(1, 3, side, side)
    found = network.found(images, 0.0)[0][0]
    return ab.trace(network, "patches", (images, found.place[None]), [found.label])


@follows("Transformer attribution has no relevance rules for a DETR")
def detr_with_relevance(user: User) -> None:
    trace = trace_of_a_detr(32)
    message = user.error(lambda: transformer_attribution(trace, form="lrp"))
    form = advice_in(message, r"params\.form=(\w+)")
    assert transformer_attribution(trace, form=form).raw.any()


@follows("Transformer attribution has no relevance rules for a network of words")
def words_with_relevance(user: User) -> None:
    scores = ab.WordScores(ab.load_model("scenes_vlm").module, text="a 7 on stripes")
    images = torch.rand(1, 3, 96, 96)
    found = scores.found(images, 0.0)[0][1]
    trace = ab.trace(scores, scores.default_layer, (images, found.place[None]), [found.label])
    message = user.error(lambda: transformer_attribution(trace, form="lrp"))
    form = advice_in(message, r"params\.form=(\w+)")
    assert transformer_attribution(trace, form=form).raw.any()


@follows("Of networks of boxes, transformer attribution explains only a DETR")
def detr_with_as_many_queries_as_positions(user: User) -> None:
    trace = trace_of_a_detr(16)
    message = user.error(lambda: transformer_attribution(trace))
    assert advice_in(message, r"set (model\.resize) to another size")
    assert transformer_attribution(trace_of_a_detr(32)).raw.any()


@follows("of this project; type peers=")
def method_of_another_library(user: User) -> None:
    pytest.importorskip("captum")
    message = user.refusal(run(user, "method=grad_cam@captum", "metric=[box_iou]"))
    advice = advice_in(message, r"type (peers=\S+)\.")
    user.types(run(user, "method=[xgrad_cam]", advice, "metric=[box_iou]"))


@follows("in its name or line; axiom-bench list")
def name_in_no_line(user: User) -> None:
    message = user.refusal(["list", "methods", "no_such_method"])
    printed = user.types(advice_in(message, r"axiom-bench (list methods) lists").split())
    assert "xgrad_cam" in printed


def _occlusion(user: User, *params: str) -> tuple[str, ...]:
    settings = [f"method.occlusion.params.{param}" for param in params]
    return run(user, "method=[occlusion]", "metric=[box_iou]", *settings)


@follows("the image's longest side has {} pixels. Give fewer pixels")
def occlusion_window_larger_than_the_image(user: User) -> None:
    message = user.refusal(_occlusion(user, "window=4000"))
    advice = advice_in(message, r"such as (window=\S+)\.")
    user.types(_occlusion(user, advice))


@follows("would never cover some of the {side} pixels of a side")
def stride_longer_than_the_window(user: User) -> None:
    message = user.refusal(_occlusion(user, "window=0.25", "stride=0.5"))
    longest = advice_in(message, r"a stride of at most window=(\S+)\.")
    user.types(_occlusion(user, "window=0.25", f"stride={longest}"))


@follows("give a share of each side, between 0 and 1, or a whole number of pixels")
def window_of_part_of_a_pixel(user: User) -> None:
    message = user.refusal(_occlusion(user, "window=2.5"))
    assert "whole number of pixels" in message
    user.types(_occlusion(user, "window=24", "stride=24"))
