"""Advice for networks and their weights, on the command line."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import resnet18, squeezenet1_1

from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.models.spec import ModelSpec
from axiom_bench.run.composing.composition import composed
from tests.advice.nets import Small
from tests.advice.user import User, advice_in, follows, network

PHOTOS = ("data=folder", "data.root=photos", "target=predicted")


def doctor(user: User, *settings: str) -> tuple[str, ...]:
    user.picture("photos/a.png")
    return ("doctor", *settings, *PHOTOS)


def weights_of(user: User, path: str) -> tuple[str, ...]:
    return doctor(user, *network("Small", f"model.weights={path}"))


@follows("gives tokens {}, not maps (B, K, H, W); set model.reshape=tokens")
def tokens_without_reshape(user: User) -> None:
    words = doctor(user, *network("Patches", "model.layer=block"))
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (model\.reshape=\w+)")])


@follows("and set reshape='tokens' (model.reshape=tokens on the command line), or choose")
def transformer_without_a_layer(user: User) -> None:
    words = doctor(user, *network("Tokens"))
    message = user.refusal(words)
    layer = advice_in(message, r"a layer of tokens, such as '([\w.]+)'")
    command = [
        *words,
        f"model.layer={layer}",
        advice_in(message, r"\((model\.reshape=\w+) on the command line"),
    ]
    user.types(command)


@follows("Set model.resize and model.crop to the size that it expects")
def pictures_of_another_size(user: User) -> None:
    words = doctor(user, *network("FixedSize", "model.layer=features"))
    message = user.refusal(words)
    assert advice_in(message, r"Set (model\.resize and model\.crop) to the size")
    user.types([*words, "model.resize=[16,16]", "model.crop=16"])


@follows("Set model.resize and model.crop to the size that it expects")
def grey_pictures(user: User) -> None:
    words = doctor(user, *network("grey"))
    message = user.refusal(words)
    number = advice_in(message, r"model\.mean and model\.std have one number each, (\[.*?\])")
    user.types([*words, f"model.mean={number}", f"model.std={number}"])


def arrays(user: User, *settings: str) -> tuple[str, ...]:
    given = (
        word
        for word in network("signal")
        if not word.startswith(("model.resize", "model.mean", "model.std"))
    )
    return (
        "doctor",
        *given,
        "model.resize=null",
        "data=arrays",
        "data.root=arrays",
        "target=predicted",
        *settings,
    )


@follows("set data.channels to the axis of their channels")
def arrays_with_channels_last(user: User) -> None:
    for index in range(2):
        user.array(f"arrays/{index}.npy", torch.randn(40, 2).numpy())
    message = user.refusal(arrays(user))
    user.types(arrays(user, advice_in(message, r"set (data\.channels) to") + "=last"))


@follows("is for pictures, but these samples are arrays")
def arrays_that_are_resized(user: User) -> None:
    user.array("arrays/0.npy", torch.randn(2, 40).numpy())
    message = user.refusal(arrays(user, "model.crop=20"))
    user.types(arrays(user, "model.crop=20", advice_in(message, r"Set (model\.crop=null)")))


@follows("set model.mean and model.std to one number for each channel, or both to null")
def arrays_with_colours(user: User) -> None:
    user.array("arrays/0.npy", torch.randn(2, 40).numpy())
    message = user.refusal(arrays(user, "model.mean=[0,0,0]", "model.std=[1,1,1]"))
    assert advice_in(
        message, r"set (model\.mean and model\.std) to one number for each channel, or both to null"
    )
    user.types(arrays(user, "model.mean=[0,0]", "model.std=[1,1]"))
    user.types(arrays(user, "model.mean=null", "model.std=null"))


FOUR_CHANNELS = "+model.kwargs.channels=4"


@follows("pictures have {channels}. Save its images as .npy")
def pictures_for_a_network_of_four_channels(user: User) -> None:
    words = doctor(user, *network("Small", FOUR_CHANNELS))
    message = user.refusal(words)
    channels = advice_in(message, r"\.npy files \((\d), H, W\)")
    settings = advice_in(message, r"set (data=arrays .*?)\.\s")
    user.array("FOLDER/a.npy", np.zeros((int(channels), 32, 32), "f4"))
    user.types(["doctor", *network("Small", FOUR_CHANNELS), "target=predicted", *settings.split()])


@follows("Images of other channels are arrays: set data=arrays")
def means_of_four_channels(user: User) -> None:
    four_channels = network(
        "Small",
        FOUR_CHANNELS,
        "model.resize=null",
        "model.mean=[0,0,0,0]",
        "model.std=[1,1,1,1]",
    )
    words = doctor(user, *four_channels)
    message = user.refusal(words)
    user.array("FOLDER/a.npy", np.zeros((4, 32, 32), "f4"))
    without_data = (word for word in words if not word.startswith("data"))
    user.types([*without_data, *advice_in(message, r"set (data=arrays \S+)\.\s").split()])


@follows("write a function that builds yours, and set model=user")
def weights_with_another_last_layer(user: User) -> None:
    changed = resnet18(num_classes=3)
    changed.fc = nn.Sequential(nn.Linear(512, 4), nn.ReLU(), nn.Linear(4, 3))
    torch.save(changed.state_dict(), user.folder / "w.pth")
    words = doctor(user, "model.weights=w.pth", "model.resize=[32,32]", "model.crop=null")
    message = user.refusal([*words, "model=resnet18"])
    code = (
        "from torch import nn",
        "from torchvision.models import resnet18",
        "",
        "",
        "def build():",
        "    network = resnet18()",
        "    network.fc = nn.Sequential(nn.Linear(512, 4), nn.ReLU(), nn.Linear(4, 3))",
        "    return network",
        "",
    )
    user.write("net.py", "\n".join(code))
    user.types([*words, *advice_in(message, r"set (model=user \S+:\w+)").split()])


@follows("can't be built with model.kwargs={}")
def builder_with_an_argument(user: User) -> None:
    words = doctor(user, *network("of_classes"))
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (model\.kwargs\.classes=)VALUE") + "4"])


@follows("The weights of {name} can't be downloaded from {}")
def segmenter_without_a_connection(user: User) -> None:
    build = torchvision.models.get_model

    def built(name: str, **settings: object) -> nn.Module:
        if settings.get("weights") is not None:
            raise OSError("no connection")
        return build(name, **settings)

    user.patch.setattr("torchvision.models.get_model", built)
    words = doctor(
        user, "model=lraspp_mobilenet_v3_large", "model.resize=[64,64]", "model.min_probability=0"
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"or (model\.weights=null) for random ones")])


@follows("The weights of {architecture} can't be downloaded from {origin}")
def weights_without_a_connection(user: User) -> None:
    user.patch.setattr(
        "torchvision.models._api.WeightsEnum.get_state_dict",
        Mock(side_effect=OSError("no connection")),
    )
    words = doctor(user, "model=squeezenet1_1", "model.resize=64", "model.crop=64")
    message = user.refusal(words)
    user.save_weights("w/squeezenet1_1.safetensors", "squeezenet1_1")
    user.save_weights("v/squeezenet1_1.pth", "squeezenet1_1")
    folder = advice_in(
        message,
        r"set (model\.weights_folder) to a folder with squeezenet1_1\.safetensors \(or \.pth\)",
    )
    user.types([*words, f"{folder}=w"])
    user.types([*words, f"{folder}=v"])
    command = [
        *words,
        advice_in(message, r", (model\.weights) to one such file") + "=v/squeezenet1_1.pth",
    ]
    user.types(command)
    user.types([*words, advice_in(message, r"or (model\.weights=null) for random")])


@follows("is not a file; set model.weights=FILE to the path of your file")
def weights_that_are_not_there(user: User) -> None:
    words = doctor(user, "model=squeezenet1_1", "model.resize=64", "model.crop=64")
    message = user.refusal([*words, "model.weights=nowhere.pth"])
    torch.save(squeezenet1_1().state_dict(), user.folder / "squeezenet1_1.pth")
    command = [
        *words,
        advice_in(message, r"set (model\.weights=)FILE") + "squeezenet1_1.pth",
    ]
    user.types(command)
    user.types([*words, advice_in(message, r"(model\.weights_folder=)FOLDER") + "."])
    user.types([*words, advice_in(message, r"or (model\.weights=null)")])


@follows("The network {} has no weights called {name}")
def own_weights_by_a_name(user: User) -> None:
    message = user.refusal(weights_of(user, "default"))
    user.types([*weights_of(user, "default"), advice_in(message, r"or (model\.weights=as_built)")])
    user.save_weights("w.safetensors", "Small")
    command = [
        *weights_of(user, "default"),
        advice_in(message, r"set (model\.weights) to a \.safetensors") + "=w.safetensors",
    ]
    user.types(command)


@follows("The model has no {}; set model.{}")
def model_without_a_source(user: User) -> None:
    given = {"name": "mine", "architecture": "nets.py:Small", "weights": None}
    message = user.error(lambda: ModelSpec.of(given))
    key = advice_in(message, r"set model\.(\w+)\.$")
    assert ModelSpec.of({**given, key: "user"}).source == "user"


@follows('must be given; set "model.{}"')
def model_with_a_missing_setting(user: User) -> None:
    given = {"name": "mine", "source": "user", "architecture": "???", "weights": None}
    message = user.error(lambda: ModelSpec.of(given))
    key, value = advice_in(message, r'set "model\.(\w+=\S+)"$').split("=")
    assert ModelSpec.of({**given, key: value}).architecture == "net.py:build"


def save_and_use(user: User, message: str) -> None:
    """Write the weights as a message says, and use them."""
    code = advice_in(message, r"(torch\.save\(model\.state_dict\(\), ?(?:'weights\.pth'|\.\.\.)\))")
    eval(code.replace("...", "'weights.pth'"), {"torch": torch, "model": Small()})
    user.types(weights_of(user, "weights.pth"))


@follows("is only one of several files of weights")
def weights_in_several_files(user: User) -> None:
    user.save_weights("model-00001-of-00002.safetensors", "Small")
    save_and_use(user, user.refusal(weights_of(user, "model-00001-of-00002.safetensors")))


@follows("are a whole pickled object, whose code isn't run")
def pickled_network(user: User) -> None:
    torch.save(Small(), user.folder / "whole.pth")
    save_and_use(user, user.refusal(weights_of(user, "whole.pth")))


@follows("hold no state dict (names and tensors); save model.state_dict()")
def weights_without_names(user: User) -> None:
    torch.save([1, 2], user.folder / "list.pth")
    message = user.refusal(weights_of(user, "list.pth"))
    state = eval(advice_in(message, r"save (model\.state_dict\(\))\."), {"model": Small()})
    torch.save(state, user.folder / "weights.pth")
    user.types(weights_of(user, "weights.pth"))


@follows("choose one by model.weights_key={}")
def weights_of_two_networks(user: User) -> None:
    student = Small().state_dict()
    teacher = {name: value + 1 for name, value in Small().state_dict().items()}
    torch.save({"student": student, "teacher": teacher}, user.folder / "both.pth")
    message = user.refusal(weights_of(user, "both.pth"))
    command = [
        *weights_of(user, "both.pth"),
        advice_in(message, r"one by (model\.weights_key=\S+?)\.\s"),
    ]
    user.types(command)


@follows("hold {kind} tensor, {}; ")
def weights_that_are_complex(user: User) -> None:
    state = {name: value.to(torch.complex64) for name, value in Small().state_dict().items()}
    torch.save(state, user.folder / "complex.pth")
    save_and_use(user, user.refusal(weights_of(user, "complex.pth")))


@follows("leave these images out by data.leave_out")
def inputs_without_a_row(user: User) -> None:
    user.write("ages.csv", "id,age\na,61.5\n")
    words = doctor(user, *network("WithAge", "model.inputs=ages.csv"))
    user.picture("photos/b.png")
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"out by (data\.leave_out)") + "=[b.png]"])
    user.write("ages.csv", "id,age\na,61.5\nb,30\n")
    user.types(words)


@follows("set model.explained=KEY to the key of the images")
def inputs_for_a_dict(user: User) -> None:
    user.write("ages.csv", "id,age\na,61.5\n")
    words = doctor(user, *network("OfDict", "model.inputs=ages.csv"))
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (model\.explained=)KEY") + "image"])


@follows("by model.inputs=FILE.csv, a line for each image")
def network_of_two_inputs(user: User) -> None:
    words = doctor(user, *network("WithAge"))
    message = user.refusal(words)
    setting = advice_in(message, r"by (model\.inputs=FILE\.csv), a line for each image")
    user.write("FILE.csv", "id,age\na,61.5\n")
    user.types([*words, setting])


@follows("set model.output=logits for a model of VOC's own classes")
def groups_of_another_network(user: User) -> None:
    words = doctor(user, *network("Small", "model.output=voc_groups"))
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (model\.output=logits)")])


@follows("in Python output='logits'")
def logits_that_are_called_probabilities(user: User) -> None:
    words = doctor(
        user, *network("Small", "model.output=probabilities", "model.std=[0.001,0.001,0.001]")
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (model\.output=logits)")])


@follows("would be border for more than half")
def crop_that_is_mostly_border(user: User) -> None:
    words = doctor(
        user, "model=squeezenet1_1", "model.weights=null", "model.resize=64", "model.crop=224"
    )
    message = user.refusal(words)
    user.types([*words, "model.crop=" + advice_in(message, r"set model\.crop to at most (\d+)")])
    user.types([*words, advice_in(message, r"or (model\.resize=\d+)")])


@follows("needs images that are resized; set model.resize=")
def crop_without_resizing(user: User) -> None:
    small = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    message = user.error(lambda: Preprocessing(None, 9000, **small))
    most = int(advice_in(message, r"or model\.crop to at most (\d+)"))
    assert Preprocessing(None, most, **small).crop == most
    resize = int(advice_in(message, r"set model\.resize=(\d+) too"))
    assert Preprocessing(resize, 9000, **small).resize == resize


@follows("model.kwargs.words is a list: set")
def words_of_a_caption_as_a_text(user: User) -> None:
    from axiom_bench.models.checkpoints import CAPTIONED, _words_error

    def load() -> None:
        raise _words_error("nowhere", CAPTIONED)

    message = user.error(load)
    captions = "model.kwargs.captions=[a cat on a mat]"
    with composed(["model=clip", captions, advice_in(message, r"set \"(.*?)\"")]) as composition:
        assert composition.plain_job()["model"]["kwargs"]["words"] == ["cat"]


@follows("{name} needs captions, which are its classes")
def clip_without_captions(user: User) -> None:
    from axiom_bench.models.checkpoints import CAPTIONED, _captions_error

    def load() -> None:
        raise _captions_error("nowhere", CAPTIONED)

    message = user.error(load)
    with composed(["model=clip", advice_in(message, r"set \"(.*?)\"")]) as composition:
        assert composition.plain_job()["model"]["kwargs"]["captions"] == ["a cat", "a dog"]
