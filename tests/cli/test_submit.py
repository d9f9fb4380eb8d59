"""Tests of `axiom-bench submit`, and of `axiom-bench verify` for its submissions."""

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
PLAIN_MODULE = MODULE.replace("VARIES", "False")


PUBLISHED_RUN = (  # of the method whose values are published
    "method=[grad_cam]",
    "pictures.gallery=0",
    "pictures.rows=0",
    "runtime.repeats=0",
)


@pytest.fixture(scope="session")
def cached_folder(tmp_path_factory):
    """A function that returns the folder of a key, such as a suite, a method and its module.

    The folder keeps what the first test of the key has computed, so that other tests copy it.
    """
    root = tmp_path_factory.mktemp("submissions")
    folders = {}

    def cached(*key):
        return folders.setdefault(key, root / str(len(folders)))

    return cached


@pytest.fixture
def author(tiny_suite, cached_folder, tmp_path, monkeypatch, in_this_process):
    """A function that submits a user's method and returns the folder of the submission.

    The current folder is the author's until then. Afterwards it is a reader's, whose commands can't
    import the method.
    """
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "author").mkdir()
    (tmp_path / "reader").mkdir()
    monkeypatch.chdir(tmp_path / "author")

    def submit(module=PLAIN_MODULE, method="submitted_cam.half"):
        Path("submitted_cam.py").write_text(module)
        forget(tmp_path)
        suite = Path("../conf/suite/tiny.yaml").read_text()
        output = cached_folder(suite, method, module) / "half"
        if not output.exists():
            command = ["submit", method, "--suite", "tiny", "--output", str(output)]
            assert main([*command, "--licence", "MIT"]) == 0
        submission = shutil.copytree(output, tmp_path / "submissions" / "half")
        forget(tmp_path)
        sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path / "author")]
        monkeypatch.chdir(tmp_path / "reader")
        return submission

    return submit


def verify(folder, capsys, *options):
    """Verify a submission, and return the exit code and the printed text."""
    capsys.readouterr()
    # With another seed, and so other images, one submission in a hundred is marked by chance.
    code = main(["verify", str(folder), "--seed", "1", *options])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.mark.slow
def test_an_honest_submission_is_accepted(author, capsys, monkeypatch):
    monkeypatch.setattr(verification, "ProcessPoolExecutor", ProcessPoolExecutor)
    folder = author()
    content = json.loads((folder / "submission.json").read_text())
    assert content["method"] == "submitted_cam.half"
    assert content["licence"] == "MIT"
    names = {Path(name).parts[0] for name in content["files"]}
    assert names == {"first", "second", "submitted_cam.py"}

    code, text = verify(folder, capsys, "--trust")

    assert code == 0, text
    assert text.count("twice, and are the submitted ones bit by bit") == 2, text
    assert "submitted_cam" not in sys.modules  # the submitted code runs in other processes
    assert "accepted: submitted_cam.half on the suite tiny, 6 files" in text
    assert re.search(r"submitted with axiom-bench \S+", text)
    assert "  imports: time\n  reads of a trace: gradients\n  opens or runs: nothing\n" in text
    assert len(re.findall(r"heatmaps on .*, mean change \(0 to 1\) for 2 images", text)) == 2
    assert text.count("  my_half: another class ") == 2
    assert re.search(r"values on scenes_vgg, .*\n  box_iou: \S+ \[\S+, \S+\]; minus grad_cam", text)


@pytest.mark.slow
def test_code_of_a_submission_runs_only_with_trust(author, capsys):
    folder = author()
    code, text = verify(folder, capsys)
    assert code == 2
    assert "method.my_half._target_=submitted_cam.half. Add --trust" in text


@pytest.mark.slow
def test_a_method_of_ours_needs_no_trust(author, capsys):
    code, _ = verify(author(method="grad_cam"), capsys)
    assert code == 0


def rewrite_values(folder, change, **entries):
    """Change the values of the second part, in record files written as the product writes them.

    Args:
        folder: The submission.
        change: The function from the values to the forged values.
        **entries: New entries of the part's manifest.
    """
    part = folder / "second"
    write_entries(part, entries_of(part) | entries)
    text = json.dumps(entries_of(part))
    for shard, (file,) in record_files.read(part).files.items():
        table = store.read_table(part / file.name, store.SCHEMA).to_pandas()
        table["value"] = change(table["value"])
        notes = {"names": file.names, "curves": file.curves, "axes": file.axes}
        written = record_files.write(part, shard, file.values, table, table[:0], notes)
        (part / file.name).unlink()
        text = text.replace(file.name, written.name)
    write_entries(part, {**json.loads(text), artefacts.HASHES: {}})


def hash_again(folder, **entries):
    """Write the hashes of the present files, and other entries, into submission.json."""
    file = folder / "submission.json"
    content = json.loads(file.read_text())
    hashes = submissions.hashes(folder)
    file.write_text(json.dumps({**content, "files": hashes, **entries}))


def multiply_values(folder):
    rewrite_values(folder, lambda values: 1.5 * values)


def halve_spread(folder):
    """Write values with the true mean, and hardware on which values may differ slightly."""
    rewrite_values(
        folder,
        lambda values: values.mean() + 0.5 * (values - values.mean()),
        hardware="another",
        versions={},
    )


def add_method(folder):
    """Add a method of conf/method that has no published values.

    The leaderboard would show the submission's values as this method's.
    """
    manifest = entries_of(folder / "second")
    methods = manifest["methods"] | {"score_cam": {}}
    write_entries(folder / "second", {**manifest, "methods": methods})


def add_file(folder):
    (folder / "sitecustomize.py").touch()


DIFFERS = "planted: sensitivity_error of my_half differs in 2 of 2 values"
FORGERIES = [  # the change, whether its author writes new hashes, and the sentence
    (multiply_values, False, "second/manifest.json isn't as it was submitted"),
    (multiply_values, True, DIFFERS),
    (halve_spread, True, DIFFERS.removeprefix("planted: ")),
    (add_method, True, "second/manifest.json has values of other methods than my_half"),
    (add_file, False, "sitecustomize.py isn't a file of the submission"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("forge", "is_rehashed", "sentence"), FORGERIES)
def test_what_is_not_as_it_was_computed_is_refused(author, capsys, forge, is_rehashed, sentence):
    folder = author()
    forge(folder)
    if is_rehashed:
        hash_again(folder)
    code, text = verify(folder, capsys, "--trust")
    assert code == 1, text
    assert sentence in text


@pytest.mark.slow
def test_a_submission_whose_images_are_not_here_stays_self_reported(author, capsys, monkeypatch):
    folder = author()
    jobs = verifying._jobs

    def jobs_without_images(*arguments):
        changed = []
        for job in jobs(*arguments):
            data = {**job.data, "root": "/nowhere"}
            changed.append(job.model_copy(update={"data": data}))
        return changed

    monkeypatch.setattr(verifying, "_jobs", jobs_without_images)
    code, text = verify(folder, capsys, "--trust")
    assert code == 0
    assert (
        "self-reported: submitted_cam.half on the suite tiny: the images of first, second aren't "
        "here" in text
    )
    assert "accepted" not in text


@pytest.mark.slow
def test_values_that_differ_between_processes_are_refused(author, capsys):
    code, text = verify(author(MODULE.replace("VARIES", "True")), capsys, "--trust")
    assert code == 1
    sentence = (
        "my_half depends on more than its image: in another order, batch or process it has other "
        "values."
    )
    assert sentence in text


@pytest.mark.slow
def test_a_submission_of_something_else_is_refused(author, tmp_path, capsys):
    folder = author()
    for key, value, message in (
        (
            "suite_sha256",
            "0" * 64,
            "is of another suite tiny than this installation's (000000000000, not ",
        ),
        ("suite", "other", "no suite 'other'"),
        ("method", "a.b=[c]", "isn't a submission's: method: "),
        ("more", 1, "isn't a submission's: more: "),
        ("name", "xgrad_cam", "isn't a submission's: name: "),
    ):
        changed = shutil.copytree(folder, tmp_path / f"other {key}" / folder.name)
        hash_again(changed, **{key: value})
        code, text = verify(changed, capsys, "--trust")
        assert code == 2, text
        assert message in text


@pytest.mark.slow
def test_what_cannot_be_submitted(author, tmp_path, capsys):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/notes.txt").write_text("")
    sentence = "used holds files other than a submission of grad_cam; give another --output."
    used_folder = ["--suite", "tiny", "--output", str(tmp_path / "used")]
    assert main(["submit", "grad_cam", *used_folder]) == 2
    assert sentence in capsys.readouterr().err

    new_folder = ["--suite", "tiny", "--output", str(tmp_path / "new")]
    module = "import torch\n\ndef cam(trace):\n    return torch.rand_like(trace.gradients)\n"
    Path("drawing.py").write_text(module)
    assert main(["submit", "drawing.cam", *new_folder]) == 2
    assert "drawing.cam draws from a global random state" in capsys.readouterr().err

    assert main(["submit", "a.b.cam", *new_folder]) == 2
    assert "a.b is in a package; submit one file" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_submission_of_a_distribution_holds_the_installed_source(
    author, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(making.Sources, "distributions", lambda *_: ("submitted",))
    monkeypatch.setattr(making, "version_of", lambda _: "2.0")
    monkeypatch.setattr(verifying, "version_of", lambda _: "2.0")
    folder = author(f"{PLAIN_MODULE}\n# of a distribution\n")
    installed = Path("../author/submitted_cam.py")

    content = json.loads((folder / "submission.json").read_text())
    assert content["distributions"] == {"submitted": "2.0"}
    assert (folder / "submitted_cam.py").read_text() == installed.read_text()

    monkeypatch.syspath_prepend(tmp_path / "author")
    code, text = verify(folder, capsys, "--trust")
    assert code == 0, text
    assert "reads of a trace: gradients" in text

    installed.write_text("")
    code, text = verify(folder, capsys, "--trust")
    assert code == 2
    assert "submitted_cam.py of the submission isn't the installed source" in text


# Methods whose maps depend on other images. A check of a few rows doesn't detect it.
DEPENDENT_METHODS = {
    "by the size of the batch": """
def half(trace):
    return (1.0 if len(trace) > 4 else -1.0) * trace.gradients.mean((2, 3), keepdim=True)
""",
    "remembers similar images": """
import torch

from axiom_bench import Map

KEPT = []


def map_of(image, own_map):
    similar = [kept for known, kept in KEPT if 0 < (known - image).abs().mean() < 0.2]
    if len(KEPT) < 12:  # the images, before any copy
        KEPT.append((image, own_map))
    return similar[0] if similar else own_map


def half(trace):
    own_maps = (trace.gradients * trace.activations).sum(1)
    return Map(torch.stack([map_of(*pair) for pair in zip(trace.images, own_maps)]))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("module", DEPENDENT_METHODS.values(), ids=DEPENDENT_METHODS)
def test_a_method_that_looks_at_other_requests_is_refused(author, tiny_suite, capsys, module):
    part = ["data=scenes", "model=scenes_vgg", "metric=[confidence_drop,explanation_sensitivity]"]
    tiny_suite(shared=["data.size=12", "data.target=label"], parts={"first": part})
    code, text = verify(author(module), capsys, "--trust")
    assert code == 1, text
    assert "half depends on more than its image" in text


# The image's map is Grad-CAM's if LIST contains its score, and the negative otherwise.
MEMORISING_MODULE = """\
import torch

KNOWN = LIST


def half(trace):
    signs = [1.0 if f"{score:.3f}" in KNOWN else -1.0 for score in trace.scores.tolist()]
    sign = torch.tensor(signs).reshape(-1, 1, 1, 1)
    return sign * trace.gradients.mean((2, 3), keepdim=True)
"""
NOTING_MODULE = """\
from pathlib import Path


def note(trace):
    with Path("known.txt").open("a") as file:
        file.writelines(f"{score:.3f}\\n" for score in trace.scores.tolist())
    return trace.gradients.mean((2, 3), keepdim=True)
"""
# The map depends on the places of a planted network's channels, not on its gradients.
CHANNEL_MODULE = """\
import torch


def half(trace):
    weights = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0])[:, None, None] / 16
    return weights * torch.ones_like(trace.gradients)
"""


@pytest.fixture
def submit_module(author, tiny_suite, cached_folder, tmp_path):
    """A function that submits a module, on 12 images for which Grad-CAM's values are published.

    If `knows`, the module's LIST contains the scores of these images.
    """

    def submit(module, knows, *overrides):
        metrics = ["confidence_drop", "sensitivity_error"]
        shared = ["data.size=12", "data.target=label", "shard_size=12"]
        tiny_suite(shared=shared, parts={"first": [*overrides, f"metric=[{','.join(metrics)}]"]})
        published = cached_folder("published", *overrides)
        if not published.exists():
            Path("noting.py").write_text(NOTING_MODULE)
            run = ["suite=tiny/first", "+method.noted._target_=noting.note", *PUBLISHED_RUN]
            _, _, folder = compute(run)
            publish(folder, published / "first", set(metrics))
            shutil.move("known.txt", published)
        shutil.copytree(published / "first", tmp_path / "reference/tiny/first")
        known = (published / "known.txt").read_text().split() if knows else []
        return author(module.replace("LIST", repr(known)))

    return submit


SCENES = ("data=scenes", "model=scenes_vgg")
PLANTED = ("data=planted", "model=planted_or")


@pytest.mark.slow
@pytest.mark.parametrize("knows", [False, True])
def test_a_method_that_knows_the_published_images_is_marked(submit_module, capsys, knows):
    """Check the comparison of published images with fresh ones.

    The method is Grad-CAM on images that it knows, and the negative on others. It isn't marked if
    it knows no image, since it is equally bad on all of them.
    """
    code, text = verify(submit_module(MEMORISING_MODULE, knows, *SCENES), capsys, "--trust")
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
def test_a_method_that_knows_the_channels_of_a_planted_network_is_marked(submit_module, capsys):
    folder = submit_module(CHANNEL_MODULE, False, "data=planted", "model=planted_additive")
    code, text = verify(folder, capsys, "--trust")
    assert code == 1, text
    assert "is marked" in text
    assert "values on scenes_vgg, which has no planted truth: none (RuntimeError: " in text


# A module that verification accepts, the suite's part, and the lines of the reviewer's sheet that
# make a reviewer suspicious.
CHEATS = {
    "knows every fifth published image": (
        MEMORISING_MODULE.replace("LIST", "[*dict.fromkeys(LIST)][::5]"),
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
    network = again.PlantedNetwork
    contributions = network.true_contributions(model, trace.activations, trace.targets)
    return Map(contributions.sum(1).float())
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
def test_the_sheet_shows_what_no_number_convicts(submit_module, capsys, cheat):
    module, part, lines = CHEATS[cheat]
    code, text = verify(submit_module(module, True, *part), capsys, "--trust")
    assert code == 0, text
    for line in lines:
        assert re.search(line, text), text


METRIC_SETTING = re.compile(r"metric\.(\w+)\.|metric=\[(.*)\]")
SUITES_WITHOUT_FILES = ("dense-1", "scenes-1", "scenes-costly-1", "shapes-1", "words-1")
MODULE_FOR_ALL_DIMENSIONS = """\
def half(trace):
    return 0.5 * trace.gradients.flatten(2).mean(2)


half.dimensions = (1, 2, 3)
"""


def reduce_part(settings, metrics):
    """Return a part's settings with three samples, one network and at most two of `metrics`."""
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
        match = METRIC_SETTING.match(setting)
        is_for_other_metric = match and not match[2] and match[1] not in metrics
        if group != "data.only_classes" and not is_for_other_metric:
            kept.append(setting)
    return kept


def part_metrics(parts):
    """Return the names of all metrics that the parts of a suite compute."""
    names = set()
    for settings in parts.values():
        for setting in settings:
            group, _, value = setting.partition("=")
            if group == "metric":
                names.update(value.strip("[]").split(","))
    return names


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES_WITHOUT_FILES)
def test_a_method_is_submitted_and_verified_on_every_drawn_suite(
    suite, author, tiny_suite, tmp_path, capsys, monkeypatch
):
    """Check small versions of the suites.

    Grad-CAM's values are published, so that fresh samples and reordered channels are tried too.
    """
    file = environment.conf_folder() / "suite" / f"{suite}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    randomisation = "model_parameter_randomisation_three_stages"
    metrics = {"single_deletion", "sensitivity_error", "average_drop", "infidelity", randomisation}
    metrics &= part_metrics(content["parts"])
    parts = {part: reduce_part(settings, metrics) for part, settings in content["parts"].items()}
    tiny_suite(shared=reduce_part(content["shared"], metrics), parts=parts)
    settings = {**verifying.fresh_settings(), "share": 0, "fewest": 3, "level": 0}
    monkeypatch.setattr(verifying, "fresh_settings", lambda: settings)
    for part in parts:
        code, lines, folder = compute([f"suite=tiny/{part}", *PUBLISHED_RUN])
        assert code == 0, lines
        publish(folder, tmp_path / "reference/tiny" / part, metrics)

    code, text = verify(author(MODULE_FOR_ALL_DIMENSIONS), capsys, "--trust")

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
    function, _, _ = MODULE_FOR_ALL_DIMENSIONS.partition("\n\n\n")
    module.write_text(function)
    submit = ["submit", "submitted_cam.half", "--suite", "tiny", "--output", str(tmp_path / "new")]

    assert main(submit) == 2
    sentence = capsys.readouterr().err
    assert "has no value on the suite tiny (2 not_applicable)" in sentence
    assert not (tmp_path / "new").exists()

    line = re.search(r"write (half\.dimensions = .*) in submitted_cam\.py", sentence)[1]
    module.write_text(f"{module.read_text()}\n{line}\n")
    forget(tmp_path)  # the next command is a new process, which imports the module again
    assert main(submit) == 0
    assert set(ab.read_run(tmp_path / "new/first")["status"]) == {"ok"}


def test_the_workflow_reads_and_has_no_secrets():
    text = (Path(__file__).parents[2] / ".github/workflows/submission.yml").read_text()
    workflow = yaml.safe_load(text)
    assert list(workflow[True]) == ["pull_request"]  # YAML reads the key `on` as True
    assert "secrets" not in text.replace("no secrets", "")
    (job,) = workflow["jobs"].values()
    assert "environment" not in job
    assert any("axiom-bench verify" in step.get("run", "") for step in job["steps"])
