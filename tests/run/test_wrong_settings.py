"""A wrong setting stops a run before anything is computed, with one sentence that names it."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from itertools import product
from typing import Any

import pytest

from axiom_bench.cli.benchmark import check_report
from axiom_bench.data import registry
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.specs import Tolerance
from axiom_bench.gate import tolerance
from axiom_bench.kinds import expected
from axiom_bench.run import job, spine
from axiom_bench.run.composing.composition import composed

from .conftest import failure, module_of

FEW = ("method=[grad_cam]", "metric=[zeta]")  # where neither is the subject: it composes in half the time
LONG, DEEP = "a" * 10_000, [[[[[[[[[[[[]]]]]]]]]]]]
NO_NAMES = ["", " ", "a\nb", "a\0b", "\ud800", LONG, 0, 2024, 1.5, True, [], ["a"], {"a": 1}, DEEP]
NO_COUNTS = ["", "abc", "1", -1, 1.5, 1e9, float("nan"), float("inf"), True, [1], {"a": 1}, DEEP]
NO_GROUPS = [None, True, 5, 1.5, "text", "", [], ["a"], [[1]], {5: 1}]
NAMES = (
    "model.name", "model.source", "model.layer", "model.output", "model.weights", "model.architecture", "data.name",
    "data.kind", "data.split", "data.objects", "target", "normalise", "device.name", "device.precision",
    "device.head_precision", "pictures.perturbation", "report.latex.width", "metric.zeta.title",
    "metric.zeta.undefined", "metric.zeta.better", "metric.zeta.of", "metric.zeta.tolerance", "metric.zeta._target_",
    "metric.zeta.aggregate", "method.cam._target_", "method.cam.title", "method.cam.library",
    "report.figures.perturbed",
)  # fmt: skip
COUNTS = (
    "shard_size", "data.batch_size", "data.workers", "data.seed", "data.size", "runtime.repeats", "runtime.batch_size",
    "pictures.rows", "pictures.gallery",
)  # fmt: skip
GROUPS = (
    "model", "data", "device", "runtime", "report", "report.figures", "metric.zeta", "method", "method.cam.params",
)  # fmt: skip
OPTIONAL_GROUPS = ("report.figures", "method.cam.params")  # null: nothing set


@pytest.fixture(scope="module")
def composed_config() -> dict[str, Any]:
    words = ["model=scenes_vgg", "model.weights=null", "data.size=2", "method=[cam,ablation_cam]", "metric=[zeta,srg]"]
    with composed([*words, "device=cpu"]) as composition:
        return composition.plain()


Check = Callable[[str, object], None]


@pytest.fixture
def check(composed_config, monkeypatch) -> Check:
    """All that a run with this setting checks before it loads a model."""

    def loaded(_: object) -> None:
        raise LookupError("a model was loaded")

    monkeypatch.setattr(job, "load_model", loaded)

    def with_setting(key: str, value: object) -> None:
        config = deepcopy(composed_config)
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[name] = value
        methods, metrics = spine.check(config)
        check_report(config, methods, metrics)
        job.Job.of(config)

    return with_setting


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "values"), [(NAMES, NO_NAMES), (COUNTS, NO_COUNTS), (GROUPS, NO_GROUPS)], ids=["name", "count", "group"]
)
def test_a_value_of_the_wrong_kind_is_one_sentence(check, keys, values):
    for key, value in product(keys, values):
        if value is None and key in OPTIONAL_GROUPS:
            continue
        with pytest.raises(BenchError) as error:
            check(key, value)
        message = str(error.value)
        assert key.rpartition(".")[2] in message, (key, value, message)
        assert len(message) < 1200, (key, value)
        assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model.std", [0, 0, 0], "model.std must be three numbers"),
        ("model.mean", [124.0, 117.0, 104.0], "model.mean must be three numbers.*in \\[0, 1\\]"),
        ("model.crop", 10**30, "model.crop must be a side in pixels"),
        ("model.resize", [96, 2**63], "model.resize must be pixels"),
        ("model.seed", 2**64, "model.seed must be"),
        ("model.output", 5, "model.output must be"),
        ("model.kwargs", {5: 1}, "model.kwargs must be a mapping"),
        ("model.colour", "red", "no model setting 'colour'"),
        ("model", {"source": "embedded"}, "has no name"),
        ("data.size", 10**12, "data.size must be .* 1 to 1000000"),
        ("data.workers", 10**6, "data.workers must be .* 0 to 256"),
        ("data.only_classes", [None], "data.only_classes must be"),
        ("data.target", "lable", "data.target must be"),
        ("runtime.repeats", 2**63, "runtime.repeats must be .* 0 to 1000"),
        ("pictures.perturbation", "confidence", "no metric 'confidence'; did you mean 'confidence_drop'"),
        ("device.ablation_channels", 0, "device.ablation_channels must be"),
        ("device.ablation_memory", ".", "Invalid size '.'"),
        ("device.ablation_memory", "9" * 400, "ablation_memory must be"),
        ("device.ablation_memory", 1.5, "device.ablation_memory must be"),
        ("target", "lable", "no target rule 'lable'; did you mean 'label'"),
        ("results", "a\0b", "results must be the path"),
        ("results", "~nobody_here/x", "results must be the path"),
        ("real_root", [], "real_root must be"),
        ("run", "\ud800", "run must be the name of a folder"),
        ("report.figures", 1e9, "report.figures is a group of settings"),
        ("report.figures.class_seen", "nonsense", "no metric for report.figures.class_seen 'nonsense'"),
        ("report.figures.numbers", {"zetta": "Fig 1"}, "no setting 'report.figures.numbers.zetta'"),
        ("report.figures.numbers", {"zeta": 5}, "report.figures.numbers must be a mapping to texts"),
        ("report.figures.plane", ["zeta", None], "report.figures.plane must be a list of metrics"),
        ("metric.zeta.better", "sideways", "metric.zeta.better must be 'lower' or 'higher' or 'none'"),
        ("metric.zeta.of", "nonsense", "metric.zeta.of must be 'method' or 'layer'"),
        ("metric.zeta.tolerance", "lots", "metric.zeta.tolerance must be median:0.5%"),
        ("metric.zeta.needs", [[1]], "no precondition"),
        ("metric.zeta.curves", [""], "metric.zeta.curves must be a list of names"),
        ("metric.zeta.values", {"": {}}, "metric.zeta.values must be a mapping of value names"),
        ("metric.zeta.values", "sys.exit", "metric.zeta.values: 'sys.exit' raised SystemExit"),
        ("metric.zeta.aggregate", "no_such.function", "'no_such.function', which can't be imported"),
        ("metric.srg.params.blur", float("inf"), "metric.srg.params.blur must be a number, not inf"),
        ("metric.srg.params.blur", 10**400, "metric.srg.params.blur must be a number"),
        ("metric.srg.params", {5: 6}, "metric.srg.params holds 5"),
        ("metric.", {"_target_": "os.getcwd"}, "A metric can't be called ''"),
        ("method", {5: {"_target_": "os.getcwd"}}, "method holds 5"),
        ("method", {LONG: {"_target_": "os.getcwd"}}, "A method can't be called 'aaa"),
        ("method.cam._target_", 5, "method.cam._target_ must be the dotted path"),
        ("method.cam.degree", float("nan"), "method.cam.degree must be"),
        ("method.cam.exempt", {"a": 1}, "method.cam.exempt must be a mapping to texts"),
    ],
)
def test_what_cannot_be_is_one_sentence(check, key, value, sentence):
    with pytest.raises(BenchError, match=sentence):
        check(key, value)


TYPED = [
    ("method=[xgrad_can]", "There is no method 'xgrad_can'; did you mean 'xgrad_cam'"),
    ("model=resnt18", "There is no model 'resnt18'; did you mean 'resnet18'"),
    ("method=[GradCAMs]", "did you mean 'grad_cam'"),
    ("metrics=[zeta]", "There is no setting 'metrics'; did you mean 'metric'"),
    ("+model.layer=conv", "The setting model.layer exists; leave out the + before it"),
    ("method=[cam],[fem]", "write method=[cam,fem]"),
    ("model=net.py:build", "set model=user model.architecture=net.py:build"),
    ("data=./photos", "set data=folder data.root=./photos"),
    ("data.root=photos", "has no data.root; these have one: data=arrays, coco, folder,"),
    (
        "data=voc data.root=photos data.labels=labels.csv",
        "no data.labels; these have one: data=arrays, folder, imagenet",
    ),
    ("data=folder data.kind=fold data.root=/nowhere", "There is no kind of data set 'fold'; did you mean 'folder'"),
    ("device=gpu", "There is no device 'gpu'; set device=auto, device=cpu, or device=cuda for a GPU."),
    ("device=mps", "Apple's GPUs have no float64, in which values are measured; use device=cpu"),
    ("experiment=papr", "There is no experiment 'papr'; did you mean 'paper'"),
    ("data.sise=4", "There is no setting 'data.sise'; did you mean 'data.size'"),
    ("/", "'/' is a path, not KEY=VALUE"),
    ("method=[", "The command line can't be understood at 'method=['; write KEY=VALUE"),
    ("data.classes=[ü]", "and a list of texts with two kinds of quotes: \"KEY=['a','b']\""),
    ("+method.größe._target_=my.cam", "'+method.größe._target_' can't be a setting"),
    ("model=scenes_vgg,ünet", "There is no model 'ünet'; did you mean"),
    ("model=it's", 'There is no model "it\'s"'),
    ("method=[]", "No method is chosen"),
    ("+method.mine._target_=no_such.module", "can't be imported"),
    ("method.grad_cam.params={power:2}", "Invalid value for method.grad_cam.params: Key 'power'"),
    ("+method.grad_cam.params.power=2", "can't take its params"),
    ("method.mine._target_=my.cam", "add + to set it: +method.mine._target_=VALUE"),
    ("method.grad_cam.params.power=2", "add + to set it: +method.grad_cam.params.power=VALUE"),
    ("method.grad_camm.params.power=2", "There is no method in this run 'grad_camm'; did you mean 'grad_cam'"),
    ("+method.mine=3", "The method 'mine' is 3; set method.mine._target_=module.function"),
    ("method.grad_cam.on_score_scale=no", "on_score_scale must be true or false or null, not 'no'"),
    ("+methods.mine._target_=my_module.my_cam", "There is no setting 'methods'; did you mean 'method'"),
    ("model=[scenes_vgg,scenes_resnet]", "with commas between them: model=a,b"),
    ("run=", "run must be the name of a folder, not ''"),
    ("run=../..", "run must be the name of a folder, not '../..'"),
    ("run=a/b", "run must be the name of a folder, not 'a/b'"),
    (f"run={'m' * 256}", "run must be the name of a folder, not 'mmm"),
    ("report.headline=zeta", "report.headline must be a list of metrics"),
    ("device.deterministic=no", "device.deterministic must be true or false, not 'no'"),
    ("model=user", "model.architecture has no default; set model.architecture=VALUE"),
    ("method=grad_cam,xgrad_cam", "The brackets are missing in method=grad_cam,xgrad_cam; write method=[grad_cam,"),
    ("metric=glob(z*)", "The brackets are missing in metric=glob(z*)"),
    ("data.size=choice(2,3)", "data.size takes one value, not several as in data.size=choice(2,3)"),
    ("data.seed=0,1", "a text with a comma needs quotes: \"data.seed='a,b'\""),
    ("model=glob(no_such*)", "model=glob(no_such*) matches nothing, so there is no job"),
    ("model=interval(0,1)", "model=interval(0,1) names no values"),
    ("hydra/sweeper=optuna", "There is no hydra/sweeper 'optuna'"),
    ("hydra.searchpath=[/no/such/folder]", "There is no folder /no/such/folder (hydra.searchpath)"),
    ("hydra.searchpath=[pkg://no_such.conf]", "There is no package 'no_such.conf' (hydra.searchpath)"),
    ("model=[1]", "There is no model '1'"),
    ("model=5,6", "There is no model '5'"),
    ("data=range(1,3)", "data='1' chooses no data: give its name"),
    ("peers=null", "peers='null' chooses no peer"),
    ("hydra.sweeper=5", "The configuration can't be put together"),
    ("hydra/launcher=slurm", "There is no hydra/launcher 'slurm'"),
    ("hydra.sweeper.params.model=a,b", "hydra.sweeper.params.model takes one value"),
    ("hydra.searchpath=[/my/zoë]", "write \"hydra.searchpath=['/my/conf']\""),
    ("hydra.searchpath=['~nobody_here/conf']", "There is no folder '~nobody_here/conf'"),
    ("~shard_size", "shard_size isn't set"),
    ("hydra.searchpath=here", "hydra.searchpath must be a list of folders"),
    ("data=mosaic data.grid=1", "data.grid must be cells along a side, 2 to 100"),
    ("data=mosaic data.confidence=1.5", "data.confidence must be a probability, 0 to 1 or null"),
    ("data=mosaic data.of.size=many", "data.of.size must be a number of images"),
    ("data=mosaic data.of=imagnet", "did you mean 'imagenet'"),
    ("data=mosaic data.of=imagenet_v2", "data.of.root has no default; set data.of.root=VALUE"),
    ("data=mosaic data.off.size=3", "data.of.size"),
    ("data.of=imagenet", "data.of chooses the images of mosaics; add data=mosaic"),
    ("data.only_classes=3", "data.only_classes must be a list"),
    ("data.only_correct=perhaps", "data.only_correct must be true or false"),
]


def check_typed(words: str) -> None:
    """All that a run with these words checks before its jobs."""
    with composed([*FEW, *words.split()]) as composition:
        config = composition.plain()
        check_report(config, *spine.check(config))
        for number in range(len(composition.jobs)):
            composition.plain_job(number)


@pytest.mark.parametrize(("words", "sentence"), TYPED)
def test_a_wrong_word_is_one_sentence(words, sentence):
    with pytest.raises(BenchError) as error:
        check_typed(words)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["1 / 0", "def f(:", "import no_such_library"])
def test_a_user_s_module_that_cannot_be_imported(tmp_path, monkeypatch, line):
    name = f"broken_{abs(hash(line))}"
    module_of(tmp_path, name, line, monkeypatch)
    with pytest.raises(BenchError, match="can't be imported"):
        spine.check(spine.configuration([*FEW, f"+method.mine._target_={name}.my_cam"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name", "../../../evil"),  # encoded where it becomes a file's name
        ("model.name", "größe 2"),
        ("model.layer", "default"),
        ("data.seed", 10**30),
        ("data.only_classes", ["digit 3", 4]),
        ("data.batch_size", 10**30),
        ("run", 3),
        ("device.ablation_memory", "1.5 KiB"),
        ("metric.zeta.tolerance", "mean:1% median:0.01"),
        ("report.figures.class_seen", "class_discriminability"),
    ],
)
def test_what_can_be_is_let_through(check, key, value):
    with pytest.raises(LookupError, match="a model was loaded"):
        check(key, value)


@pytest.mark.parametrize(
    "text", ["mean:0.1", "median:5%", "mean:1% median:0.01", "mean:1e-3", "", "mean", "a:1", "mean:1 mean:2"]
)
def test_a_tolerance_is_what_the_gate_can_read(text):
    with nullcontext() if not expected(Tolerance, text) else pytest.raises(BenchError):
        assert tolerance(text, "zeta")


def test_a_mosaic_s_images_are_checked_as_any():
    settings = {"size": 2, "seed": 0, "batch_size": 2, "workers": 0}
    scenes = {"kind": "scenes", **settings}
    for key, value, name in (
        ("of", {**scenes, "size": 1.5}, "data.of.size"),
        ("of", 5, "data.of"),
        ("grid", 1, "grid"),
    ):
        with pytest.raises(BenchError, match=name):
            registry.load_dataset({"kind": "mosaic", "of": scenes, **settings, key: value})


def test_a_value_out_of_range_names_its_metric(run):
    assert failure(run("metric=[deletion_auc]", "metric.deletion_auc.params.steps=0")) == (
        "The metric 'deletion_auc' can't be measured: A curve needs at least one step, not steps=0."
    )
