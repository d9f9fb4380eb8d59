"""Advice of the commands on what they read and write."""

from __future__ import annotations

import json
import shutil

import axiom_bench as ab
from axiom_bench.records import files
from axiom_bench.run.composing.composition import composed
from tests.advice.user import RUN, SCENES, User, advice_in, first_run, follows, network
from tests.made_runs import entries_of


@follows("Name the model: --model resnet18")
def explain_without_a_model(user: User) -> None:
    user.picture("a.png")
    message = user.refusal(["explain", "a.png", "--methods", "grad_cam"])
    command = [
        "explain",
        "a.png",
        "--methods",
        "grad_cam",
        "--layer",
        "layer4",
        "model.weights=null",
        *advice_in(message, r"model: (--model resnet18)").split(),
    ]
    user.types(command)
    user.write("net.py", "from nets import Small\n\n\ndef build():\n    return Small()\n")
    user.save_weights("mine.pth", "Small")
    own = advice_in(message, r"your own: (.*)\.").replace("FILE", "mine.pth").split()
    command_with_own_network = [
        "explain",
        "a.png",
        "--methods",
        "grad_cam",
        "--output",
        "own.png",
        *own,
        *network("Small")[3:],
    ]
    user.types(command_with_own_network)


@follows("explain takes one network and one layer; name them")
def explain_with_two_networks(user: User) -> None:
    user.picture("a.png")
    command = [
        "explain",
        "a.png",
        "--methods",
        "grad_cam",
        "model=resnet18,resnet50",
        "model.weights=null",
    ]
    message = user.refusal(command)
    named = advice_in(message, r"name them: (.*)\.").split()
    user.types(["explain", "a.png", "--methods", "grad_cam", "model.weights=null", *named])


def explain_words(user: User, *arguments: str) -> tuple[str, ...]:
    user.picture("a.png")
    return ("explain", "a.png", *network("Small"), "--methods", "grad_cam", *arguments)


@follows("{path} is a folder, which isn't replaced; give another --output")
def explain_into_a_folder_called_as_a_picture(user: User) -> None:
    (user.folder / "maps.png").mkdir()
    message = user.refusal(explain_words(user, "--output", "maps.png"))
    user.types(explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))


@follows("exists already; give another --output, or --overwrite")
def explain_into_a_file_that_is_there(user: User) -> None:
    user.write("maps.png", "mine")
    message = user.refusal(explain_words(user, "--output", "maps.png"))
    user.types(explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))
    user.types(explain_words(user, "--output", "maps.png", advice_in(message, r"or (--overwrite)")))


@follows("would replace an image that is to be explained")
def explain_into_the_image(user: User) -> None:
    message = user.refusal(explain_words(user, "--output", "a.png"))
    user.types(explain_words(user, advice_in(message, r"give another (--output)"), "others.png"))


@follows("Name an image, or a folder of images: axiom-bench explain photo.jpg")
def explain_nothing(user: User) -> None:
    user.picture("photo.jpg")
    message = user.refusal(["explain", *network("Small")])
    command = [
        *advice_in(message, r"axiom-bench (explain photo\.jpg)").split(),
        *network("Small"),
        "--methods",
        "grad_cam",
    ]
    user.types(command)


@follows("The network finds no")
def explain_with_a_detector_that_finds_nothing(user: User) -> None:
    user.picture("a.png", 96)
    options = ("explain", "a.png", "--model", "scenes_detector", "--methods", "grad_cam")
    message = user.refusal([*options, "model.min_probability=1"])
    user.types([*options, advice_in(message, r"lower (model\.min_probability)") + "=0"])


@follows("the network finds no")
def run_of_a_detector_that_finds_nothing(user: User) -> None:
    options = ("doctor", "model=scenes_detector", "data.size=1", "target=detections")
    message = user.refusal([*options, "model.min_probability=1"])
    user.types([*options, advice_in(message, r"lower (model\.min_probability)") + "=0.01"])


@follows("is written into a baseline; add --write")
def gate_with_a_reason(user: User) -> None:
    first_run(user)
    message = user.refusal(["gate", RUN, "--baseline", "b.csv", "--reason", "new"])
    command = [
        "gate",
        RUN,
        "--baseline",
        "b.csv",
        "--reason",
        "new",
        advice_in(message, r"add (--write)"),
    ]
    user.types(command)


@follows("there is no baseline {file}; write it from a run with --write")
def gate_without_a_baseline(user: User) -> None:
    first_run(user)
    message = user.refusal(["gate", RUN, "--baseline", "b.csv"])
    user.types(["gate", RUN, "--baseline", "b.csv", advice_in(message, r"with (--write)")])
    user.types(["gate", RUN, "--baseline", "b.csv"])


@follows("can't be compared; give two: axiom-bench compare")
def one_run_to_compare(user: User) -> None:
    first_run(user)
    message = user.refusal(["compare", RUN])
    advice = advice_in(message, r"axiom-bench (compare \S+ \S+[^.])\.")
    user.types([word if word == "compare" else RUN for word in advice.split()])


@follows("Give a run folder to judge its metrics, or --metric NAME")
def judge_nothing(user: User) -> None:
    message = user.refusal(["judge"])
    # Judging the metrics takes minutes.
    user.patch.setattr("axiom_bench.cli.judge.judge_metrics", lambda names, better: (0, names))
    user.types(["judge", advice_in(message, r"or (--metric) NAME"), "box_iou"])


@follows("run it with spoiled=all to judge metrics by it")
def judge_by_a_run_without_spoiled_explainers(user: User) -> None:
    settings = (
        "model=planted_additive",
        "data.size=10",
        "method=[grad_cam,xgrad_cam,uniform]",
        "metric=[box_iou]",
    )
    run = user.runs("judged", settings)
    message = user.refusal(["judge", run, "--truth", run])
    spoiled = user.runs("spoiled", [*settings, advice_in(message, r"run it with (spoiled=all)")])
    user.types(["judge", run, "--truth", spoiled])


@follows("run them with these metrics and data.size={FEWEST_IMAGES} or more")
def judge_by_too_few_images(user: User) -> None:
    settings = ("model=planted_additive", "method=[grad_cam,xgrad_cam,uniform]", "metric=[box_iou]")
    run = user.runs("judged", [*settings, "data.size=10"])
    spoiled = "spoiled=[truth,noise]"
    few = user.runs("few", [*settings, spoiled, "data.size=2"])
    message = user.refusal(["judge", run, "--truth", few])
    more = user.runs("more", [*settings, spoiled, advice_in(message, r"(data\.size=\d+) or more")])
    user.types(["judge", run, "--truth", more])


@follows("{output} is no folder; give another --output")
def leaderboard_into_a_file(user: User) -> None:
    user.write("site", "mine")
    message = user.refusal(["leaderboard", "--output", "site"])
    user.patch.setattr("axiom_bench.cli.leaderboard.published_folders", lambda suite: {})
    user.types(["leaderboard", advice_in(message, r"give another (--output)"), "pages"])


@follows("write {key}=[a,b] for a list")
def report_with_a_list_that_is_no_list(user: User) -> None:
    first_run(user)
    message = user.refusal(["report", RUN, "report.headline=[conservation_error"])
    setting = advice_in(message, r"write (\S+) for a list").replace("a,b", "conservation_error")
    user.types(["report", RUN, setting])


@follows("report.methods names no method")
def report_of_no_method(user: User) -> None:
    first_run(user)
    message = user.refusal(["report", RUN, "report.methods=[]"])
    user.types(["report", RUN, advice_in(message, r"write (\S+) for all")])


@follows("{key} has no text")
def report_with_an_empty_title(user: User) -> None:
    first_run(user)
    message = user.refusal(["report", RUN, "method.xgrad_cam.title="])
    user.types(["report", RUN, advice_in(message, r"write (\S+)\.").replace("TITLE", "Ours")])


@follows("axiom-bench report computes nothing")
def report_with_a_setting_of_the_run(user: User) -> None:
    first_run(user)
    message = user.refusal(["report", RUN, "metric.confidence_drop.params.fill=mean"])
    setting = advice_in(message, r"axiom-bench \.\.\. (\S+)\.$")
    # composing the run is enough: to run it takes longer
    with composed(["metric=[confidence_drop]", setting]) as composition:
        assert composition.plain()["metric"]["confidence_drop"]["params"]["fill"] == "mean"
    title = advice_in(message, r"method.NAME.title and (metric.NAME.title);")
    user.types(["report", RUN, f"{title.replace('NAME', 'conservation_error')}=Sum"])


@follows("isn't a run of the suite {suite}")
def report_of_a_suite_that_the_run_is_not_of(user: User) -> None:
    first_run(user)
    message = user.refusal(["report", RUN, "report.reference=scenes-1"])
    setting = advice_in(message, r"axiom-bench (suite=\S+) makes one")
    with composed([setting]) as composition:  # to run it takes minutes
        assert composition.plain_job()["run"].startswith("scenes-1")


@follows("{folder} is one of the runs; give --output")
def report_of_two_runs_into_one(user: User) -> None:
    runs = two_runs(user)
    message = user.refusal(["report", *runs, "--output", runs[0]])
    command = ["report", *runs, advice_in(message, r"give (--output) a folder of its own"), "both"]
    user.types(command)


def two_runs(user: User) -> tuple[str, str]:
    first_run(user)
    return RUN, user.runs("second", ["method=[hires_cam]"])


@follows("records/combining.py: {folder} is no folder")
def report_of_two_runs_into_a_file(user: User) -> None:
    runs = two_runs(user)
    user.write("both", "mine")
    message = user.refusal(["report", *runs, "--output", "both"])
    user.types(["report", *runs, advice_in(message, r"give another (--output)"), "others"])


@follows("{folder} is a run folder, which isn't replaced; give another --output")
def report_of_two_runs_into_a_third(user: User) -> None:
    runs = two_runs(user)
    shutil.copytree(user.folder / RUN, user.folder / "third")
    message = user.refusal(["report", *runs, "--output", "third"])
    user.types(["report", *runs, advice_in(message, r"give another (--output)"), "both"])


@follows("is a run of another version of axiom-bench")
def run_folder_of_another_version(user: User) -> None:
    first_run(user)
    manifest = user.folder / RUN / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": -1}))
    message = user.refusal(["run=first", *SCENES])
    user.types([advice_in(message, r"another (run=)NAME") + "second", *SCENES])


@follows("Can't write results to {folder}")
def results_where_a_file_is(user: User) -> None:
    user.write("results", "mine")
    message = user.refusal(["run=first", *SCENES])
    user.types(["run=first", *SCENES, advice_in(message, r"with (results=)FOLDER") + "others"])


@follows("names code, which would run with your rights")
def game_of_a_run_with_own_code(user: User) -> None:
    user.write("own.py", "def cam(trace):\n    return trace.gradients.mean((2, 3))\n")
    run = user.runs("own", ["+method.mine._target_=own.cam"])
    message = user.refusal(["game", run, "--images", "1"])
    user.types(["game", run, "--images", "1", advice_in(message, r"Add (--trust)")])


@follows("names files of this machine, which would be read")
def game_of_a_run_with_own_files(user: User) -> None:
    (user.folder / "cache").mkdir()
    run = user.runs("cached", ["data.cache=cache"])
    message = user.refusal(["game", run, "--images", "1"])
    user.types(["game", run, "--images", "1", advice_in(message, r"Add (--trust)")])


@follows("exactly two classes: choose --images")
def game_of_more_images_than_there_are(user: User) -> None:
    first_run(user)
    message = user.refusal(["game", RUN, "--images", "6"])
    user.types(["game", RUN, *advice_in(message, r"choose (--images \d+)").split()])
    larger = user.runs("larger", [advice_in(message, r"such as (data\.size=\d+)")])
    user.types(["game", larger, "--images", "6", "--output", "larger.html"])


@follows("in addition to the {} of the game")
def game_with_too_few_other_images(user: User) -> None:
    run = user.runs("few", ["data.size=9", "data.seed=2"])
    message = user.refusal(["game", run])
    user.types(["game", run, *advice_in(message, r"choose (--images \d+)").split()])
    larger = user.runs("larger", [advice_in(message, r"with a larger (data\.size)") + "=24"])
    user.types(["game", larger, "--output", "larger.html"])


@follows("No image of {} in this run shows exactly two classes")
def game_of_images_of_one_class(user: User) -> None:
    for name in "abc":
        user.picture(f"photos/{name}/1.png")
    run = user.runs(
        "photos",
        [
            *network("Small"),
            "model.classes=[a,b,c]",
            "data=folder",
            "data.root=photos",
            "data.size=null",
        ],
    )
    message = user.refusal(["game", run, "--trust"])
    assert advice_in(message, r"(axiom-bench) \(the embedded scenes\)")
    first_run(user)
    user.types(["game", RUN, "--images", "1"])


@follows("The images of {} are single objects")
def game_of_a_detector(user: User) -> None:
    run = user.runs("detector", ["model=scenes_detector", "data.size=1"])
    message = user.refusal(["game", run])
    assert advice_in(message, r"(axiom-bench) \(the embedded scenes\)")
    first_run(user)
    user.types(["game", RUN, "--images", "1"])


@follows("so it can't take one that a script, a notebook or a function defines")
def rank_of_a_nested_function(user: User) -> None:
    def my_cam(trace):
        return trace.gradients

    message = user.error(lambda: ab.rank(my_cam))
    user.write("my_file.py", "def my_cam(trace):\n    return trace.gradients\n")
    name = advice_in(message, r"give ab\.rank\('([\w.]+)'\)")
    from axiom_bench.evaluation import plugins

    plugins.plugin_for("method", name)


@follows("combine them again: axiom-bench report")
def combination_without_a_hash(user: User) -> None:
    runs = two_runs(user)
    user.types(["report", *runs, "--output", "both"])
    content = entries_of(user.folder / "both")
    files.write_json(user.folder / "both/manifest.json", {**content, "sha256": {}})
    message = user.refusal(["report", "both"])
    command = advice_in(message, r"axiom-bench (report RUN RUN --output \S+)\.\s")
    for run in runs:
        command = command.replace("RUN", run, 1)
    user.types(command.split())
    user.types(["report", "both"])
