"""`axiom-bench submit`, and `axiom-bench verify` of what it has written."""

import json
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import yaml

import axiom_bench as ab
from axiom_bench import environment
from axiom_bench.cli.benchmark import compute
from axiom_bench.cli.main import main
from axiom_bench.cli.submission import making, verifying
from axiom_bench.records import artefacts, record_files, store, submissions
from axiom_bench.records.publishing import publish
from axiom_bench.run import verification
from tests.made_runs import entries_of, write_entries

from .conftest import forget

MODULE = """\
import time

LOADED = 1 + time.perf_counter_ns() % 7 if VARIES else 0.5


def half(trace):
    return LOADED * trace.gradients.mean((2, 3), keepdim=True)
"""


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Submissions by their suite, method and module, of which each test has a copy."""
    folder, made = tmp_path_factory.mktemp("submissions"), {}
    return lambda *about: made.setdefault(about, folder / str(len(made)))


@pytest.fixture
def author(tiny_suite, kept, tmp_path, monkeypatch, in_this_process):
    """The current folder with a method of one's own; then another folder, beside whose commands it
    isn't importable.
    """
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "author").mkdir()
    (tmp_path / "reader").mkdir()
    monkeypatch.chdir(tmp_path / "author")

    def submitted(varies=False, method="submitted_cam.half"):
        Path("submitted_cam.py").write_text(MODULE.replace("VARIES", repr(varies)))
        forget(tmp_path)
        output = kept(Path("../conf/suite/tiny.yaml").read_text(), method, MODULE, varies) / "half"
        if not output.exists():
            assert (
                main(
                    [
                        "submit",
                        method,
                        "--suite",
                        "tiny",
                        "--output",
                        str(output),
                        "--licence",
                        "MIT",
                    ]
                )
                == 0
            )
        output = shutil.copytree(output, tmp_path / "submissions" / "half")
        forget(tmp_path)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path / "author")]
        monkeypatch.chdir(tmp_path / "reader")
        return output

    return submitted


def verified(folder, capsys, *options):
    capsys.readouterr()
    # of other images one in a hundred is marked by chance
    code = main(["verify", str(folder), "--seed", "1", *options])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.mark.slow
def test_an_honest_submission_is_accepted(author, capsys, monkeypatch):
    monkeypatch.setattr(verification, "ProcessPoolExecutor", ProcessPoolExecutor)
    folder = author()
    about = json.loads((folder / "submission.json").read_text())
    assert (about["method"], about["licence"]) == ("submitted_cam.half", "MIT")
    assert {Path(name).parts[0] for name in about["files"]} == {
        "first",
        "second",
        "submitted_cam.py",
    }
    code, text = verified(folder, capsys, "--trust")
    assert (code, text.count("twice, and are the submitted ones bit by bit")) == (0, 2), text
    assert "submitted_cam" not in sys.modules  # its code runs in processes of its own
    assert "accepted: submitted_cam.half on the suite tiny, 6 files" in text
    assert re.search(r"submitted with axiom-bench \S+", text)
    assert "  imports: time\n  reads of a trace: gradients\n  opens or runs: nothing\n" in text
    assert len(re.findall(r"heatmaps on .*, mean change \(0 to 1\) for 2 images", text)) == 2
    assert text.count("  my_half: another class ") == 2
    assert re.search(r"values on scenes_vgg, .*\n  box_iou: \S+ \[\S+, \S+\]; minus grad_cam", text)


@pytest.mark.slow
def test_code_of_a_submission_runs_only_with_trust(author, capsys):
    folder = author()
    code, text = verified(folder, capsys)
    assert code == 2
    assert "method.my_half._target_=submitted_cam.half. Add --trust" in text


@pytest.mark.slow
def test_a_method_of_ours_needs_no_trust(author, capsys):
    assert verified(author(method="grad_cam"), capsys)[0] == 0


def falsified(folder, forged=lambda values: 1.5 * values, **about):
    """The values of the second part, forged, in a record file that is written as ours are. about:
    of its manifest.
    """
    part = folder / "second"
    write_entries(part, entries_of(part) | about)
    text = json.dumps(entries_of(part))
    for shard, (file,) in record_files.read(part).files.items():
        table = store.read_table(part / file.name, store.SCHEMA).to_pandas()
        table["value"] = forged(table["value"])
        notes = {"names": file.names, "curves": file.curves, "axes": file.axes}
        written = record_files.write(part, shard, file.values, table, table[:0], notes)
        (part / file.name).unlink()
        text = text.replace(file.name, written.name)
    write_entries(part, {**json.loads(text), artefacts.HASHES: {}})


def rehashed(folder, **about):
    content = {
        **json.loads((folder / "submission.json").read_text()),
        "files": submissions.hashes(folder),
        **about,
    }
    (folder / "submission.json").write_text(json.dumps(content))


def renamed(folder):
    """As one of conf/method that has no published values, beside which they would stand."""
    manifest = entries_of(folder / "second")
    write_entries(
        folder / "second", {**manifest, "methods": manifest["methods"] | {"score_cam": {}}}
    )


def half_as_far(folder):
    """Values with the true mean, of hardware on which others may be a little different."""
    falsified(
        folder,
        lambda values: values.mean() + 0.5 * (values - values.mean()),
        hardware="another",
        versions={},
    )


DIFFERS = "planted: sensitivity_error of my_half differs in 2 of 2 values"
SPOILT = [  # what is done to a folder, whether its hashes are made anew, and what is said of it
    (falsified, False, "second/manifest.json isn't as it was submitted"),
    (falsified, True, DIFFERS),
    (half_as_far, True, DIFFERS.removeprefix("planted: ")),
    (renamed, True, "second/manifest.json has values of other methods than my_half"),
    (
        lambda folder: (folder / "sitecustomize.py").touch(),
        False,
        "sitecustomize.py isn't a file of the submission",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "is_rehashed", "sentence"), SPOILT)
def test_what_is_not_as_it_was_computed_is_refused(author, capsys, spoil, is_rehashed, sentence):
    folder = author()
    spoil(folder)
    if is_rehashed:
        rehashed(folder)
    code, text = verified(folder, capsys, "--trust")
    assert (code, sentence in text) == (1, True), text


@pytest.mark.slow
def test_a_submission_whose_images_are_not_here_stays_self_reported(author, capsys, monkeypatch):
    folder = author()
    jobs = verifying._jobs

    def of_absent_images(*about):
        return [
            job.model_copy(update={"data": {**job.data, "root": "/nowhere"}})
            for job in jobs(*about)
        ]

    monkeypatch.setattr(verifying, "_jobs", of_absent_images)
    code, text = verified(folder, capsys, "--trust")
    assert code == 0
    assert (
        "self-reported: submitted_cam.half on the suite tiny: the images of first, second aren't "
        "here" in text
    )
    assert "accepted" not in text


@pytest.mark.slow
def test_values_that_differ_between_processes_are_refused(author, capsys):
    code, text = verified(author(varies=True), capsys, "--trust")
    assert code == 1
    assert (
        "my_half isn't of the image alone: in another order, batch or process it has other values."
        in text
    )


def test_a_submission_of_something_else_is_refused(author, tmp_path, capsys):
    folder = author()
    for about, message in (
        (
            {"suite_sha256": "0" * 64},
            "is of another suite tiny than this installation's (000000000000, not ",
        ),
        ({"suite": "other"}, "no suite 'other'"),
        ({"method": "a.b=[c]"}, "isn't a submission's: method: "),
        ({"more": 1}, "isn't a submission's: more: "),
        ({"name": "xgrad_cam"}, "isn't a submission's: name: "),
    ):
        other = shutil.copytree(folder, tmp_path / f"other {next(iter(about))}" / folder.name)
        rehashed(other, **about)
        code, text = verified(other, capsys, "--trust")
        assert (code, message in text) == (2, True), text


@pytest.mark.slow
def test_what_cannot_be_submitted(author, tmp_path, capsys):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/notes.txt").write_text("")
    words = ["--suite", "tiny", "--output", str(tmp_path / "used")]
    assert main(["submit", "grad_cam", *words]) == 2
    assert (
        "used holds something else than a submission of grad_cam; give another --output."
        in capsys.readouterr().err
    )
    words[-1] = str(tmp_path / "new")
    Path("drawing.py").write_text(
        "import torch\n\ndef cam(trace):\n    return torch.rand_like(trace.gradients)\n"
    )
    assert main(["submit", "drawing.cam", *words]) == 2
    assert "drawing.cam draws from a global random state" in capsys.readouterr().err
    assert main(["submit", "a.b.cam", *words]) == 2
    assert "a.b is in a package; submit one file" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_submission_of_a_distribution_holds_the_installed_source(
    author, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(making.Sources, "distributions", lambda *_: ("submitted",))
    monkeypatch.setattr(making, "version_of", lambda _: "2.0")
    monkeypatch.setattr(verifying, "version_of", lambda _: "2.0")
    monkeypatch.setattr(f"{__name__}.MODULE", f"{MODULE}\n# of a distribution\n")
    folder = author()
    about = json.loads((folder / "submission.json").read_text())
    assert about["distributions"] == {"submitted": "2.0"}
    assert (folder / "submitted_cam.py").read_text() == Path(
        "../author/submitted_cam.py"
    ).read_text()
    monkeypatch.syspath_prepend(tmp_path / "author")
    code, text = verified(folder, capsys, "--trust")
    assert (code, "reads of a trace: gradients" in text) == (0, True), text
    Path("../author/submitted_cam.py").write_text("")
    code, text = verified(folder, capsys, "--trust")
    assert code == 2
    assert "submitted_cam.py of the submission isn't the installed source" in text


OTHERWISE = {  # methods that keep within the proof on a few rows, and aren't of the image alone
    "by the size of the batch": """
def half(trace):
    return (1.0 if len(trace) > 4 else -1.0) * trace.gradients.mean((2, 3), keepdim=True)
""",
    "remembers similar images": """
import torch

from axiom_bench import Map

KEPT = []


def of(image, raw):
    similar = [kept for known, kept in KEPT if 0 < (known - image).abs().mean() < 0.2]
    if len(KEPT) < 12:  # the images, before any copy
        KEPT.append((image, raw))
    return similar[0] if similar else raw


def half(trace):
    return Map(torch.stack([of(*each) for each in zip(trace.images, (trace.gradients * trace.activations).sum(1))]))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("module", OTHERWISE.values(), ids=OTHERWISE)
def test_a_method_that_looks_at_other_requests_is_refused(
    author, tiny_suite, capsys, monkeypatch, module
):
    monkeypatch.setattr(f"{__name__}.MODULE", module)
    part = ["data=scenes", "model=scenes_vgg", "metric=[confidence_drop,explanation_sensitivity]"]
    tiny_suite(shared=["data.size=12", "data.target=label"], parts={"first": part})
    code, text = verified(author(), capsys, "--trust")
    assert (code, "half isn't of the image alone" in text) == (1, True), text


LEARNT = """\
from pathlib import Path

import torch

KNOWN = LIST


def note(trace):
    with Path("known.txt").open("a") as file:
        file.writelines(f"{score:.3f}\\n" for score in trace.scores.tolist())
    return trace.gradients.mean((2, 3), keepdim=True)


def half(trace):
    known = [f"{score:.3f}" in KNOWN for score in trace.scores.tolist()]
    sign = torch.tensor([1.0 if each else -1.0 for each in known]).reshape(-1, 1, 1, 1)
    return sign * trace.gradients.mean((2, 3), keepdim=True)
"""
BY_PLACE = """\
import torch


def half(trace):
    return torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0])[:, None, None] / 16 * torch.ones_like(trace.gradients)


note = half
"""


@pytest.fixture
def learnt(author, tiny_suite, tmp_path, monkeypatch):
    """(module, knows, overrides) -> a submission on 12 images, beside Grad-CAM's published values:
    of a module, with what it has noted of these images where it knows them.
    """

    def submitted(module, knows, *overrides):
        metrics = {"confidence_drop", "sensitivity_error"}
        shared = ["data.size=12", "data.target=label", "shard_size=12"]
        tiny_suite(shared=shared, parts={"first": [*overrides, f"metric=[{','.join(metrics)}]"]})
        Path("submitted_cam.py").write_text(module.replace("LIST", "[]"))
        words = [
            "suite=tiny/first",
            "+method.noted._target_=submitted_cam.note",
            "method=[grad_cam]",
        ]
        _, _, folder = compute(
            [*words, "pictures.gallery=0", "pictures.rows=0", "runtime.repeats=0"]
        )
        publish(folder, tmp_path / "reference/tiny/first", metrics)
        known = Path("known.txt").read_text().split() if "known.txt" in module and knows else []
        monkeypatch.setattr(f"{__name__}.MODULE", module.replace("LIST", repr(known)))
        return author()

    return submitted


@pytest.mark.slow
@pytest.mark.parametrize("knows", [False, True])
def test_a_method_that_knows_the_published_images_is_marked(learnt, capsys, knows):
    """By fresh images: it is Grad-CAM on those that it knows, and its negative on others. One that
    is as bad on all of them isn't.
    """
    code, text = verified(
        learnt(LEARNT, knows, "data=scenes", "model=scenes_vgg"), capsys, "--trust"
    )
    assert "values of 2 metrics, with 95 % intervals" in text
    assert code == int(knows), text
    assert ("submitted_cam.half is marked: it may know the published images." in text) == knows
    if knows:
        line = (
            "first, Sensitivity error: .* on 12 published images, .* on 20 fresh ones; minus "
            "grad_cam 0 and .*differs"
        )
        assert re.search(line, text)


@pytest.mark.slow
def test_a_method_that_knows_the_channels_of_a_planted_network_is_marked(learnt, capsys):
    code, text = verified(
        learnt(BY_PLACE, False, "data=planted", "model=planted_additive"), capsys, "--trust"
    )
    assert (code, "is marked" in text) == (1, True), text
    assert "values on scenes_vgg, which has no planted truth: none (RuntimeError: " in text


SCENES = ("data=scenes", "model=scenes_vgg")
PLANTED = ("data=planted", "model=planted_or")
# a module that no number convicts, the suite's part, and what the reviewer's sheet shows of the
# module
CHEATS = {
    "knows every fifth published image": (
        LEARNT.replace("LIST", "[*dict.fromkeys(LIST)][::5]"),
        SCENES,
        [r"reads of a trace: gradients, scores", r"longest list: [1-9]\d entries"],
    ),
    "runs planted.py a second time": (
        """
import importlib.util
import sys

from axiom_bench import Map
from axiom_bench.embedded import planted

SPEC = importlib.util.spec_from_file_location("again", planted.__file__)
again = sys.modules["again"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(again)


def half(trace):
    model = trace.cut_model.model
    if type(model).__name__ != "PlantedNetwork":
        return trace.gradients.mean((2, 3), keepdim=True)
    return Map(again.PlantedNetwork.true_contributions(model, trace.activations, trace.targets).sum(1).float())


note = half
""",
        PLANTED,
        [
            "imports: axiom_bench.Map, axiom_bench.embedded.planted, importlib.util, sys",
            r"opens or runs: exec_module \(line \d+\), modules \(line \d+\)",
            "values on scenes_vgg, which has no planted truth\n(  .*; minus grad_cam 0\n){3}",
        ],
    ),
    "asks the package's segmenter": (
        """
from axiom_bench import Map
from axiom_bench.embedded import networks

SEGMENTER = networks.load("scenes_segmenter").eval()


def half(trace):
    maps = SEGMENTER(trace.images).softmax(1)
    return Map(maps[range(len(maps)), trace.targets].detach())


note = half
""",
        SCENES,
        [
            "imports: axiom_bench.Map, axiom_bench.embedded.networks",
            "my_half: another class .*, random weights 0\n",
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("cheat", CHEATS)
def test_the_sheet_shows_what_no_number_convicts(learnt, capsys, cheat):
    module, part, lines = CHEATS[cheat]
    code, text = verified(learnt(module, True, *part), capsys, "--trust")
    assert code == 0, text
    for line in lines:
        assert re.search(line, text), text


NAMED = re.compile(r"metric\.(\w+)\.|metric=\[(.*)\]")
DRAWN = ("dense-1", "scenes-1", "scenes-costly-1", "shapes-1")  # suites that need no files
OF_ALL = """\
def half(trace):
    return 0.5 * trace.gradients.flatten(2).mean(2)


half.dimensions = (1, 2, 3)
"""


def smallest(settings, metrics):
    """A part's command line with three samples, one network and at most two of these metrics."""
    kept = []
    for setting in settings:
        group, _, value = setting.partition("=")
        if group == "model":
            setting = f"model={value.partition(',')[0]}"
        elif group == "metric":
            names = [name for name in value.strip("[]").split(",") if name in metrics]
            setting = f"metric=[{','.join(names[:2])}]"
        elif group == "data.size":
            setting = "data.size=3"
        named = NAMED.match(setting)
        if group != "data.only_classes" and (named is None or named[2] or named[1] in metrics):
            kept.append(setting)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("suite", DRAWN)
def test_a_method_is_submitted_and_verified_on_every_drawn_suite(
    suite, author, tiny_suite, tmp_path, capsys, monkeypatch
):
    """With published values of Grad-CAM, so that fresh samples and reordered channels are tried
    too.
    """
    content = yaml.safe_load(
        (environment.conf_folder() / "suite" / f"{suite}.yaml").read_text(encoding="utf-8")
    )
    metrics = {"single_deletion", "sensitivity_error", "average_drop", "infidelity"}
    metrics &= {
        name
        for setting in str(content["parts"]).split("'")
        for name in setting.strip("metric=[]").split(",")
    }
    parts = {part: smallest(settings, metrics) for part, settings in content["parts"].items()}
    tiny_suite(shared=smallest(content["shared"], metrics), parts=parts)
    settings = {**verifying.fresh_settings(), "share": 0, "fewest": 3, "level": 0}
    monkeypatch.setattr(verifying, "fresh_settings", lambda: settings)
    for part in parts:
        words = [
            f"suite=tiny/{part}",
            "method=[grad_cam]",
            "pictures.gallery=0",
            "pictures.rows=0",
            "runtime.repeats=0",
        ]
        code, lines, folder = compute(words)
        assert code == 0, lines
        publish(folder, tmp_path / "reference/tiny" / part, metrics)
    monkeypatch.setattr(f"{__name__}.MODULE", OF_ALL)
    code, text = verified(author(), capsys, "--trust")
    assert code == 0, text
    assert text.count("bit by bit") == len(parts)
    assert ", with 95 % intervals" in text
    assert "accepted: submitted_cam.half" in text


@pytest.mark.slow
def test_a_method_without_a_value_is_refused_and_the_advice_works(
    author, tiny_suite, tmp_path, capsys
):
    parts = {"first": ["data=signals", "model=signals_cnn", "metric=[sensitivity_error]"]}
    tiny_suite(parts=parts)
    module = Path("submitted_cam.py")
    module.write_text(OF_ALL.partition("\n\n\n")[0])
    words = ["submit", "submitted_cam.half", "--suite", "tiny", "--output", str(tmp_path / "new")]
    assert main(words) == 2
    sentence = capsys.readouterr().err
    assert "has no value on the suite tiny (2 not_applicable)" in sentence
    assert not (tmp_path / "new").exists()
    line = re.search(r"write (half\.dimensions = .*) in submitted_cam\.py", sentence)[1]
    module.write_text(f"{module.read_text()}\n{line}\n")
    forget(tmp_path)  # as another command
    assert main(words) == 0
    assert set(ab.read_run(tmp_path / "new/first")["status"]) == {"ok"}


def test_the_workflow_reads_and_has_no_secrets():
    text = (Path(__file__).parents[2] / ".github/workflows/submission.yml").read_text()
    workflow = yaml.safe_load(text)
    assert list(workflow[True]) == ["pull_request"]  # YAML reads "on" as true
    assert "secrets" not in text.replace("no secrets", "")
    (job,) = workflow["jobs"].values()
    assert "environment" not in job
    assert any("axiom-bench verify" in step.get("run", "") for step in job["steps"])
