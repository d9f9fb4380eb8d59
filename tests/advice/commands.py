"""Advice of the command line, and of the configuration that it composes."""

from __future__ import annotations

import json
import shutil

import axiom_bench as ab
from axiom_bench.records import files
from axiom_bench.run.composing.composition import composed
from tests.advice.user import SHORT, User, advice_in, follows, network
from tests.made_runs import entries_of

SCENES = ("model=scenes_vgg", "data.size=2", *SHORT)
RUN = "results/quick/first"


METHODS = "method=[grad_cam,xgrad_cam]"


def first_run(user: User) -> None:
    assert user.runs("first", METHODS) == RUN


@follows("Name the model: --model resnet18")
def explain_without_a_model(user: User) -> None:
    user.picture("a.png")
    message = user.refusal("explain", "a.png", "--methods", "grad_cam")
    user.types(
        "explain",
        "a.png",
        "--methods",
        "grad_cam",
        "--layer",
        "layer4",
        "model.weights=null",
        *advice_in(message, r"model: (--model resnet18)").split(),
    )
    user.write("net.py", "from nets import Small\n\n\ndef build():\n    return Small()\n")
    user.save_weights("mine.pth", "Small")
    own = advice_in(message, r"your own: (.*)\.").replace("FILE", "mine.pth").split()
    user.types(
        "explain",
        "a.png",
        "--methods",
        "grad_cam",
        "--output",
        "own.png",
        *own,
        *network("Small")[3:],
    )


@follows("explain takes one network and one layer; name them")
def explain_with_two_networks(user: User) -> None:
    user.picture("a.png")
    message = user.refusal(
        "explain", "a.png", "--methods", "grad_cam", "model=resnet18,resnet50", "model.weights=null"
    )
    named = advice_in(message, r"name them: (.*)\.").split()
    user.types("explain", "a.png", "--methods", "grad_cam", "model.weights=null", *named)


def explain_words(user: User, *arguments: str) -> tuple[str, ...]:
    user.picture("a.png")
    return ("explain", "a.png", *network("Small"), "--methods", "grad_cam", *arguments)


@follows("{path} is a folder, which isn't replaced; give another --output")
def explain_into_a_folder_called_as_a_picture(user: User) -> None:
    (user.folder / "maps.png").mkdir()
    message = user.refusal(*explain_words(user, "--output", "maps.png"))
    user.types(*explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))


@follows("exists already; give another --output, or --overwrite")
def explain_into_a_file_that_is_there(user: User) -> None:
    user.write("maps.png", "mine")
    message = user.refusal(*explain_words(user, "--output", "maps.png"))
    user.types(*explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))
    user.types(
        *explain_words(user, "--output", "maps.png", advice_in(message, r"or (--overwrite)"))
    )


@follows("would replace an image that is to be explained")
def explain_into_the_image(user: User) -> None:
    message = user.refusal(*explain_words(user, "--output", "a.png"))
    user.types(*explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))


@follows("Name an image, or a folder of images: axiom-bench explain photo.jpg")
def explain_nothing(user: User) -> None:
    user.picture("photo.jpg")
    message = user.refusal("explain", *network("Small"))
    user.types(
        *advice_in(message, r"axiom-bench (explain photo\.jpg)").split(),
        *network("Small"),
        "--methods",
        "grad_cam",
    )


@follows("in {} with a probability of at least {least}")
def explain_with_a_detector_that_finds_nothing(user: User) -> None:
    user.picture("a.png", 96)
    options = ("explain", "a.png", "--model", "scenes_detector", "--methods", "grad_cam")
    message = user.refusal(*options, "model.min_probability=1")
    user.types(*options, advice_in(message, r"lower (model\.min_probability)") + "=0")


@follows("the network finds no")
def run_of_a_detector_that_finds_nothing(user: User) -> None:
    options = ("doctor", "model=scenes_detector", "data.size=1", "target=detections")
    message = user.refusal(*options, "model.min_probability=1")
    user.types(*options, advice_in(message, r"lower (model\.min_probability)") + "=0.01")


@follows("is written into a baseline; add --write")
def gate_with_a_reason(user: User) -> None:
    first_run(user)
    message = user.refusal("gate", RUN, "--baseline", "b.csv", "--reason", "new")
    user.types(
        "gate", RUN, "--baseline", "b.csv", "--reason", "new", advice_in(message, r"add (--write)")
    )


@follows("there is no baseline {file}; write it from a run with --write")
def gate_without_a_baseline(user: User) -> None:
    first_run(user)
    message = user.refusal("gate", RUN, "--baseline", "b.csv")
    user.types("gate", RUN, "--baseline", "b.csv", advice_in(message, r"with (--write)"))
    user.types("gate", RUN, "--baseline", "b.csv")


@follows("Give a run folder to judge its metrics, or --metric NAME")
def judge_nothing(user: User) -> None:
    message = user.refusal("judge")
    # Judging the metrics takes minutes.
    user.patch.setattr("axiom_bench.cli.judge.judge_metrics", lambda names, better: (0, names))
    user.types("judge", advice_in(message, r"or (--metric) NAME"), "box_iou")


@follows("run it with spoiled=all to judge metrics by it")
def judge_by_a_run_without_spoiled_explainers(user: User) -> None:
    settings = (
        "model=planted_additive",
        "data.size=10",
        "method=[grad_cam,xgrad_cam,uniform]",
        "metric=[box_iou]",
    )
    run = user.runs("judged", *settings)
    message = user.refusal("judge", run, "--truth", run)
    spoiled = user.runs("spoiled", *settings, advice_in(message, r"run it with (spoiled=all)"))
    user.types("judge", run, "--truth", spoiled)


@follows("run them with these metrics and data.size={FEWEST_IMAGES} or more")
def judge_by_too_few_images(user: User) -> None:
    settings = ("model=planted_additive", "method=[grad_cam,xgrad_cam,uniform]", "metric=[box_iou]")
    run = user.runs("judged", *settings, "data.size=10")
    spoiled = "spoiled=[truth,noise]"
    few = user.runs("few", *settings, spoiled, "data.size=2")
    message = user.refusal("judge", run, "--truth", few)
    more = user.runs("more", *settings, spoiled, advice_in(message, r"(data\.size=\d+) or more"))
    user.types("judge", run, "--truth", more)


@follows("{output} is no folder; give another --output")
def leaderboard_into_a_file(user: User) -> None:
    user.write("site", "mine")
    message = user.refusal("leaderboard", "--output", "site")
    user.patch.setattr("axiom_bench.cli.leaderboard.published_folders", lambda suite: {})
    user.types("leaderboard", advice_in(message, r"give another (--output)"), "pages")


@follows("write {key}=[a,b] for a list")
def report_with_a_list_that_is_no_list(user: User) -> None:
    first_run(user)
    message = user.refusal("report", RUN, "report.headline=[conservation_error")
    setting = advice_in(message, r"write (\S+) for a list").replace("a,b", "conservation_error")
    user.types("report", RUN, setting)


@follows("isn't a run of the suite {suite}")
def report_of_a_suite_that_the_run_is_not_of(user: User) -> None:
    first_run(user)
    message = user.refusal("report", RUN, "report.reference=scenes-1")
    setting = advice_in(message, r"axiom-bench (suite=\S+) makes one")
    with composed([setting]) as composition:  # to run it takes minutes
        assert composition.plain_job()["run"].startswith("scenes-1")


@follows("{folder} is one of the runs; give --output")
def report_of_two_runs_into_one(user: User) -> None:
    runs = two_runs(user)
    message = user.refusal("report", *runs, "--output", runs[0])
    user.types("report", *runs, advice_in(message, r"give (--output) a folder of its own"), "both")


def two_runs(user: User) -> tuple[str, str]:
    first_run(user)
    return RUN, user.runs("second", "method=[hires_cam]")


@follows("records/combining.py: {folder} is no folder")
def report_of_two_runs_into_a_file(user: User) -> None:
    runs = two_runs(user)
    user.write("both", "mine")
    message = user.refusal("report", *runs, "--output", "both")
    user.types("report", *runs, advice_in(message, r"give another (--output)"), "others")


@follows("{folder} is a run folder, which isn't replaced; give another --output")
def report_of_two_runs_into_a_third(user: User) -> None:
    runs = two_runs(user)
    shutil.copytree(user.folder / RUN, user.folder / "third")
    message = user.refusal("report", *runs, "--output", "third")
    user.types("report", *runs, advice_in(message, r"give another (--output)"), "both")


@follows("is a run of another version of axiom-bench")
def run_folder_of_another_version(user: User) -> None:
    first_run(user)
    manifest = user.folder / RUN / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": -1}))
    message = user.refusal("run=first", *SCENES)
    user.types(advice_in(message, r"another (run=)NAME") + "second", *SCENES)


@follows("Can't write results to {folder}")
def results_where_a_file_is(user: User) -> None:
    user.write("results", "mine")
    message = user.refusal("run=first", *SCENES)
    user.types("run=first", *SCENES, advice_in(message, r"with (results=)FOLDER") + "others")


@follows("names code, which would run with your rights")
def game_of_a_run_with_own_code(user: User) -> None:
    user.write("own.py", "def cam(trace):\n    return trace.gradients.mean((2, 3))\n")
    run = user.runs("own", "+method.mine._target_=own.cam")
    message = user.refusal("game", run, "--images", "1")
    user.types("game", run, "--images", "1", advice_in(message, r"Add (--trust)"))


@follows("names files of this machine, which would be read")
def game_of_a_run_with_own_files(user: User) -> None:
    (user.folder / "cache").mkdir()
    run = user.runs("cached", "data.cache=cache")
    message = user.refusal("game", run, "--images", "1")
    user.types("game", run, "--images", "1", advice_in(message, r"Add (--trust)"))


@follows("show exactly two classes: choose --images")
def game_of_more_images_than_there_are(user: User) -> None:
    first_run(user)
    message = user.refusal("game", RUN, "--images", "6")
    user.types("game", RUN, *advice_in(message, r"choose (--images \d+)").split())
    larger = user.runs("larger", advice_in(message, r"such as (data\.size=\d+)"))
    user.types("game", larger, "--images", "6", "--output", "larger.html")


@follows("this run has only {} images in addition to the {} of the game")
def game_with_too_few_other_images(user: User) -> None:
    run = user.runs("few", "data.size=9", "data.seed=2")
    message = user.refusal("game", run)
    user.types("game", run, *advice_in(message, r"choose (--images \d+)").split())
    larger = user.runs("larger", advice_in(message, r"with a larger (data\.size)") + "=24")
    user.types("game", larger, "--output", "larger.html")


@follows("No image of {} in this run shows exactly two classes")
def game_of_images_of_one_class(user: User) -> None:
    for name in "abc":
        user.picture(f"photos/{name}/1.png")
    run = user.runs(
        "photos",
        *network("Small"),
        "model.classes=[a,b,c]",
        "data=folder",
        "data.root=photos",
        "data.size=null",
    )
    message = user.refusal("game", run, "--trust")
    assert advice_in(message, r"(axiom-bench) \(the embedded scenes\)")
    first_run(user)
    user.types("game", RUN, "--images", "1")


@follows("The images of {} are single objects")
def game_of_a_detector(user: User) -> None:
    run = user.runs("detector", "model=scenes_detector", "data.size=1")
    message = user.refusal("game", run)
    assert advice_in(message, r"(axiom-bench) \(the embedded scenes\)")
    first_run(user)
    user.types("game", RUN, "--images", "1")


@follows("can't import one of a script, a notebook or another function")
def rank_of_a_nested_function(user: User) -> None:
    def my_cam(trace):
        return trace.gradients

    message = user.error(lambda: ab.rank(my_cam))
    user.write("my_file.py", "def my_cam(trace):\n    return trace.gradients\n")
    name = advice_in(message, r"give ab\.rank\('([\w.]+)'\)")
    from axiom_bench.evaluation import plugins

    plugins.plugin_for("method", name)


@follows("The brackets are missing in {line}")
def methods_without_brackets(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "method=grad_cam,xgrad_cam")
    user.types(
        "doctor", "data.size=2", "model=scenes_vgg", advice_in(message, r"write (\S+) for several")
    )


@follows("takes one value, not several as in {line}")
def several_seeds(user: User) -> None:
    message = user.refusal(*SCENES, "data.seed=1,2")
    for seed in (1, 2):
        user.types(
            "run",
            *SCENES,
            advice_in(message, r"with (run=)NAME") + f"seed{seed}",
            f"data.seed={seed}",
            "--cfg",
            "job",
        )
    user.picture("my,photos/a.png")
    quoted = advice_in(message, r"needs quotes: \"data\.seed(=.*?)\"").replace("a,b", "my,photos")
    user.types("doctor", *network("Small"), "data=folder", "target=predicted", f"data.root{quoted}")


@follows("{line} names no values; write {key}=a,b")
def range_of_models(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "model=interval(1,3)")
    user.types(
        "doctor",
        "data.size=2",
        advice_in(message, r"write (\S+)\.").replace("a,b", "scenes_vgg,scenes_resnet"),
    )


@follows("matches nothing, so there is no job; axiom-bench list names the choices")
def pattern_without_a_match(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "model=glob(nothing*)")
    assert "scenes_vgg" in user.types(advice_in(message, r"axiom-bench (list) names"))


@follows("Invalid hydra.searchpath {value}; write")
def search_path_without_quotes(user: User) -> None:
    user.write("my/conf/experiment/mine.yaml", "# @package _global_\ndata:\n  size: 2\n")
    message = user.refusal("doctor", "hydra.searchpath=[/my conf:", "experiment=mine")
    setting = advice_in(message, r"write \"(.*?)\"").replace(
        "/my/conf", str(user.folder / "my/conf")
    )
    user.types("doctor", "model=scenes_vgg", setting, "experiment=mine")


@follows("write KEY=VALUE, a text with signs as")
def list_without_its_end(user: User) -> None:
    message = user.refusal(
        "doctor", "model=scenes_vgg", "data.size=2", "method=[grad_cam,xgrad_cam"
    )
    listed = advice_in(message, r"kinds of quotes: \"(.*?)\"").replace("KEY", "method")
    user.types(
        "doctor",
        "model=scenes_vgg",
        "data.size=2",
        listed.replace("'a','b'", "'grad_cam','xgrad_cam'"),
    )
    user.picture("a & (b/a.png")
    quoted = (
        advice_in(message, r"with signs as \"(.*?)\"")
        .replace("KEY", "data.root")
        .replace("a & b", "a & (b")
    )
    user.types("doctor", *network("Small"), "data=folder", "target=predicted", quoted)


@follows("data.of chooses the images of mosaics; add data=mosaic")
def images_of_mosaics_without_mosaics(user: User) -> None:
    message = user.refusal("doctor", "model=scenes_vgg", "data.of=scenes")
    user.types(
        "run",
        "model=scenes_vgg",
        "data.of=scenes",
        advice_in(message, r"add (data=mosaic)"),
        "--cfg",
        "job",
    )


@follows("has settings below it; set one of them")
def value_for_a_group_of_settings(user: User) -> None:
    message = user.refusal("doctor", "model=scenes_vgg", "data.size=2", "runtime=[2]")
    setting = advice_in(message, r"as (runtime\.\w+)=VALUE")
    user.types("doctor", "model=scenes_vgg", "data.size=2", f"{setting}=2")


@follows("is a path, not KEY=VALUE; axiom-bench --help")
def run_folder_for_a_setting(user: User) -> None:
    first_run(user)
    message = user.refusal("doctor", RUN)
    help_text = user.types(advice_in(message, r"axiom-bench (--help)"))
    assert "report" in help_text
    user.types("report", RUN)


@follows("is code of your own; set model=user model.architecture=")
def model_that_is_a_file(user: User) -> None:
    message = user.refusal("doctor", "model=nets.py:Small", "data.size=2")
    settings = advice_in(message, r"set (.*?)\.$").split()
    user.types("doctor", *network("Small")[2:], *settings, "data.size=2", "target=predicted")


@follows("is a folder; set data=folder data.root=")
def data_that_is_a_folder(user: User) -> None:
    user.picture("photos/a.png")
    message = user.refusal("doctor", *network("Small"), "data=photos")
    user.types(
        "doctor",
        *network("Small"),
        *advice_in(message, r"set (.*?), or").split(),
        "target=predicted",
    )


@follows("Apple's GPUs have no float64")
def gpu_of_apple(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "device=mps")
    user.types("doctor", "model=scenes_vgg", "data.size=2", advice_in(message, r"use (device=cpu)"))


@follows("device={name} needs an NVIDIA GPU that torch can use")
def gpu_that_is_not_there(user: User) -> None:
    user.patch.setattr("torch.cuda.is_available", lambda: False)
    message = user.refusal("doctor", "data.size=2", "device=cuda")
    user.types("doctor", "model=scenes_vgg", "data.size=2", advice_in(message, r"use (device=cpu)"))


@follows("There is no device {name}; set device=auto")
def device_of_another_name(user: User) -> None:
    words = ("doctor", "model=scenes_vgg", "data.size=2")
    message = user.refusal(*words, "device=gpu0")
    for setting in advice_in(message, r"set (device=.*?), or").split(", "):
        user.types(*words, setting)
    # A run would need a GPU, so the settings are only composed.
    with composed([advice_in(message, r"or (device=\w+) for a GPU")]) as composition:
        assert composition.plain_job()["device"]["name"] == "cuda"
    user.patch.setenv(*advice_in(message, r"put (CUDA_VISIBLE_DEVICES=\d)").split("="))
    user.types(*words, "device=auto")


@follows("{key}={} chooses no {}")
def model_that_is_no_name(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "model=null")
    assert "scenes_vgg" in user.types(advice_in(message, r"axiom-bench (list) shows"))


@follows("protocol takes one name, protocol=NAME")
def protocol_by_its_parts(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "protocol=[adcc2021]")
    listed = user.types(*advice_in(message, r"axiom-bench (list protocols) shows").split())
    name = advice_in(listed, r"(?m)^ *(\w+)")
    user.types(
        "run",
        "model=scenes_vgg",
        "data.size=2",
        advice_in(message, r"one name, (protocol=)NAME") + name,
        "--cfg",
        "job",
    )


@follows("can't be set: write a protocol of your own")
def part_of_a_protocol(user: User) -> None:
    message = user.refusal("doctor", "data.size=2", "protocol=adcc2021", "protocol.title=mine")
    from axiom_bench.environment import conf_folder

    place = advice_in(message, r"own, (\S+\.yaml) below").replace("NAME", "mine")
    user.write(f"conf/{place}", (conf_folder() / "protocol/adcc2021.yaml").read_bytes())
    user.types(
        "run",
        advice_in(message, r"below (--config-dir)"),
        "conf",
        "model=scenes_vgg",
        "data.size=2",
        "protocol=mine",
        "--cfg",
        "job",
    )


@follows("{} has no default; set {}=VALUE")
def folder_without_a_root(user: User) -> None:
    user.picture("photos/a.png")
    settings = ("doctor", *network("Small"), "data=folder", "target=predicted")
    message = user.refusal(*settings)
    user.types(*settings, advice_in(message, r"set (\S+)\.$").replace("VALUE", "photos"))


@follows("{absent} isn't set; set {absent}=VALUE")
def setting_that_is_removed(user: User) -> None:
    message = user.refusal("doctor", "model=scenes_vgg", "data.size=2", "~target")
    user.types(
        "doctor",
        "model=scenes_vgg",
        "data.size=2",
        advice_in(message, r"set (\S+)\.$").replace("VALUE", "label"),
    )


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
    message = user.refusal(*settings, "model.weights_folder=nowhere")
    user.save_weights("w/squeezenet1_1.safetensors", "squeezenet1_1")
    user.save_weights("w/shufflenet_v2_x0_5.safetensors", "shufflenet_v2_x0_5")
    user.types(*settings, advice_in(message, r"set (model\.weights_folder) to") + "=w")


@follows("set model.architecture to path/to/file.py:function")
def code_that_is_not_there(user: User) -> None:
    settings = network("Small", "run=first", "target=predicted", *SHORT, "data.size=2")
    message = user.refusal(*settings, "model.architecture=net.py:Small")
    setting = advice_in(message, r"set (model\.architecture to \S+?)\.\n").replace(" to ", "=")
    user.types(
        *settings, setting.replace("path/to/file.py:function", str(user.folder / "nets.py:Small"))
    )


@follows("The suite {suite} fixes {key}: leave {override} out")
def suite_with_another_size(user: User) -> None:
    words = ["suite=scenes-1", "data.size=3"]
    message = user.refusal("run", *words, "--cfg", "job")
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
    message = user.refusal("run=first", *SCENES, "data.cache=cache")
    user.types(
        "run=first", *SCENES, "data.cache=cache", advice_in(message, r"set (data\.cache=null)")
    )


@follows("is of networks that find objects; set model.output=")
def target_of_objects(user: User) -> None:
    message = user.refusal("doctor", "model=scenes_vgg", "data.size=2", "target=matched")
    for target in advice_in(message, r", or target=(.*)\.").split(" or "):
        user.types("doctor", "model=scenes_vgg", "data.size=2", f"target={target}")


@follows("No {kind} is chosen; name some, for example")
def run_without_a_method(user: User) -> None:
    settings = ("run=first", *SCENES, "metric=[box_iou]")
    message = user.refusal(*settings, "method=[]")
    user.types(*settings, advice_in(message, r"for example (\S+\])"))


@follows("needs the package {package}, which isn't installed")
def executor_that_is_not_installed(user: User) -> None:
    user.patch.setitem(__import__("sys").modules, "dask", None)
    user.patch.setitem(__import__("sys").modules, "axiom_bench.run.executors.dask", None)
    message = user.refusal("run=first", *SCENES, "executor=dask")
    user.types("run=first", *SCENES, advice_in(message, r"or choose (executor=local)"))


@follows("combine them again: axiom-bench report")
def combination_without_a_hash(user: User) -> None:
    runs = two_runs(user)
    user.types("report", *runs, "--output", "both")
    content = entries_of(user.folder / "both")
    files.write_json(user.folder / "both/manifest.json", {**content, "sha256": {}})
    message = user.refusal("report", "both")
    command = advice_in(message, r"axiom-bench (report RUN RUN --output \S+)\.\s")
    for run in runs:
        command = command.replace("RUN", run, 1)
    user.types(*command.split())
    user.types("report", "both")
