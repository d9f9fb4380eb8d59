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
from axiom_bench.kinds import describe_mismatch
from axiom_bench.run import job, spine
from axiom_bench.run.composing.composition import composed

from .conftest import failure, write_module

# For tests of other settings: one method and one metric compose in half the time.
FEW = ("method=[grad_cam]", "metric=[zeta]")
LONG = "a" * 10_000
DEEP = [[[[[[[[[[[[]]]]]]]]]]]]
NO_NAMES = ["", " ", "a\nb", "a\0b", "\ud800", LONG, 0, 2024, 1.5, True, [], ["a"], {"a": 1}, DEEP]
NO_COUNTS = ["", "abc", "1", -1, 1.5, 1e9, float("nan"), float("inf"), True, [1], {"a": 1}, DEEP]
NO_GROUPS = [None, True, 5, 1.5, "text", "", [], ["a"], [[1]], {5: 1}]
NAMES = (
    "model.name", "model.source", "model.layer", "model.output", "model.weights",
    "model.architecture", "data.name", "data.kind", "data.split", "data.objects", "target",
    "normalise", "device.name", "device.precision", "device.head_precision",
    "pictures.perturbation", "metric.zeta.title", "metric.zeta.undefined", "metric.zeta.better",
    "metric.zeta.of", "metric.zeta.tolerance", "metric.zeta._target_", "metric.zeta.aggregate",
    "method.cam._target_", "method.cam.title", "method.cam.library", "report.figures.perturbed",
)  # fmt: skip
COUNTS = (
    "shard_size", "data.batch_size", "data.workers", "data.seed", "data.size", "runtime.repeats",
    "runtime.batch_size", "pictures.rows", "pictures.gallery",
)  # fmt: skip
GROUPS = (
    "model", "data", "device", "runtime", "report", "report.figures", "metric.zeta", "method",
    "method.cam.params",
)  # fmt: skip
OPTIONAL_GROUPS = ("report.figures", "method.cam.params")  # null is allowed: nothing is set


@pytest.fixture(scope="module")
def composed_config() -> dict[str, Any]:
    """The complete settings of a run with two methods and two metrics."""
    words = [
        "model=scenes_vgg",
        "model.weights=null",
        "data.size=2",
        "method=[cam,ablation_cam]",
        "metric=[zeta,srg]",
        "device=cpu",
    ]
    with composed(words) as composition:
        return composition.plain()


Check = Callable[[str, object], None]


@pytest.fixture
def check(composed_config, monkeypatch) -> Check:
    """A function that makes all checks of a run with a changed setting before it loads a model."""

    def refuse_to_load(_: object) -> None:
        raise LookupError("a model was loaded")

    monkeypatch.setattr(job, "load_model", refuse_to_load)

    def check_setting(key: str, value: object) -> None:
        config = deepcopy(composed_config)
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[name] = value
        settings, methods, metrics = spine.checked(config)
        check_report(settings.report, methods, metrics)
        job.Job.of(settings)

    return check_setting


WRONG = {  # setting: values that it can't have
    "model.std": [[0, 0, 0]],
    "model.mean": [[124.0, 117.0, 104.0]],
    "model.crop": [10**30],
    "model.resize": [[96, 2**63]],
    "model.seed": [2**64],
    "model.output": [5],
    "model.kwargs": [{5: 1}],
    "model.colour": ["red"],
    "model": [{"source": "embedded"}],
    "data.size": [10**12],
    "data.workers": [10**6],
    "data.only_classes": [[None]],
    "data.target": ["lable"],
    "runtime.repeats": [2**63],
    "device.ablation_channels": [0],
    "device.ablation_memory": ["9" * 400, 1.5],
    "target": ["lable"],
    "results": ["a\0b", "~nobody_here/x"],
    "real_root": [[]],
    "run": ["\ud800"],
    "report.figures": [1e9],
    "report.figures.class_seen": ["nonsense"],
    "report.figures.plane": [["zeta", None], ["zeta", "y"]],
    "report.figures.pair": [["cam", "x"]],
    "report.figures.perturb": ["cam"],
    "report.figures.formats": [["pdf"], ["png", "jpg"]],
    "report.headline": [["zetta"]],
    "report.headlines": [[]],
    "report.columns": [["zetta"]],
    "metric.zeta.better": ["sideways"],
    "metric.zeta.of": ["nonsense"],
    "metric.zeta.tolerance": ["lots"],
    "metric.zeta.needs": [[[1]]],
    "metric.zeta.curves": [[""]],
    "metric.zeta.values": [{"": {}}, "sys.exit"],
    "metric.srg.params.blur": [float("inf"), 10**400],
    "metric.srg.params": [{5: 6}],
    "metric.": [{"_target_": "os.getcwd"}],
    "method": [{5: {"_target_": "os.getcwd"}}, {LONG: {"_target_": "os.getcwd"}}],
    "method.cam._target_": [5],
    "method.cam.degree": [float("nan")],
    "method.cam.exempt": [{"a": 1}],
}


def is_plain(message: str, *names: str) -> bool:
    """Return True if the message is one short line that contains one of these names."""
    has_name = any(name in message for name in names)
    return has_name and "\n" not in message and len(message) < 1200


WRONG_PAIRS = []
for wrong_key, wrong_values in WRONG.items():
    WRONG_PAIRS += [(wrong_key, wrong_value) for wrong_value in wrong_values]


@pytest.mark.slow
@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([*product(NAMES, NO_NAMES)], marks=pytest.mark.slow, id="names"),
        pytest.param([*product(COUNTS, NO_COUNTS)], marks=pytest.mark.slow, id="counts"),
        pytest.param([*product(GROUPS, NO_GROUPS)], marks=pytest.mark.slow, id="groups"),
        pytest.param(WRONG_PAIRS, id="others"),
    ],
)
def test_a_value_that_cannot_be_is_one_message_with_the_setting(check, cases):
    unclear = []
    for key, value in cases:
        if value is None and key in OPTIONAL_GROUPS:
            continue
        with pytest.raises(BenchError) as error:
            check(key, value)
        if not is_plain(str(error.value), key.rpartition(".")[2]):
            unclear.append((key, value, str(error.value)[:150]))
    assert not unclear


TYPED = [
    "method=[xgrad_can]",
    "model=resnt18",
    "method=[GradCAMs]",
    "metrics=[zeta]",
    "+model.layer=conv",
    "method=[cam],[fem]",
    "model=net.py:build",
    "data=./photos",
    "data.root=photos",
    "data=voc data.root=photos data.labels=labels.csv",
    "data=folder data.root=/nowhere data.kind=fold",
    "device=gpu",
    "device=mps",
    "experiment=papr",
    "data.sise=4",
    "/",
    "method=[",
    "data.classes=[ü]",
    "+method.größe._target_=my.cam",
    "model=scenes_vgg,ünet",
    "model=it's",
    "method=[]",
    "+method.mine._target_=no_such.module",
    "method.grad_cam.params={power:2}",
    "+method.grad_cam.params.power=2",
    "method.mine._target_=my.cam",
    "method.grad_cam.params.power=2",
    "method.grad_camm.params.power=2",
    "+method.mine=3",
    "method.grad_cam.on_score_scale=no",
    "+methods.mine._target_=my_module.my_cam",
    "model=[scenes_vgg,scenes_resnet]",
    "run=",
    "run=../..",
    "run=a/b",
    f"run={'m' * 256}",
    "report.headline=zeta",
    "device.deterministic=no",
    "model=user",
    "method=grad_cam,xgrad_cam",
    "metric=glob(z*)",
    "data.size=choice(2,3)",
    "data.seed=0,1",
    "model=glob(no_such*)",
    "model=interval(0,1)",
    "hydra/sweeper=optuna",
    "hydra.searchpath=[/no/such/folder]",
    "hydra.searchpath=[pkg://no_such.conf]",
    "model=[1]",
    "model=5,6",
    "data=range(1,3)",
    "peers=null",
    "hydra/launcher=slurm",
    "hydra.sweeper.params.model=a,b",
    "hydra.searchpath=[/my/zoë]",
    "hydra.searchpath=['~nobody_here/conf']",
    "~shard_size",
    "hydra.searchpath=here",
    "data=mosaic data.grid=1",
    "data=mosaic data.confidence=1.5",
    "data=mosaic data.of.size=many",
    "data=mosaic data.of=imagnet",
    "data=mosaic data.of=imagenet_v2",
    "data=mosaic data.off.size=3",
    "data.of=imagenet",
    "data.only_classes=3",
    "data.only_correct=perhaps",
    "protocol=gradcam2071",
    "protocol=[gradcam2017]",
    "+protocol.title=mine",
    "pictures.perturbation=confidence",
    "device.ablation_memory=much",
    "report.compare=cma",
    "++metric.zeta.aggregate=no_such.function",
]


def check_typed(words: str) -> None:
    """Make all checks of a run with these words before its jobs."""
    with composed([*FEW, *words.split()]) as composition:
        settings, methods, metrics = spine.checked(composition.plain())
        check_report(settings.report, methods, metrics)
        for number in range(len(composition.jobs)):
            composition.plain_job(number)


@pytest.mark.parametrize("words", TYPED)
def test_a_wrong_word_is_one_message_with_the_setting(words):
    with pytest.raises(BenchError) as error:
        check_typed(words)
    last_word = words.split()[-1].lstrip("+~")
    setting, _, value = last_word.partition("=")
    *groups, name = setting.split(".")
    names = [name, *(group for group in groups if group not in ("data", "method", "params"))]
    if len(value) > 2:  # other messages contain the digit too
        names.append(value)
    assert is_plain(str(error.value), *names), str(error.value)


@pytest.mark.parametrize("line", ["1 / 0", "def f(:", "import no_such_library"])
def test_a_user_s_module_that_cannot_be_imported(tmp_path, monkeypatch, line):
    name = f"broken_{abs(hash(line))}"
    write_module(tmp_path, name, line, monkeypatch)
    with pytest.raises(BenchError, match="can't be imported"):
        spine.checked(spine.configuration([*FEW, f"+method.mine._target_={name}.my_cam"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name", "../../../evil"),  # encoded before it becomes a file's name
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
    "text",
    [
        "mean:0.1",
        "median:5%",
        "mean:1% median:0.01",
        "mean:1e-3",
        "",
        "mean",
        "a:1",
        "mean:1 mean:2",
    ],
)
def test_a_tolerance_is_what_the_gate_can_read(text):
    is_valid = not describe_mismatch(Tolerance, text)
    with nullcontext() if is_valid else pytest.raises(BenchError):
        assert tolerance(text, "zeta")


def test_a_mosaic_s_images_are_checked_as_any():
    settings = {"size": 2, "seed": 0, "batch_size": 2, "workers": 0}
    scenes = {"kind": "scenes", **settings}
    mosaic = {"kind": "mosaic", "of": scenes, **settings}
    for key, value, name in (
        ("of", {**scenes, "size": 1.5}, "data.of.size"),
        ("of", 5, "data.of"),
        ("grid", 1, "grid"),
    ):
        with pytest.raises(BenchError, match=name):
            registry.load_dataset({**mosaic, key: value})


@pytest.mark.slow
def test_a_value_out_of_range_names_its_metric(run):
    assert failure(run(["metric=[deletion_auc]", "metric.deletion_auc.params.steps=0"])) == (
        "The metric 'deletion_auc' can't be measured: A curve needs at least one step, not steps=0."
    )
