"""`axiom-bench choose` and `axiom_bench.choose`: the run, the page, resuming, and mistakes."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import product
from math import inf, sqrt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.main import main
from axiom_bench.cli.racing import command, looks
from axiom_bench.cli.racing.command import Start, _parts, _use, choose
from axiom_bench.cli.racing.criteria import Criteria, criteria_of, has_regions
from axiom_bench.cli.racing.looks import Look
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import load
from axiom_bench.examination.examine import AT_CHANCE, Answer
from axiom_bench.run import examining, images, worker
from axiom_bench.run.composing.composition import composed

METHODS = ["grad_cam", "xgrad_cam", "layer_cam", "uniform"]
QUICK = ["pictures.rows=1", "pictures.gallery=1", "data.workers=0"]
SCENES = ["model=scenes_resnet", "data=scenes", *QUICK]
OF_TWELVE = [*SCENES, "data.size=12", f"method=[{','.join(METHODS)}]"]

HEADLINE = ["single_deletion", "energy_pointing_game", "sensitivity_error", "conservation_error"]
CRITERIA = Criteria(("single_deletion",), ("energy_pointing_game",), ("sensitivity_error",), "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("choose")


@pytest.fixture(scope="module")
def choice(folder):
    """The choice on twelve scenes, whose run is below `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return choose(OF_TWELVE, layers=["layer4"])


def records(folder):
    return sorted(folder.glob("results/choose/*/records/*"))


@pytest.mark.slow
def test_the_answer_is_printed_kept_and_at_the_top_of_the_page(choice, folder):
    assert (choice.layer, choice.metric, choice.images) == ("layer4", "single_deletion", 12)
    assert choice.sentences[1] == (
        "Grad-CAM and XGrad-CAM draw the same map at layer4: only global average pooling and one "
        "linear layer follow."
    )
    assert choice.use == 'ab.explain(model, "layer4", images, methods=["grad_cam"])'
    page = folder / choice.report
    kept = json.loads((page.parent / "choice.json").read_text())
    printed = json.loads(json.dumps(asdict(choice)))
    assert {name: kept[name] for name in printed} == printed
    html = page.read_text(encoding="utf-8")
    assert f"<h1>{choice.sentences[0]}" in html
    assert "The race" in html
    assert (page.parent / "figures/race.png").is_file()


@pytest.mark.slow
def test_pictures_cost_no_pass_of_perturbed_images(choice, folder):
    """No figure of the page shows them, and each map would cost a pass."""
    (path,) = (folder / choice.report).parent.glob("pictures/*.npz")
    with np.load(path) as pictures:
        assert pictures["heatmaps"].shape[:2] == (len(METHODS), 1)
        assert pictures["perturbed"].shape == (len(METHODS), 0)
        assert pictures["confidence_perturbed"].shape == (len(METHODS), 0)


@pytest.mark.slow
def test_the_same_command_continues_and_prints_json(choice, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = records(folder)
    assert before
    options = ["--methods", ",".join(METHODS), "--layers", "layer4", "--json"]
    assert main(["choose", *SCENES, "data.size=12", *options]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(asdict(choice)))
    assert records(folder) == before


@pytest.mark.slow
def test_a_budget_ends_the_race_after_a_look(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = [*SCENES, "data.size=32", "method=[grad_cam,grad_cam_pp,uniform]", "run=budget"]
    few = choose(words, layers=["layer4"], budget=0.0)
    assert few.images == 8
    assert "The race takes 8 of 32 images, since" in capsys.readouterr().out
    monkeypatch.setattr(command, "images_within", lambda images, seconds, budget: images)
    short = choose(words, layers=["layer4"], budget=0.0)
    assert short.images == 16
    assert (
        "The race ends after 16 of 32 images: the next step would exceed --budget."
        in capsys.readouterr().out
    )


def scenes(count):
    """Return the first scenes and their labels."""
    with composed([*SCENES, f"data.size={count}", "data.target=label"]) as composition:
        job = worker.loaded(composition.job_settings(0))
        batch = images.first_batch(job, job.indices, count, ())
    return batch.images, batch.targets


@pytest.mark.slow
def test_python_chooses_too():
    pixels, labels = scenes(20)
    model = ab.load_model("scenes_resnet")
    choice = ab.choose(model, pixels, labels, layers=["layer4"], methods=METHODS)
    assert choice.methods == ("grad_cam", "xgrad_cam")
    assert str(choice).splitlines()[-1] == f"Use it:  {choice.use}"
    maps = eval(choice.use, {"ab": ab, "model": model, "images": pixels[:1]})
    assert maps["grad_cam"].shape == (1, *pixels.shape[2:])
    few = ab.choose(model, pixels[:5], layers=["layer4"], methods=METHODS)
    assert few.sentences == (
        "5 images are too few to rank methods: give at least 8.",
        "Grad-CAM, XGrad-CAM, HiResCAM, CAM and Ablation-CAM (axiomatic) draw the same map: only "
        "global average pooling and one linear layer follow.",
    )


@pytest.mark.slow
def test_default_layers_and_methods():
    pixels, _ = scenes(8)
    choice = ab.choose("scenes_resnet", pixels)
    layers = {standing.layer for standing in choice.standings}
    assert layers == {"layer4", "layer2", "layer1"}
    assert {standing.status for standing in choice.standings} >= {"control"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--model", "scenes_resnet"], "nowhere"),
        (["one", "two", "--model", "scenes_resnet"], "choose takes one folder"),
        (["one", "--model", "scenes_resnet", "--methods", "grad_cma"], "grad_cam"),
        (["eight", "--model", "scenes_resnet", "--layers", "layer4,layer9"], "no layer 'layer9'"),
        (["eight", "--model", "scenes_resnet", "--layers", "fc"], "not maps"),
        (["one", "--model", "resnet18", "--weights", "null"], "random weights"),
        (["model=scenes_resnet,scenes_vgg", "data=scenes"], "one model and one data set"),
        (["one", "--budget", "soon"], "write 90s, 10m or 1h"),
    ],
)
def test_mistakes(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, count in (("one", 1), ("two", 1), ("eight", 8)):
        Path(name).mkdir()
        for number in range(count):
            Image.new("RGB", (96, 96), (number, 99, 99)).save(f"{name}/{number}.png")
    try:
        code = main(["choose", *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not Path("results").exists()  # nothing is measured before the mistake is found


@pytest.mark.slow
def test_too_few_images_are_answered_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choice = choose([*SCENES, "data.size=5"])
    assert choice.sentences[0] == "5 images are too few to rank methods: give at least 8."
    assert choice.sentences[1].startswith("Grad-CAM, XGrad-CAM")
    assert not Path("results").exists()


@pytest.mark.slow
def test_labels_at_chance_stop_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = Answer("labels", "note", f"0 of 12 images are predicted as labelled: {AT_CHANCE}")
    monkeypatch.setattr(examining, "examination", lambda job: (answer,))
    with pytest.raises(BenchError, match=AT_CHANCE):
        choose(OF_TWELVE)
    assert not Path("results").exists()


def test_the_command_for_photographs_draws_the_map(choice):
    photograph = Path("my photos/cats/a cat.jpg")
    start = Start(("layer4",), 12, {}, False, photograph, "layer4", CRITERIA, "", 1.0)
    words = ["model=resnet18", "model.layer=layer3", "data=folder", "data.root=my photos"]
    assert _use(choice, start, words) == (
        "axiom-bench explain 'my photos/cats/a cat.jpg' model=resnet18 model.layer=layer4 "
        "--methods grad_cam"
    )


@pytest.mark.slow
def test_the_command_names_the_file_of_an_image_of_a_devkit(tmp_path, monkeypatch):
    """VOC's image ids aren't paths below its root."""
    monkeypatch.chdir(tmp_path)
    devkit = Path("VOC2012")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (devkit / folder).mkdir(parents=True)
    pixels, _ = scenes(8)
    for number in range(8):
        picture = Image.fromarray((pixels[number].movedim(0, -1) * 255).byte().numpy())
        picture.save(devkit / f"JPEGImages/{number}.jpg")
        (devkit / f"Annotations/{number}.xml").write_text(
            "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    (devkit / "ImageSets/Main/val.txt").write_text("\n".join(map(str, range(8))))
    words = ["model=scenes_resnet", "data=voc", f"data.root={devkit}", "target=predicted"]
    start = command._start(["experiment=choose", *words, "data.workers=0"], None, ["layer4"])
    assert start.photograph == devkit / "JPEGImages/0.jpg"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "layer"),
    [
        ("scenes_detector", "scenes", "features.13"),
        pytest.param("scenes_vlm", "captions", "tower.features.11", marks=pytest.mark.slow),
    ],
)
def test_networks_that_find_objects_or_words_race_in_two_looks(
    model, data, layer, tmp_path, monkeypatch
):
    """Their layers have another name inside the wrapper that finds objects or words."""
    monkeypatch.chdir(tmp_path)
    methods = "method=[grad_cam,xgrad_cam,uniform]"
    choice = choose([f"model={model}", f"data={data}", *QUICK, "data.size=32", methods])
    assert choice.images == 32
    assert layer in {standing.layer for standing in choice.standings}


@pytest.mark.slow
def test_python_takes_a_layer_by_its_name_in_a_wrapper():
    pixels, _ = scenes(8)
    model = torch.nn.DataParallel(ab.load_model("scenes_resnet"))
    methods = ["grad_cam", "uniform"]
    choice = ab.choose(model, pixels, layers=["module.layer4"], methods=methods)
    assert {standing.layer for standing in choice.standings} == {"layer4"}


def test_random_weights_stop_python():
    model = ab.load_model("scenes_resnet", weights=None)
    with pytest.raises(BenchError, match="random weights"):
        ab.choose(model, torch.zeros(8, 3, 96, 96))


def criteria(with_regions, drops_cost=1.0, layers=("layer4", "layer2")):
    trace = SimpleNamespace(layer="layer4", drops_cost=drops_cost)
    metrics = [load("metric", name) for name in HEADLINE]
    return criteria_of(metrics, HEADLINE, trace, layers, with_regions)


def test_criteria_follow_from_the_data_and_are_printed():
    boxes = criteria(with_regions=True)
    assert boxes.names == ("single_deletion", "energy_pointing_game")
    assert boxes.unmeasured == ("sensitivity_error",)
    axioms = criteria(with_regions=False)
    assert axioms.names == ("single_deletion", "sensitivity_error", "conservation_error")
    assert axioms.unmeasured == ("energy_pointing_game",)
    assert axioms.at("layer2", "layer4") == ["single_deletion", "conservation_error"]
    assert axioms.sentence == (
        "Single deletion decides; sensitivity error and conservation error are compared as well."
    )


def test_costly_drops_are_not_measured():
    costly = criteria(with_regions=False, drops_cost=768.0)
    assert costly.names == ("single_deletion", "conservation_error")
    assert costly.sentence.endswith(
        "Sensitivity error isn't measured: it would take about 768 forward passes for each image."
    )
    elsewhere = criteria(with_regions=False, layers=("layer2",))
    assert elsewhere.names == ("single_deletion",)
    assert elsewhere.sentence == "Single deletion decides."


def test_images_without_annotated_objects_have_no_regions():
    pixels = torch.zeros(1, 3, 4, 4)
    assert not has_regions(Batch(pixels, ("a",)))
    assert not has_regions(Batch(pixels, ("a",), annotations=(Annotation.none(),)))
    box = Annotation(torch.tensor([1]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    assert has_regions(Batch(pixels, ("a",), annotations=(box,)))


def test_a_later_look_leaves_out_what_cannot_win(monkeypatch):
    start = Start(("layer4", "layer2", "layer1"), 40, {}, False, None, "layer4", CRITERIA, "", 1.0)
    metrics = ("~metric.energy_pointing_game",)
    elsewhere = (*metrics, "~metric.sensitivity_error")
    assert _parts(start, None) == {("layer4",): metrics, ("layer2", "layer1"): elsewhere}
    racing = {("layer4", "grad_cam"), ("layer1", "grad_cam"), ("layer1", "uniform")}
    monkeypatch.setattr(looks, "still_racing", lambda contest, races: racing)
    titles = SimpleNamespace(titles={"grad_cam": "Grad-CAM", "uniform": "Uniform"})
    before = Look(20, titles, {})
    assert _parts(start, before) == {
        ("layer4",): (*metrics, "~method.uniform"),
        ("layer1",): elsewhere,
    }


@pytest.mark.slow
def test_python_stops_measuring_a_method_that_cannot_win():
    """Two methods that nearly agree race to the end, so there is a second look."""
    pixels, _ = scenes(32)
    explained = Counter()

    def bad_cam(trace):
        explained["bad_cam"] += len(trace.images)
        return -ab.methods.get("grad_cam")(trace)

    def near_cam(trace):
        explained["near_cam"] += len(trace.images)
        weights = ab.methods.get("grad_cam")(trace)
        noise = torch.randn(weights.shape[1:], generator=torch.Generator().manual_seed(0))
        return weights * (1 + 0.1 * noise.to(weights))

    methods = ["grad_cam", near_cam, bad_cam]
    choice = ab.choose("scenes_resnet", pixels, layers=["layer4"], methods=methods)
    images = {standing.method: standing.images for standing in choice.standings}
    assert images == {"grad_cam": 32, "near_cam": 32, "bad_cam": 16}
    # both looks have 16 new images, and each proves the callables that it measures
    assert explained["near_cam"] == 2 * explained["bad_cam"]


@pytest.mark.slow
def test_python_ranks_as_a_plain_loop_over_all_signs():
    """Max-T tests of the candidates written out, over the 4,096 signs of twelve differences."""
    pixels, labels = scenes(12)
    model = ab.load_model("scenes_resnet")

    def bad_cam(trace):
        return -ab.methods.get("grad_cam")(trace)

    candidates = ["grad_cam", "layer_cam", "bad_cam"]
    methods = ["grad_cam", "layer_cam", bad_cam, "uniform"]
    choice = ab.choose(model, pixels, labels, layers=["layer4"], methods=methods)

    rows = ab.evaluate(model, "layer4", [(pixels, labels)], methods, ["single_deletion"])
    values = {
        name: group["value"].tolist() for name, group in rows.groupby("method", observed=True)
    }
    level = 0.05 / 2 / 2  # of the deciding metric and its two questions, in a single look

    def largest_statistic(name, others, signs):
        statistics = [-inf]
        for other in others:
            pairs = zip(signs, values[other], values[name], strict=True)
            terms = [sign * (high - low) for sign, high, low in pairs]
            scale = sqrt(sum(term**2 for term in terms))
            statistics.append(sum(terms) / scale if scale else 0.0)
        return max(statistics)

    worse = set()
    for name in candidates:
        others = [other for other in candidates if other != name]
        observed = largest_statistic(name, others, [1] * 12)
        exceeding = 0
        for signs in product([1, -1], repeat=12):
            exceeding += largest_statistic(name, others, signs) >= observed - 1e-9
        if exceeding / 2**12 <= level:
            worse.add(name)
    assert "bad_cam" in worse
    assert len(worse) < len(candidates)
    assert {row.method for row in choice.standings if row.status == "worse"} == worse
    for row in choice.standings:
        # twelve float64 terms
        assert row.mean == pytest.approx(sum(values[row.method]) / 12, rel=1e-12)
