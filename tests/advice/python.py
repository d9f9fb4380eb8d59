"""Advice on images, networks and functions in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision
from torch import nn

import axiom_bench as ab
from tests.advice.nets import Patches, Small, WithAge, signal
from tests.advice.user import User, advice_in, follows
from tests.advice.user import network as own_network

LAYER = "features"


def images(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def value_of(code: str, **names: object) -> object:
    """Return the value of an expression that a message contains."""
    return eval(code, {"ab": ab, "torch": torch, "torchvision": torchvision, "PIL": PIL, **names})


@follows("or only images.float() if the network itself does that")
def images_of_bytes(user: User) -> None:
    whole = (images() * 255).byte()
    message = user.error(lambda: ab.trace(Small(), LAYER, whole, [0, 0]))
    expression = advice_in(message, r"give (images\.float\(\) / 255)")
    ab.trace(Small(), LAYER, value_of(expression, images=whole), [0, 0])


@follows("give images of the channels and the size that it was trained on")
def images_with_channels_last(user: User) -> None:
    last = images().movedim(1, -1)
    message = user.error(lambda: ab.trace(Small(), LAYER, last, [0, 0]))
    ab.trace(
        Small(), LAYER, value_of(advice_in(message, r"give (images.*?)\.$"), images=last), [0, 0]
    )


@follows("as the network's convolutions take")
def one_image_with_channels_last(user: User) -> None:
    for single in (images()[0], images()[0].movedim(0, -1), images()[0, 0]):
        network = Small(channels=1) if single.ndim == 2 else Small()
        message = user.error(ab.trace, network, LAYER, single, [0])
        ab.trace(
            network,
            LAYER,
            value_of(advice_in(message, r"give (images.*?)\.?$"), images=single),
            [0],
        )


@follows("one class index per image")
def targets_as_one_hot(user: User) -> None:
    hot = torch.eye(3)[[0, 2]].long()
    message = user.error(lambda: ab.trace(Small(), LAYER, images(), hot))
    targets = value_of(advice_in(message, r"give (targets\S+?)\.?$"), targets=hot)
    assert ab.trace(Small(), LAYER, images(), targets).targets.tolist() == [0, 2]


@follows("one class index per image")
def one_target_for_all(user: User) -> None:
    message = user.error(lambda: ab.trace(Small(), LAYER, images(), 1))
    targets = value_of(advice_in(message, r"give (\[.*?)\.?$"))
    assert ab.trace(Small(), LAYER, images(), targets).targets.tolist() == [1, 1]


@follows("To explain both classes of one logit")
def other_class_of_one_logit(user: User) -> None:
    message = user.error(lambda: ab.trace(Small(1), LAYER, images(), [1, 1]))
    code = advice_in(message, r"where both is (def both.*?)\.$")
    names: dict[str, Any] = {"torch": torch}
    exec(code, names)
    output = advice_in(message, r"in Python output=(\w+)")
    trace = ab.trace(Small(1), LAYER, images(), [1, 1], output=names[output])
    assert trace.logits.shape == (2, 2)
    user.write("FILE.py", f"import torch\n\n\n{code}\n")
    user.picture("photos/b/1.png")
    network_of_one_logit = own_network(
        "Small",
        "+model.kwargs.classes=1",
        "model.classes=[a,b]",
        "data=folder",
        "data.root=photos",
        "target=label",
    )
    command = [
        "doctor",
        *network_of_one_logit,
        advice_in(message, r"set (model\.output=FILE\.py:both)"),
    ]
    user.types(command)


@follows("load a network by its name, ab.load_model(")
def network_by_its_name(user: User) -> None:
    message = user.error(lambda: ab.CutModel("scenes_vgg", "default"))
    network = value_of(advice_in(message, r"by its name, (ab\.load_model\(.*?\))"))
    ab.CutModel(network, network.loaded.layer)


@follows("Invalid images: expected a tensor (B, 3, H, W), not")
def images_that_are_no_tensor(user: User) -> None:
    photograph = PIL.Image.open(user.picture("a.png"))
    tensors = list(images())
    for given, pattern in (
        (photograph, r"give (torchvision.*?\[None\])"),
        (str(user.folder / "a.png"), r"give (torchvision.*?\[None\])"),
        (images().numpy(), r"convert it with (torch\S+?)\.?$"),
        (tensors, r"images of one size, (torch\S+?)\.?$"),
        ({"pixels": images()}, r"give only its images, (images\S+?)\.?$"),
    ):
        message = user.error(ab.trace, Small(), LAYER, given, [0])
        followed = value_of(advice_in(message, pattern), images=given)
        ab.trace(Small(), LAYER, followed, [0] * len(followed))


@follows("give images of the channels and the size that it was trained on")
def images_of_another_number_of_channels(user: User) -> None:
    for given, channels in ((images()[:, :1], 3), (images(), 1), (torch.rand(2, 4, 16, 16), 3)):
        network = Small(channels=channels)
        message = user.error(ab.trace, network, LAYER, given, [0, 0])
        ab.trace(
            network,
            LAYER,
            value_of(advice_in(message, r"give (images.*?)\.$"), images=given),
            [0, 0],
        )


@follows("give images of the channels and the size that it was trained on")
def network_in_half_precision(user: User) -> None:
    network = Small().half()
    network.fc.float()
    message = user.error(ab.trace, network, LAYER, images(), [0, 0])
    ab.trace(
        value_of(advice_in(message, r"give (network\S+?)\.$"), network=network),
        LAYER,
        images(),
        [0, 0],
    )


@follows("give images of the channels and the size that it was trained on")
def network_of_a_list_of_images(user: User) -> None:
    class OfLists(Small):
        def forward(self, images):
            if not isinstance(images, list):
                raise TypeError("a list of images is expected")
            return super().forward(torch.stack(images))

    class Wrapped(nn.Module):
        def __init__(self, call: str) -> None:
            super().__init__()
            self.net = OfLists()
            self.call = call

        def forward(self, images):
            return eval(self.call)

    message = user.error(lambda: ab.trace(OfLists(), LAYER, images(), [0, 0]))
    ab.trace(
        Wrapped(advice_in(message, r"as (self\.net\(.*?\))\.$")), f"net.{LAYER}", images(), [0, 0]
    )


@follows("say which one is explained, such as explained=")
def two_batches_of_images(user: User) -> None:
    class Pair(Small):
        def forward(self, left, right):
            return super().forward(left) - super().forward(right)

    message = user.error(lambda: ab.trace(Pair(), LAYER, (images(), images()), [0, 0]))
    explained = value_of(advice_in(message, r"such as explained=(\w+)"))
    ab.trace(Pair(), LAYER, (images(), images()), [0, 0], explained=explained)


@follows("doesn't depend on the explained input")
def layer_of_the_other_input(user: User) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = Small()
            self.other = Small()

        def forward(self, left, right):
            return self.one(left) + self.other(right)

    pair = (images(), images())
    message = user.error(lambda: ab.trace(Pair(), "other.features", pair, [0, 0], explained=0))
    setting = advice_in(message, r"the other input by (\w+)=")
    ab.trace(Pair(), "other.features", pair, [0, 0], **{setting: 1})


@follows("give its BatchNorm running statistics (track_running_stats=True)")
def batch_norm_without_statistics(user: User) -> None:
    def network(**statistics: bool) -> nn.Module:
        convolution = nn.Conv2d(3, 4, 16)
        parts = [nn.BatchNorm2d(4, **statistics), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)]
        return nn.Sequential(convolution, *parts)

    message = user.error(
        lambda: ab.trace(network(track_running_stats=False), "2", images(), [0, 0])
    )
    name = advice_in(message, r"\((\w+)=True\)")
    ab.trace(network(**{name: True}), "2", images(), [0, 0])


@follows("let it normalise over the classes, dim=1")
def softmax_over_the_images(user: User) -> None:
    class Normalised(Small):
        def __init__(self, **axis: int) -> None:
            super().__init__()
            self.axis = axis

        def forward(self, images):
            return super().forward(images).softmax(**self.axis)

    message = user.error(lambda: ab.trace(Normalised(dim=0), LAYER, images(), [0, 0]))
    ab.trace(
        Normalised(dim=int(advice_in(message, r"over the classes, dim=(\d)"))),
        LAYER,
        images(),
        [0, 0],
    )


@follows("gives the same image other scores at each call")
def dropout_in_eval_mode(user: User) -> None:
    class Dropped(Small):
        is_fixed = False

        def forward(self, images):
            features = self.features(images).mean((2, 3))
            if self.is_fixed:
                return self.fc(nn.functional.dropout(features, 0.5, self.training))
            return self.fc(nn.functional.dropout(features, 0.5))

    network = Dropped()
    message = user.error(ab.trace, network, LAYER, images(), [0, 0])
    fixed = value_of(
        advice_in(message, r"(axiom_bench\.FixedDraws\(network, seed\))"),
        axiom_bench=ab,
        network=network,
        seed=1,
    )
    ab.trace(fixed, f"module.{LAYER}", images(), [0, 0])
    assert advice_in(message, r"(F\.dropout\(x, p, self\.training\))")
    network.is_fixed = True
    ab.trace(network, LAYER, images(), [0, 0])


@follows("(in Python output='logits')")
def logits_that_are_called_probabilities(user: User) -> None:
    message = user.error(
        lambda: ab.trace(Small(), LAYER, images() * 50, [0, 0], output="probabilities")
    )
    output = value_of(advice_in(message, r"in Python output=('\w+')"))
    ab.trace(Small(), LAYER, images() * 50, [0, 0], output=output)


@follows("scores (B, n), such as lambda returned: ")
def network_that_returns_several_things(user: User) -> None:
    class Several(Small):
        def forward(self, images):
            scores = super().forward(images)
            return {"embedding": scores.sum(1), "classes": scores}

    class Pair(Small):
        def forward(self, images):
            scores = super().forward(images)
            return scores.sum(1), scores

    for network in (Several(), Pair()):
        message = user.error(ab.trace, network, LAYER, images(), [0, 0])
        function = value_of(advice_in(message, r"such as (lambda .*?)\.$"))
        ab.trace(network, LAYER, images(), [0, 0], output=function)


@follows(": return the mean of each map, maps.mean((2, 3))")
def output_function_that_returns_maps(user: User) -> None:
    segmenter = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def trace(output: Any) -> ab.Trace:
        return ab.trace(segmenter, "0", images(), [0, 1], output=output)

    message = user.error(lambda: trace(lambda maps: maps))
    expression = advice_in(message, r"of each map, (.*?)\.$")
    trace(lambda maps: value_of(expression, maps=maps))


@follows("not scores (B, n), (B,) or (B, n, H, W); give output=, a function")
def scores_of_every_word(user: User) -> None:
    class Sequence(Small):
        def forward(self, images):
            return super().forward(images)[:, None].expand(-1, 4, -1)

    message = user.error(lambda: ab.trace(Sequence(), LAYER, images(), [0, 0]))
    name = advice_in(message, r"give (\w+)=, a function from what it returns to scores")
    ab.trace(Sequence(), LAYER, images(), [0, 0], **{name: lambda returned: returned[:, -1]})


@follows("set reshape=tokens (model.reshape=tokens on the command line)")
def tokens_in_python(user: User) -> None:
    message = user.error(lambda: ab.trace(Patches(), "block", images(2, 32), [0, 0]))
    reshape = advice_in(message, r"set reshape=(\w+)")
    assert (
        ab.trace(Patches(), "block", images(2, 32), [0, 0], reshape=reshape).activations.ndim == 4
    )


@follows("let its forward change a clone() of it")
def output_that_is_changed_in_place(user: User) -> None:
    class InPlace(Small):
        is_cloned = False

        def forward(self, images):
            maps = self.features(images).sigmoid()
            changed = maps.clone() if self.is_cloned else maps
            changed.add_(1)
            return self.fc(changed.mean((2, 3)))

    network = InPlace()
    message = user.error(ab.trace, network, LAYER, images(), [0, 0])
    assert advice_in(message, r"(clone\(\))")
    network.is_cloned = True
    ab.trace(network, LAYER, images(), [0, 0])


@follows("whose forward calls self.net(images.movedim(1, -1))")
def network_with_channels_last(user: User) -> None:
    class Last(Small):
        def forward(self, images):
            return super().forward(images.movedim(-1, 1))

    class First(nn.Module):
        def __init__(self, call: str) -> None:
            super().__init__()
            self.net = Last()
            self.call = call

        def forward(self, images):
            return eval(self.call)

    message = user.error(lambda: ab.trace(Last(), LAYER, images().movedim(1, -1), [0, 0]))
    call = advice_in(message, r"calls (self\.net\(.*?\)\))")
    ab.trace(First(call), f"net.{LAYER}", images(), [0, 0])


@follows("maps.save('maps.png') and maps.show() draw them")
def picture_of_a_signal(user: User) -> None:
    maps = ab.explain(signal(), "1", torch.rand(2, 2, 40), methods=["grad_cam"])
    message = user.error(lambda: maps.picture(0))
    value_of(advice_in(message, r"(maps\.save\('maps\.png'\))"), maps=maps)
    assert (user.folder / "maps.png").exists()


@follows("Give images by name: ab.explain(model, images='photo.jpg')")
def explain_without_images(user: User) -> None:
    user.picture("photo.jpg")
    message = user.error(lambda: ab.explain(Small()))
    with pytest.warns(UserWarning, match="preprocessing|normalis"):
        assert value_of(advice_in(message, r"(ab\.explain\(.*?\))"), model=Small())


@follows("Give images by name: ab.check(model, images='photo.jpg')")
def check_without_images(user: User) -> None:
    user.picture("photo.jpg")
    message = user.error(lambda: ab.check(Small()))
    with pytest.warns(UserWarning, match="preprocessing|normalis"):
        assert value_of(advice_in(message, r"(ab\.check\(.*?\))"), model=Small())


@follows("The classes of this network have no names here")
def class_by_name(user: User) -> None:
    message = user.error(
        lambda: ab.explain(Small(), images=images(), methods=["grad_cam"], targets=["cat", "cat"])
    )
    function = value_of(advice_in(message, r"a network of (ab\.\w+)"))
    network = function("scenes_vgg")
    target = network.loaded.classes[0]
    ab.explain(network, images=images(1, 96), methods=["grad_cam"], targets=[target])


@follows("{kind}s is a list of names or callables")
def method_that_is_no_list(user: User) -> None:
    message = user.error(lambda: ab.explain(Small(), images=images(), methods="grad_cam"))
    given = value_of(advice_in(message, r"pass methods=(\[.*?\])"))
    assert list(ab.explain(Small(), images=images(), methods=given)) == ["grad_cam"]


@follows("layers is a list of names, not")
def layers_that_are_no_list(user: User) -> None:
    message = user.error(lambda: ab.choose(Small(), images(8), layers=LAYER))
    given = value_of(advice_in(message, r"pass layers=(\[.*?\])"))
    choice = ab.choose(Small(), images(8), layers=given, methods=["grad_cam", "uniform"])
    assert {standing.layer for standing in choice.standings} == {LAYER}


@follows("before the axes of space, and these arrays are")
def bytes_of_a_volume_with_channels_last(user: User) -> None:
    network = ab.load_model("volumes_cnn")
    channels, *space = network.loaded.preprocessing.shape
    array = torch.zeros(1, *space, channels + 1, dtype=torch.uint8)[..., :channels]
    message = user.error(lambda: ab.explain(network, images=array, methods=["grad_cam"]))
    moved = value_of(advice_in(message, r"(images\.movedim\(-1, 1\))"), images=array)
    ab.explain(network, images=moved, methods=["grad_cam"])


@follows("This explanation has no trace or no method")
def an_explanation_without_its_method(user: User) -> None:
    trace = ab.trace(Small(), LAYER, images(), [0, 0])
    method = ab.methods.get("grad_cam")
    explanation = ab.Explanation.of(trace, method(trace))
    message = user.error(explanation.again)
    expression = advice_in(message, r"make it with (.*)\.$")
    remade = value_of(f"ab.{expression}", trace=trace, method=method)
    assert isinstance(remade, ab.Explanation)
    assert torch.equal(remade.again().required_heatmap, explanation.required_heatmap)


@follows("This network takes arrays, not photographs; give")
def photograph_for_a_network_of_volumes(user: User) -> None:
    preprocessing = ab.load_model("volumes_cnn").loaded.preprocessing
    path = user.picture("a.png")
    message = user.error(lambda: preprocessing(path))
    call = advice_in(message, r"give (preprocessing\.normalised\(tensor\))")
    volume = torch.zeros(preprocessing.shape, dtype=torch.uint8)
    assert value_of(call, preprocessing=preprocessing, tensor=volume).shape == volume.shape


@follows("give PIL.Image.fromarray(array) of an array (H, W, 3) of bytes")
def array_for_the_preprocessing(user: User) -> None:
    preprocessing = ab.load_model("scenes_vgg").loaded.preprocessing
    array = np.zeros((96, 96, 3), np.uint8)
    message = user.error(lambda: preprocessing(array))
    photograph = value_of(advice_in(message, r"give (PIL\.Image\.fromarray\(array\))"), array=array)
    assert preprocessing(photograph).shape == (3, 96, 96)


@follows("no photograph's: give 0 to 255")
def array_of_other_values(user: User) -> None:
    network = ab.load_model("scenes_vgg")

    def explained(array: np.ndarray) -> object:
        return ab.explain(network, images=array, methods=["grad_cam"])

    for highest, pattern in (
        (300, r"0 to 255, as (image\.round\(\).*?\('uint8'\))"),
        (1.5, r"floats in \[0, 1\], as (image\.clip\(0, 1\))"),
    ):
        array = np.random.default_rng(0).random((96, 96, 3)) * highest
        message = user.error(explained, array)
        assert explained(value_of(advice_in(message, pattern), image=array))
    assert advice_in(message, r"normalised images channels first, \((3, H, W)\)")
    assert explained(array.transpose(2, 0, 1))


class Flipped(nn.Module):
    """Scores of an image and of its mirror image, which run as one batch through the part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Small()

    def forward(self, images):
        both = torch.stack([images, images.flip(-1)], 1).flatten(0, 1)
        return self.part(both).unflatten(0, (-1, 2)).mean(1)


@follows("have no default layer; explain ")
def network_of_mirrored_copies(user: User) -> None:
    network = Flipped()
    message = user.error(lambda: ab.explain(network, images=images(), methods=["grad_cam"]))
    part = value_of(
        advice_in(message, r"one of them, (network\.get_submodule\('\w+'\))"), network=network
    )
    assert ab.explain(part, images=images(), methods=["grad_cam"])


@follows("by model.inputs=FILE.csv, a line for each image")
def network_of_two_inputs(user: User) -> None:
    message = user.error(lambda: ab.trace(WithAge(), LAYER, images(), [0, 0]))
    form = advice_in(message, r"in Python give (\(image, age\))")
    ab.trace(WithAge(), LAYER, value_of(form, image=images(), age=torch.rand(2, 1)), [0, 0])


@follows("says no text, so it has no words=")
def words_of_a_classifier(user: User) -> None:
    explained = {"layer": LAYER, "images": images(), "methods": ["grad_cam"]}
    message = user.error(lambda: ab.explain(Small(), words=["cat"], **explained))
    argument = advice_in(message, r"choose classes by (targets)=")
    ab.explain(Small(), **explained, **{argument: 0})


@follows("choose them by words=, without targets")
def classes_of_a_network_of_words(user: User) -> None:
    picture = (images(1, 96)[0].movedim(0, 2) * 255).byte().numpy()
    explained = {"images": picture, "methods": ["grad_cam"]}
    message = user.error(lambda: ab.explain("scenes_vlm", targets=3, **explained))
    argument = advice_in(message, r"choose them by (words)=")
    said = ab.explain("scenes_vlm", **explained).scores[0].name
    ab.explain("scenes_vlm", **explained, **{argument: [said]})
