"""Every setting is checked before anything is computed: a value that can't be is one sentence that names it."""

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

from .conftest import failure

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
    "pictures.rows", "pictures.gallery", "metrics.max_forwards_per_image",
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
        ("model.std", [float("nan")] * 3, "model.std must be"),
        ("model.mean", [124.0, 117.0, 104.0], "model.mean must be three numbers.*in \\[0, 1\\]"),
        ("model.crop", 10**30, "model.crop must be a side in pixels"),
        ("model.resize", [96, 2**63], "model.resize must be pixels"),
        ("model.seed", 2**64, "model.seed must be"),
        ("model.seed", None, "model.seed must be"),
        ("model.output", None, "model.output must be"),
        ("model.kwargs", {5: 1}, "model.kwargs must be a mapping"),
        ("model.colour", "red", "no model setting 'colour'"),
        ("model", {"source": "embedded"}, "has no name"),
        ("data.size", 10**12, "data.size must be .* 1 to 1000000"),
        ("data.workers", 10**6, "data.workers must be .* 0 to 256"),
        ("data.only_classes", [None], "data.only_classes must be"),
        ("data.target", "lable", "data.target must be"),
        ("runtime.repeats", 2**63, "runtime.repeats must be .* 0 to 1000"),
        ("runtime.batch_size", 2**63, "runtime.batch_size must be"),
        ("pictures.perturbation", "confidence", "no metric 'confidence'; did you mean 'confidence_drop'"),
        ("device.ablation_channels", 0, "device.ablation_channels must be"),
        ("device.ablation_memory", ".", "Invalid size '.'"),
        ("device.ablation_memory", "9" * 400, "ablation_memory must be"),
        ("device.ablation_memory", "0.5", "Invalid size '0.5'"),
        ("device.ablation_memory", 1.5, "device.ablation_memory must be"),
        ("target", "lable", "no target rule 'lable'; did you mean 'label'"),
        ("results", "a\0b", "results must be the path"),
        ("results", f"{LONG}/x", "results must be the path"),
        ("results", "~nobody_here/x", "results must be the path"),
        ("real_root", [], "real_root must be"),
        ("run", "\ud800", "run must be the name of a folder"),
        ("run", "a\nb", "run must be the name of a folder"),
        ("report.figures", 1e9, "report.figures is a group of settings"),
        ("report.figures.class_seen", "nonsense", "no metric for report.figures.class_seen 'nonsense'"),
        ("report.figures.floor", ["a", "b"], "no metric for report.figures.floor 'a'"),
        ("report.figures.numbers", {"zetta": "Fig 1"}, "no setting 'report.figures.numbers.zetta'"),
        ("report.figures.numbers", {"zeta": 5}, "report.figures.numbers must be a mapping to texts"),
        ("report.figures.plane", ["zeta", None], "report.figures.plane must be a list of metrics"),
        ("metric.zeta.better", "sideways", "metric.zeta.better must be 'lower' or 'higher' or 'none'"),
        ("metric.zeta.of", "nonsense", "metric.zeta.of must be 'method' or 'layer'"),
        ("metric.zeta.tolerance", "lots", "metric.zeta.tolerance must be median:0.5%"),
        ("metric.zeta.tolerance", "mean:0.1 mean:0.2", "metric.zeta.tolerance must be"),
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
        ("method", {"a\nb": {"_target_": "os.getcwd"}}, "A method can't be called"),
        ("method.cam._target_", 5, "method.cam._target_ must be the dotted path"),
        ("method.cam.degree", float("nan"), "method.cam.degree must be"),
        ("method.cam.exempt", {"a": 1}, "method.cam.exempt must be a mapping to texts"),
    ],
)
def test_what_cannot_be_is_one_sentence(check, key, value, sentence):
    with pytest.raises(BenchError, match=sentence):
        check(key, value)


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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("metric.deletion_auc.params.steps=abc", "a whole number, not 'abc'"),
        ("metric.deletion_auc.params.steps=null", "a whole number, not None"),
        ("metric.infidelity.params.sides=0.1", "a list, not 0.1"),
        ("metric.infidelity.params.scaled=no", "true or false, not 'no'"),
        ("metric.road_morf.params.fractions=0.5", "a list, not 0.5"),
        ("metric.confidence_drop.params.fill=3", "a text or a list, not 3"),
        ("metric.top_k_intersection.params.k=many", "a whole number, not 'many'"),
        ("method.axiom_cam.params.t=half", "a number, not 'half'"),
    ],
)
def test_a_wrong_kind_stops_before_anything(run, monkeypatch, override, expected):
    monkeypatch.setattr("axiom_bench.run.spine.run_job", lambda _: pytest.fail("a job ran"))
    kind, name, *_ = override.split(".")
    with pytest.raises(BenchError) as error:
        run(f"{kind}=[{name}]", override)
    assert str(error.value) == f"{override.partition('=')[0]} must be {expected}."
