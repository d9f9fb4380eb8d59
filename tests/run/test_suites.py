"""Tests of suites and of `protocol=NAME`: the settings that they fix, and those that they leave.

A suite also checks that networks, images and metrics are those that it froze. A run lists its
differences from a protocol, which doesn't change the keys of values.
"""

import json
import re
from hashlib import sha256
from html import unescape

import numpy as np
import pytest
from PIL import Image
from torch import nn

from axiom_bench.cli.benchmark import benchmark, compute
from axiom_bench.data.layouts.classes import imagenet_synsets
from axiom_bench.data.layouts.imagenet import first_by_hash
from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.errors import BenchError, plural
from axiom_bench.models.load import load_model
from axiom_bench.records import artefacts, reading
from axiom_bench.run import verification
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.suites import Suite, expand_suite, num_jobs, part_command_lines
from axiom_bench.run.frozen import metric_calls
from axiom_bench.run.images import rows
from axiom_bench.run.manifest import bibliography
from axiom_bench.run.verification import recompute_jobs
from tests.data.builders import save, xml
from tests.made_suites import TINY

QUIET = ("pictures.rows=0", "pictures.gallery=0")
REFERENCE = conf_folder().with_name("reference")
PUBLISHED = {  # {suite: SHA-256}: a published suite stays as it is, a correction has another name
    "scenes-1": "89cd8bd764dc02ab80c9cc27f1325ce479915adbf7a4e97eeae6edfee52df298",
    "scenes-costly-1": "b22304e66e5ce3ee423174a4a1f9bbcb147ce766981fd176f450a47ccc729520",
    "shapes-1": "9974dcdcae4e11fec7f523b63f03777af039d632909083df95cbff07518377dc",
    "baselines-1": "67d8efba7a62a9b94eb05617d2cda7930532c11208b43368fb8ffde38a44183b",
    "dense-1": "7ef3cce37670c2abd18185c80c56682061e226ecb79f2eeb25b789c7c24127e6",
    "words-1": "4891bef535ba5e9de30a739dd5c62f687f348b35bfc9411277e23433754ed911",
    "photographs-1": "f402cd5886d39412ca36a76f00bad1935422bbddb1e13f7507b187e245805611",
    "photographs-2": "df9d2a982e246e9a9d2874a81e35e1798f1f832b63b9d67b466946bf615e182c",
    "imagenet-1": "a9f6041868cf4e59a034f05a208534fa81dae4b701c4f2f42be4a00422109ffe",
    "voc-1": "0ecbfb875afe67ae1b3b6a4f03b96b804830cd55090e234fd32f8de0547d4a1c",
}
UNLABELLED = [
    f"photographs-2/{part}" for part in ("slices", "outside", "neutral", "neutral_before")
]


@pytest.fixture
def run(tmp_path):
    """A function that runs the suite's parts with one method.

    It returns the highest exit code, the failures, and the manifests of all runs so far.
    """

    def run_suite(*words, suite="tiny"):
        command = [
            f"suite={suite}",
            "method=[grad_cam]",
            f"results={tmp_path}",
            "runtime.repeats=0",
            *QUIET,
            *words,
        ]
        codes = []
        failures = []
        for part_command in part_command_lines(command):
            code, part_failures, _ = compute(part_command)
            codes.append(code)
            failures += part_failures
        paths = sorted(tmp_path.glob("suite/*/manifest.json"))
        manifests = [artefacts.read(path.parent) for path in paths]
        return max(codes), failures, manifests

    return run_suite


def frozen_part(manifest):
    """Return the frozen networks, images and metrics of a run, in the form of a suite's file."""
    models = {name: [model.layer, model.weights_sha256] for name, model in manifest.models.items()}
    fingerprints = {name: data.fingerprint for name, data in manifest.data.items()}
    metrics = metric_calls(manifest.config.metric)
    return {"models": models, "data": fingerprints, "metrics": metrics}


def frozen(manifests):
    return {manifest.run.removeprefix("tiny-"): frozen_part(manifest) for manifest in manifests}


@pytest.mark.parametrize("suite", PUBLISHED)
def test_a_suite_stays_as_it_is(suite):
    assert Suite.of(suite).sha256 == PUBLISHED[suite]


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    sorted(REFERENCE.glob("*/*")),
    ids=lambda folder: f"{folder.parent.name}/{folder.name}",
)
def test_published_values_are_those_of_the_suite(folder):
    suite = folder.parent.name
    part = folder.name
    manifest = reading.read_manifest(folder)
    assert manifest.config.suite_part == f"{suite}/{part}@{PUBLISHED[suite][:12]}"
    assert frozen_part(manifest) == Suite.of(suite).part(part).frozen
    assert not manifest.failures

    records = reading.read_records(folder, manifest)
    assert {*records["method"].astype(str)} - {"-"} == {*manifest.methods}
    assert not records.duplicated(["model", "image_id", "target_class", "method", "metric"]).any()

    if sources := images_of(suite).get(part):
        ids = set()
        for source in sources:
            ids |= {str(image) for image in source["ids"]}
        # YAML reads 2007_002268 as 2007002268
        ids_with_year = {f"{image[:4]}_{image[4:]}" for image in ids}
        assert {*records["image_id"].astype(str)} in (ids, ids_with_year)


def test_published_values_are_small():
    bytes_by_suite = {}
    for folder in REFERENCE.iterdir():
        bytes_by_suite[folder.name] = sum(file.stat().st_size for file in folder.rglob("*.*"))
    assert bytes_by_suite["scenes-1"] < 4e6
    assert sum(bytes_by_suite.values()) < 20e6


def images_of(suite):
    """Return `{part: [{source, change, ids}]}` of a suite with images from public sources."""
    return read_yaml(conf_folder() / "suite" / f"{suite}.yaml").get("images") or {}


@pytest.mark.parametrize("suite", ["photographs-1", "photographs-2"])
def test_every_photograph_has_its_source_and_each_part_says_what_was_changed(suite):
    for part, sources in images_of(suite).items():
        origin = r"^the wheel \w+ [\d.]+" if part == "slices" else r"commit [0-9a-f]{40}"
        ids = []
        for source in sources:
            assert re.search(origin, source["source"])
            assert source["change"]
            ids += source["ids"]
        assert len(ids) == len({*ids})
        count = rf"(ubset of )?{len(ids)} (photographs|slices)"
        assert re.search(count, Suite.of(suite).part(part).note)


@pytest.mark.parametrize("part", Suite.of("photographs-1").parts)
def test_photographs_2_has_the_parts_of_photographs_1_and_their_values_bit_for_bit(part):
    assert Suite.of("photographs-2").part(part) == Suite.of("photographs-1").part(part)
    bytes_by_suite = {}
    for suite in ("photographs-1", "photographs-2"):
        folder = REFERENCE / suite / part / "records"
        bytes_by_suite[suite] = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert bytes_by_suite["photographs-1"] == bytes_by_suite["photographs-2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "network", "images"),
    [
        ("scenes-1/planted", "planted_or", 3),
        ("scenes-1/scenes", "scenes_vgg_seed1", 2),
        ("scenes-1/marked", "scenes_shortcut", 1),
        ("shapes-1/signals", "signals_cnn_seed1", 3),
        ("shapes-1/planted_volumes", "planted_and_volumes", 2),
        ("dense-1/segmenter", "scenes_segmenter_seed1", 1),
        ("words-1/vit", "scenes_vlm_vit_seed1", 1),
        ("words-1/planted", "planted_words", 1),
        ("photographs-1/boxes", "shufflenet_v2_x0_5", 1),
        ("photographs-1/own", "own_model", 1),
        ("photographs-2/lite", "efficientnet_lite0", 2),
        ("photographs-2/slices", "vgg16_mri", 1),
    ],
)
def test_a_sample_of_the_published_values_is_computed_again(
    part, network, images, request, monkeypatch
):
    """Compute a few images with all methods, fewer if an image takes long.

    The tolerance is the effect of rounding and of another machine. So the batches hold the sampled
    images alone, without rows that only keep their places.
    """
    monkeypatch.setattr(verification, "FEWEST", images)
    monkeypatch.setattr(verification, "in_original_places", sampled_rows)
    folder = REFERENCE / part
    manifest = reading.read_manifest(folder)
    words = [f"suite={part}", f"method=[{','.join(manifest.methods)}]"]
    if "photographs" in part:
        words.append(f"real_root={request.getfixturevalue('real_root')}")

    with composed(words) as composition:
        numbers = [
            number for number, job in enumerate(composition.jobs) if f"model={network}" in job
        ]
        settings = composition.job_settings(numbers[0])
    # A batch is as large as the sample. Rows that only fill it cost as much as those of images.
    settings = settings.model_copy(update={"data": {**settings.data, "batch_size": images}})
    computed = recompute_jobs([settings], seed=0, share=0)

    key = ["model", "image_id", "target_class", "method", "metric"]
    text = dict.fromkeys(("model", "image_id", "method", "metric", "status"), str)
    published = reading.read_records(folder, manifest).astype(text)
    both = computed.astype(text).merge(published, "left", key, suffixes=("", "_published"))
    assert both["image_id"].nunique() == images
    assert len(both) > images * len(manifest.methods)
    assert (both["status"] == both["status_published"]).all()
    ok = both[both["status"] == "ok"]
    # If the sum of the channels' weights nearly cancels, the weights are large and rounding moves
    # them. The control `shuffled_channels` gives them to other channels.
    limits = {"shuffled_channels": 5e-4}
    if part == "words-1/vit":
        # Grad-CAM++ divides by 2 + g sum(F), which comes down to .003: F has both signs in tokens.
        limits["grad_cam_pp"] = 5e-4
    limit = ok["method"].map(limits).fillna(1e-4)
    difference = (ok["value"] - ok["value_published"]).abs()
    differs = difference > limit * (1 + ok["value"].abs())
    # On another machine a pixel may fall on the other side of a threshold, as in box IoU's patch.
    assert differs.mean() < 0.005, ok[differs]


def sampled_rows(job, sample, needs):
    """Return batches of the sampled images only, instead of `in_original_places`."""
    return rows(job, tuple(sample), needs)


PART_COMMANDS = []
for suite_name in entry_names("suite"):
    PART_COMMANDS += part_command_lines([f"suite={suite_name}"])


@pytest.mark.slow
@pytest.mark.parametrize("command", PART_COMMANDS, ids=str)
def test_each_part_composes(command):
    with composed([*command, "real_root=/somewhere"]) as composition:
        config = composition.plain_job()
    suite, part = command[0].removeprefix("suite=").split("/")
    assert config["suite_part"] == f"{suite}/{part}@{Suite.of(suite).sha256[:12]}"
    assert config["run"] == f"{suite}-{part}"
    assert config["experiment"] == "suite"
    # With target=predicted a network's prediction would choose the explained class. Only images
    # without labels for the network need that.
    assert (config["target"] == "predicted") == (f"{suite}/{part}" in UNLABELLED)


def test_the_jobs_of_a_suite_are_the_networks_of_its_parts():
    assert num_jobs(["method=[cam]", "suite=scenes-1/many"]) == 10
    assert num_jobs(["suite=scenes-1"]) == 40


def test_a_suite_is_its_parts_and_each_has_its_own_command_line(tiny_suite):
    assert part_command_lines(["suite=tiny", "method=[cam]"]) == [
        ["suite=tiny/first", "method=[cam]"],
        ["suite=tiny/second", "method=[cam]"],
    ]
    assert part_command_lines(["method=[cam]"]) == [["method=[cam]"]]
    assert expand_suite(["suite=tiny/second", "method=[cam]", "data.workers=2"]) == [
        "experiment=suite",
        "run=tiny-second",
        f"suite_part='tiny/second@{Suite.of('tiny').sha256[:12]}'",
        *TINY["shared"],
        *TINY["parts"]["second"],
        "method=[cam]",
        "data.workers=2",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.size=3"], "The suite tiny fixes data.size: leave data.size=3 out"),
        (["model=resnet18"], "fixes model"),
        (["+metric.mine._target_=mine.mine"], "fixes metric.mine._target_"),
        (["~metric"], "fixes metric"),
        (["metric=all"], "fixes metric"),
        (["device.precision=float64"], "fixes device.precision"),
        (["run=other"], "fixes run"),
        (["suite_part=tiny/second"], "fixes suite_part"),
        (["suite=other"], "suite=tiny/first and suite=other are two runs"),
        (["experiment=real"], "fixes experiment"),
        (["data@data.of=imagenet"], "fixes data@data.of"),
    ],
)
def test_what_a_suite_fixes_is_refused(tiny_suite, words, message):
    with pytest.raises(BenchError, match=f".*{message}"):
        expand_suite(["suite=tiny/first", *words])


def test_a_suite_or_part_that_is_not_there(tiny_suite):
    with pytest.raises(BenchError, match="no suite 'tini'; did you mean 'tiny'"):
        part_command_lines(["suite=tini"])
    with pytest.raises(BenchError, match="no part 'frist' of the suite tiny; did you mean 'first'"):
        expand_suite(["suite=tiny/frist"])


def test_a_misspelt_suite_is_named_before_what_it_would_fix():
    with pytest.raises(BenchError, match="There is no suite 'typo'"):
        expand_suite(["suite=typo/x", "data=scenes"])


@pytest.mark.slow
def test_a_run_writes_each_part_and_goes_on_where_it_is_frozen_as_it_was(tiny_suite, run):
    code, _, manifests = run()
    assert code == 0
    assert [manifest.run for manifest in manifests] == ["tiny-first", "tiny-second"]

    tiny_suite(frozen=frozen(manifests))
    code, _, manifests = run("method=[grad_cam,hires_cam]")
    assert code == 0
    assert [[*manifest.methods] for manifest in manifests] == [["grad_cam", "hires_cam"]] * 2


OTHER_NETWORK = r"the network planted_or \(its layer or weights\)"
OTHER_IMAGES = r"the images of planted \(their ids, content or labels\)"
OTHER_FUNCTION = ["other.function", {}]


@pytest.mark.slow
def test_what_differs_from_what_was_frozen_is_named_and_nothing_is_computed(
    tiny_suite, run, tmp_path
):
    def record_times():
        paths = tmp_path.glob("suite/tiny-second/records/*")
        return {path: path.stat().st_mtime_ns for path in paths}

    _, _, manifests = run(suite="tiny/second")
    times_before = record_times()
    for kind, name, value, message in (
        ("models", "planted_or", ["features", "0" * 64], OTHER_NETWORK),
        ("models", "planted_or", None, OTHER_NETWORK),
        ("data", "planted", "0" * 64, OTHER_IMAGES),
        ("metrics", "sensitivity_error", OTHER_FUNCTION, "the metrics sensitivity_error"),
        ("metrics", "zeta", OTHER_FUNCTION, "the metrics zeta"),
    ):
        changed = frozen(manifests)
        changed["second"][kind][name] = value
        tiny_suite(frozen=changed)

        code, failures, _ = run("method=[hires_cam]", suite="tiny/second")

        assert code == 2
        sentence = f"planted_or at features on planted differs from .* tiny froze: {message}"
        assert re.search(sentence, "".join(failures))
        assert record_times() == times_before


def imagenet_files(root):
    """Write three validation images with boxes, and a fourth that isn't chosen."""
    synsets = imagenet_synsets()
    for number, stem in enumerate(first_by_hash(4)):
        synset = synsets[9 - number]
        save(root / f"val/{synset}/{stem}.JPEG", seed=number)
        xml(root / f"Annotations/CLS-LOC/val/{stem}.xml", [(synset, 2, 3, 11, 12)])
    mapping = "\n".join(f"{synset} its name" for synset in synsets)
    (root / "LOC_synset_mapping.txt").write_text(mapping)
    return root


def voc_files(root):
    """Write an image of two classes with boxes and a mask.

    A second image isn't in the list of images for segmentation.
    """
    for name in ("2007_000033", "2007_000034"):
        save(root / f"JPEGImages/{name}.jpg")
        xml(root / f"Annotations/{name}.xml", [("dog", 1, 1, 10, 20), ("person", 11, 1, 40, 30)])
    mask = np.full((30, 40), 15, np.uint8)
    mask[:20, :10] = 12
    (root / "SegmentationClass").mkdir()
    Image.fromarray(mask).save(root / "SegmentationClass/2007_000033.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")
    return root


NOTE = "Made photographs."
NETWORK = ["model=squeezenet1_1", "model.weights=null", "data.batch_size=2"]
IMAGENET = ["data=imagenet", "data.first=3", "metric=[box_iou,sensitivity_error]"]
VOC = [
    "data=voc",
    "data.image_set=Segmentation",
    "model.output=voc_groups",
    "metric=[box_iou,mask_iou]",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write_files", "settings", "rows"), [(imagenet_files, IMAGENET, 3), (voc_files, VOC, 2)]
)
def test_images_that_were_not_at_hand_are_compared_by_their_names(
    tiny_suite, run, tmp_path, write_files, settings, rows
):
    """Check that the run's manifest says so and contains the images' fingerprint.

    For weights, the first digits of their SHA-256 are compared.
    """
    root = f"data.root={write_files(tmp_path / 'images')}"

    def run_frozen(**part):
        tiny_suite(
            shared=["data.workers=0"],
            parts={"first": [*settings, *NETWORK]},
            notes={"first": NOTE},
            frozen={"first": part} if part else {},
        )
        return run(root)

    _, _, (manifest_before,) = run_frozen()
    part = frozen_part(manifest_before)
    ((data, data_before),) = manifest_before.data.items()
    ((network, (_, weights)),) = part["models"].items()
    names = sorted(path.rpartition("/")[2].removesuffix(".JPEG") for path in data_before.ids)
    names_hash = sha256("\n".join(names).encode()).hexdigest()
    part = {
        "metrics": part["metrics"],
        "models": {network: ["features.12", weights[:8]]},
        "names": {data: [len(names), names_hash]},
    }

    code, _, (manifest,) = run_frozen(**part)

    assert code == 0
    *notes, note = manifest.data[data].notes
    assert notes == data_before.notes
    assert NOTE.removesuffix(".") in notes
    assert note.startswith(
        f"the suite tiny has the names of {data}'s images, not their content and labels"
    )
    assert note.endswith(f"the same, here {data_before.fingerprint[:12]}")
    values = reading.read_records(tmp_path / "suite/tiny-first", manifest)
    assert (values["metric"] == "box_iou").sum() == rows
    assert not {*values["status"]} & {"no_annotation", "bad_image"}

    code, failures, _ = run_frozen(**part | {"names": {data: [500, names_hash]}})
    assert code == 2
    sentence = f"froze: the names of {data}'s {plural(len(names), 'image')} (the suite has 500)."
    assert sentence in failures[0]

    code, failures, _ = run_frozen(**part | {"models": {network: ["features.12", "0" * 8]}})
    assert code == 2
    assert f"froze: the network {network} (its layer or weights)." in failures[0]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["imagenet-1/500", "voc-1/segmentation"])
def test_layers_are_the_frozen_ones_without_images_and_weights(part, monkeypatch):
    # Random weights of large networks take seconds, and decide no layer.
    for name in dir(nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(nn.init, name, lambda tensor, *settings, **more: tensor)
    with composed([f"suite={part}", "real_root=/nowhere", "method=[grad_cam]"]) as composition:
        configs = [composition.plain_job(number) for number in range(len(composition.jobs))]
    models = [load_model({**config["model"], "weights": None}) for config in configs]
    suite, _, part_name = part.partition("/")
    frozen_models = Suite.of(suite).part(part_name).frozen["models"]
    frozen_layers = {network: layer for network, (layer, _) in frozen_models.items()}
    assert {model.name: model.layer for model in models} == frozen_layers


PROTOCOLS = entry_names("protocol")
FEW = (
    "method=[grad_cam]",
    "data.size=2",
    "runtime.repeats=0",
    *QUIET,
)
PHOTOGRAPHS = ("model=vgg16", "data=imagenet", "data.root=/somewhere")


def config_of(*overrides, folder=None):
    with composed(overrides, folder) as composition:
        return composition.plain_job()


def differences(*overrides):
    return config_of("protocol=gradcam2017", *overrides)["protocol"]["differences"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_file_names_its_paper_code_and_every_parameter(name):
    """Check every parameter, so that a new default of a metric changes no protocol."""
    config = config_of(f"protocol={name}")
    file = read_yaml(conf_folder() / f"protocol/{name}.yaml")
    protocol = config["protocol"]
    assert protocol["name"] == name
    assert protocol["differences"] == []
    assert config["run"] == "default"
    assert protocol["reference"] in bibliography()
    assert {"title", "code", "paper_vs_code", "not_covered"} < set(protocol)
    params_in_file = {metric: entry["params"] for metric, entry in file["metric"].items()}
    params = {metric: entry["params"] for metric, entry in config["metric"].items()}
    assert params_in_file == {metric: values for metric, values in params.items() if values}
    assert {"target", "normalise"} < set(file)
    assert file["model"]["output"] == config["model"]["output"] == "logits"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_runs_on_the_embedded_default(name, tmp_path):
    """Check a run without a download, whatever size and layers the paper's networks have."""
    code, lines = benchmark([f"protocol={name}", "model=scenes_vgg", *FEW, f"results={tmp_path}"])
    assert code == 0, lines
    assert (tmp_path / "quick/scenes_vgg/report.html").is_file()


@pytest.mark.slow
def test_the_command_line_wins_and_the_run_says_what_differs():
    assert differences(
        "metric.box_iou.params.fraction=0.2", "target=each_label", "metric=[box_iou,zeta]"
    ) == [
        "metric.top1_loc isn't computed",
        "metric.top5_loc isn't computed",
        "target is each_label, not label",
        "metric.box_iou.params.fraction is 0.2, not 0.15",
    ]
    assert differences(*PHOTOGRAPHS, "model.layer=features.20", "model.resize=null") == [
        "model.layer is features.20, not features.29",
        "model.resize is null, not [224, 224]",
    ]


@pytest.mark.slow
def test_it_wins_over_the_experiment_and_leaves_methods_and_networks():
    config = config_of("protocol=gradcam2017", "experiment=truth")
    config_without_protocol = config_of("experiment=truth")
    assert [*config["metric"]] == ["box_iou", "top1_loc", "top5_loc"]
    for key in ("method", "data", "model"):
        assert config[key] == config_without_protocol[key]


@pytest.mark.slow
def test_a_named_network_has_the_papers_layer_and_size():
    for name, layer in (
        ("vgg16", "features.29"),
        ("alexnet", "features.11"),
        ("resnet18", "default"),
    ):
        model = config_of("protocol=gradcam2017", f"model={name}", *PHOTOGRAPHS[1:])["model"]
        assert model["layer"] == layer
        assert model["resize"] == [224, 224]


@pytest.mark.slow
def test_a_protocol_of_ones_own(tmp_path):
    text = (conf_folder() / "protocol/gradcam2017.yaml").read_text().replace("gradcam2017", "mine")
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol/mine.yaml").write_text(text)
    config = config_of("protocol=mine", "metric.top1_loc.params.iou=0.3", folder=tmp_path)
    assert config["protocol"]["differences"] == ["metric.top1_loc.params.iou is 0.3, not 0.5"]


@pytest.mark.slow
def test_values_are_those_of_the_same_parameters_without_it(tmp_path, capsys):
    """Check also that the page contains the protocol's paper and the differences."""
    shared = (*FEW, "model=scenes_vgg", f"results={tmp_path}", "run=one")
    changed = "metric.top5_loc.params.iou=0.3"

    code, _ = benchmark(["protocol=gradcam2017", changed, *shared])

    assert code == 0
    page = unescape((tmp_path / "quick/one/report.html").read_text())
    assert "gradcam2017 (Selvaraju et al. 2017, arXiv:1610.02391): 1 setting differs" in page
    assert "metric.top5_loc.params.iou is 0.3, not 0.5" in page
    assert "ramprs/grad-cam" in page
    manifest = json.loads((tmp_path / "quick/one/manifest.json").read_text())
    assert manifest["protocol"]["differences"] == ["metric.top5_loc.params.iou is 0.3, not 0.5"]

    metrics = read_yaml(conf_folder() / "protocol/gradcam2017.yaml")["metric"]
    params = []
    for name, entry in metrics.items():
        for key, value in entry["params"].items():
            if f"{name}.params.{key}" not in changed:
                params.append(f"metric.{name}.params.{key}={value}")
    chosen = f"metric=[{','.join(metrics)}]"
    capsys.readouterr()

    code, _ = benchmark([chosen, "target=label", *params, changed, *shared])

    assert code == 0
    assert "nothing was computed" in capsys.readouterr().out
    assert "Protocol" not in (tmp_path / "quick/one/report.html").read_text()
