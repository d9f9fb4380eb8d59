"""Advice on settings and on the configuration that they compose."""

from __future__ import annotations

from axiom_bench.models.spec import ModelSpec
from axiom_bench.run.composing.composition import composed
from tests.advice.user import RUN, SCENES, SHORT, User, advice_in, first_run, follows, network


@follows("The brackets are missing in {line}")
def methods_without_brackets(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "method=grad_cam,xgrad_cam"])
    command = [
        "doctor",
        "data.size=2",
        "model=scenes_vgg",
        advice_in(message, r"write (\S+) for several"),
    ]
    user.types(command)


@follows("takes one value, not several ({line})")
def several_seeds(user: User) -> None:
    message = user.refusal([*SCENES, "data.seed=1,2"])
    for seed in (1, 2):
        single_seed_command = [
            "run",
            *SCENES,
            advice_in(message, r"with (run=)NAME") + f"seed{seed}",
            f"data.seed={seed}",
            "--cfg",
            "job",
        ]
        user.types(single_seed_command)
    user.picture("my,photos/a.png")
    quoted = advice_in(message, r"needs quotes: \"data\.seed(=.*?)\"").replace("a,b", "my,photos")
    command = ["doctor", *network("Small"), "data=folder", "target=predicted", f"data.root{quoted}"]
    user.types(command)


@follows("{line} names no values; write {key}=a,b")
def range_of_models(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "model=interval(1,3)"])
    command = [
        "doctor",
        "data.size=2",
        advice_in(message, r"write (\S+)\.").replace("a,b", "scenes_vgg,scenes_resnet"),
    ]
    user.types(command)


@follows("matches nothing, so there is no job; axiom-bench list names the choices")
def pattern_without_a_match(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "model=glob(nothing*)"])
    assert "scenes_vgg" in user.types([advice_in(message, r"axiom-bench (list) names")])


@follows("Invalid hydra.searchpath {value}; write")
def search_path_without_quotes(user: User) -> None:
    user.write("my/conf/experiment/mine.yaml", "# @package _global_\ndata:\n  size: 2\n")
    message = user.refusal(["doctor", "hydra.searchpath=[/my conf:", "experiment=mine"])
    setting = advice_in(message, r"write \"(.*?)\"").replace(
        "/my/conf", str(user.folder / "my/conf")
    )
    user.types(["doctor", "model=scenes_vgg", setting, "experiment=mine"])


@follows("write KEY=VALUE, a text with signs as")
def list_without_its_end(user: User) -> None:
    command = ["doctor", "model=scenes_vgg", "data.size=2", "method=[grad_cam,xgrad_cam"]
    message = user.refusal(command)
    listed = advice_in(message, r"kinds of quotes: \"(.*?)\"").replace("KEY", "method")
    complete_command = [
        "doctor",
        "model=scenes_vgg",
        "data.size=2",
        listed.replace("'a','b'", "'grad_cam','xgrad_cam'"),
    ]
    user.types(complete_command)
    user.picture("a & (b/a.png")
    quoted = (
        advice_in(message, r"with signs as \"(.*?)\"")
        .replace("KEY", "data.root")
        .replace("a & b", "a & (b")
    )
    user.types(["doctor", *network("Small"), "data=folder", "target=predicted", quoted])


@follows("data.of chooses the images of mosaics; add data=mosaic")
def images_of_mosaics_without_mosaics(user: User) -> None:
    message = user.refusal(["doctor", "model=scenes_vgg", "data.of=scenes"])
    command = [
        "run",
        "model=scenes_vgg",
        "data.of=scenes",
        advice_in(message, r"add (data=mosaic)"),
        "--cfg",
        "job",
    ]
    user.types(command)


@follows("has settings below it; set one of them")
def value_for_a_group_of_settings(user: User) -> None:
    message = user.refusal(["doctor", "model=scenes_vgg", "data.size=2", "runtime=[2]"])
    setting = advice_in(message, r"as (runtime\.\w+)=VALUE")
    user.types(["doctor", "model=scenes_vgg", "data.size=2", f"{setting}=2"])


@follows("is a path, not KEY=VALUE; axiom-bench --help")
def run_folder_for_a_setting(user: User) -> None:
    first_run(user)
    message = user.refusal(["doctor", RUN])
    help_text = user.types([advice_in(message, r"axiom-bench (--help)")])
    assert "report" in help_text
    user.types(["report", RUN])


@follows("is code of your own; set model=user model.architecture=")
def model_that_is_a_file(user: User) -> None:
    message = user.refusal(["doctor", "model=nets.py:Small", "data.size=2"])
    settings = advice_in(message, r"set (.*?)\.$").split()
    user.types(["doctor", *network("Small")[2:], *settings, "data.size=2", "target=predicted"])


@follows("is a checkpoint of transformers; set model=huggingface model.checkpoint=")
def model_that_is_a_checkpoint(user: User) -> None:
    message = user.refusal(["doctor", "model=microsoft/resnet-50", "data.size=2"])
    settings = advice_in(message, r"set (.*?)\.$").split()
    with composed(settings) as composition:
        assert composition.plain_job()["model"]["checkpoint"] == "microsoft/resnet-50"


@follows("names a network of timm; set model=")
def model_of_timm_by_its_name_on_the_hub(user: User) -> None:
    hub = "https://huggingface.co/timm/resnet18.a1_in1k"
    for name in ("timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", hub):
        message = user.refusal(["doctor", f"model={name}", "data.size=2"])
        assert advice_in(message, r"set (.*?)\.$") == "model=resnet18.a1_in1k"
    with composed(["model=resnet18.a1_in1k"]) as composition:
        assert composition.plain_job()["model"]["source"] == "timm"


@follows("timm now calls it {new_name}; set model=")
def earlier_name_of_timm(user: User) -> None:
    message = user.refusal(["doctor", "model=vit_tiny_patch16_224_in21k", "data.size=2"])
    with composed([advice_in(message, r"set (.*?)\.$")]) as composition:
        assert composition.plain_job()["model"]["source"] == "timm"


@follows("There is no folder {}; set model.checkpoint to one that")
def checkpoint_that_is_no_folder(user: User) -> None:
    settings = ["model=huggingface", "model.checkpoint=./no/such"]
    message = user.refusal(["doctor", *settings, "data.size=2"])
    assert "or to a name on the Hugging Face Hub" in message
    for name in ("microsoft/resnet-50", "."):
        settings_of_name = {"name": "mine", "source": "huggingface", "checkpoint": name}
        ModelSpec.of(settings_of_name).check_checkpoint()


@follows("is a folder; set data=folder data.root=")
def data_that_is_a_folder(user: User) -> None:
    user.picture("photos/a.png")
    message = user.refusal(["doctor", *network("Small"), "data=photos"])
    command = [
        "doctor",
        *network("Small"),
        *advice_in(message, r"set (.*?), or").split(),
        "target=predicted",
    ]
    user.types(command)


@follows("Apple's GPUs have no float64")
def gpu_of_apple(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "device=mps"])
    command = ["doctor", "model=scenes_vgg", "data.size=2", advice_in(message, r"use (device=cpu)")]
    user.types(command)


@follows("device={name} needs an NVIDIA GPU that torch can use")
def gpu_that_is_not_there(user: User) -> None:
    user.patch.setattr("torch.cuda.is_available", lambda: False)
    message = user.refusal(["doctor", "data.size=2", "device=cuda"])
    command = ["doctor", "model=scenes_vgg", "data.size=2", advice_in(message, r"use (device=cpu)")]
    user.types(command)


@follows("There is no device {name}; set device=auto")
def device_of_another_name(user: User) -> None:
    words = ("doctor", "model=scenes_vgg", "data.size=2")
    message = user.refusal([*words, "device=gpu0"])
    for setting in advice_in(message, r"set (device=.*?), or").split(", "):
        user.types([*words, setting])
    # A run would need a GPU, so the settings are only composed.
    with composed([advice_in(message, r"or (device=\w+) for a GPU")]) as composition:
        assert composition.plain_job()["device"]["name"] == "cuda"
    user.patch.setenv(*advice_in(message, r"put (CUDA_VISIBLE_DEVICES=\d)").split("="))
    user.types([*words, "device=auto"])


@follows("{key}={} chooses no {}")
def model_that_is_no_name(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "model=null"])
    assert "scenes_vgg" in user.types([advice_in(message, r"axiom-bench (list) shows")])


@follows("protocol takes one name, protocol=NAME")
def protocol_by_its_parts(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "protocol=[adcc2021]"])
    listed = user.types(advice_in(message, r"axiom-bench (list protocols) shows").split())
    name = advice_in(listed, r"(?m)^ *(\w+)")
    command = [
        "run",
        "model=scenes_vgg",
        "data.size=2",
        advice_in(message, r"one name, (protocol=)NAME") + name,
        "--cfg",
        "job",
    ]
    user.types(command)


@follows("can't be set: write a protocol of your own")
def part_of_a_protocol(user: User) -> None:
    message = user.refusal(["doctor", "data.size=2", "protocol=adcc2021", "protocol.title=mine"])
    from axiom_bench.environment import conf_folder

    place = advice_in(message, r"own, (\S+\.yaml) below").replace("NAME", "mine")
    user.write(f"conf/{place}", (conf_folder() / "protocol/adcc2021.yaml").read_bytes())
    command = [
        "run",
        advice_in(message, r"below (--config-dir)"),
        "conf",
        "model=scenes_vgg",
        "data.size=2",
        "protocol=mine",
        "--cfg",
        "job",
    ]
    user.types(command)


@follows("{} has no default; set {}=")
def folder_without_a_root(user: User) -> None:
    user.picture("photos/a.png")
    settings = ("doctor", *network("Small"), "data=folder", "target=predicted")
    message = user.refusal(settings)
    user.types(
        [*settings, advice_in(message, r"set (data\.root=)PATH; expected images") + "photos"]
    )


@follows("{absent} isn't set; set {absent}=VALUE")
def setting_that_is_removed(user: User) -> None:
    message = user.refusal(["doctor", "model=scenes_vgg", "data.size=2", "~target"])
    command = [
        "doctor",
        "model=scenes_vgg",
        "data.size=2",
        advice_in(message, r"set (\S+)\.$").replace("VALUE", "label"),
    ]
    user.types(command)


@follows("set model.weights_folder to one that holds the weights")
def weights_folder_that_is_not_there(user: User) -> None:
    user.picture("photos/a.png")
    settings = (
        "run=first",
        "model=squeezenet1_1,shufflenet_v2_x0_5",
        "data=folder",
        "data.root=photos",
        "target=predicted",
        *SHORT,
        "data.size=null",
        "model.resize=64",
        "model.crop=64",
    )
    message = user.refusal([*settings, "model.weights_folder=nowhere"])
    user.save_weights("w/squeezenet1_1.safetensors", "squeezenet1_1")
    user.save_weights("w/shufflenet_v2_x0_5.safetensors", "shufflenet_v2_x0_5")
    user.types([*settings, advice_in(message, r"set (model\.weights_folder) to") + "=w"])


@follows("set model.architecture to path/to/file.py:function")
def code_that_is_not_there(user: User) -> None:
    settings = network("Small", "run=first", "target=predicted", *SHORT, "data.size=2")
    message = user.refusal([*settings, "model.architecture=net.py:Small"])
    setting = advice_in(message, r"set (model\.architecture to \S+?)\.\n").replace(" to ", "=")
    command = [
        *settings,
        setting.replace("path/to/file.py:function", str(user.folder / "nets.py:Small")),
    ]
    user.types(command)


@follows("The suite {suite} fixes {key}: leave {override} out")
def suite_with_another_size(user: User) -> None:
    words = ["suite=scenes-1", "data.size=3"]
    message = user.refusal(["run", *words, "--cfg", "job"])
    rest = [word for word in words if word != advice_in(message, r"leave (\S+) out")]
    without_suite = [
        word for word in words if advice_in(message, r"run it without (suite=)") not in word
    ]
    for overrides in (rest, without_suite):
        with composed(overrides) as composition:  # to run a suite takes minutes
            assert composition.jobs


@follows("Can't write to data.cache={}")
def cache_where_a_file_is(user: User) -> None:
    user.write("cache", "mine")
    message = user.refusal(["run=first", *SCENES, "data.cache=cache"])
    command = [
        "run=first",
        *SCENES,
        "data.cache=cache",
        advice_in(message, r"set (data\.cache=null)"),
    ]
    user.types(command)


@follows("is of networks that find objects; set model.output=")
def target_of_objects(user: User) -> None:
    message = user.refusal(["doctor", "model=scenes_vgg", "data.size=2", "target=matched"])
    for target in advice_in(message, r", or target=(.*)\.").split(" or "):
        user.types(["doctor", "model=scenes_vgg", "data.size=2", f"target={target}"])


@follows("No {kind} is chosen; choose some, for example")
def run_without_a_method(user: User) -> None:
    settings = ("run=first", *SCENES, "metric=[box_iou]")
    message = user.refusal([*settings, "method=[]"])
    user.types([*settings, advice_in(message, r"for example (\S+\])")])


@follows("needs the package {package}, which isn't installed")
def executor_that_is_not_installed(user: User) -> None:
    user.patch.setitem(__import__("sys").modules, "dask", None)
    user.patch.setitem(__import__("sys").modules, "axiom_bench.run.executors.dask", None)
    message = user.refusal(["run=first", *SCENES, "executor=dask"])
    user.types(["run=first", *SCENES, advice_in(message, r"or choose (executor=local)")])
