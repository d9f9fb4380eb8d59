"""Tests that every experiment composes and that a command line's axes replace those of the file.

Wrong words become one sentence.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from axiom_bench import methods, metrics
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.run import spine
from axiom_bench.run.composing import composition
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.composing.settings import Settings, iterate_settings
from axiom_bench.run.result import JobResult

# The experiment `suite` is complete only with one of its parts.
EXPERIMENTS = [name for name in plugins.names("experiment") if name != "suite"]
QUICK = ("experiment=quick", "real_root=/somewhere")
ONE_METRIC = "metric=[zeta]"
# For tests of other settings: one method and one metric compose in half the time.
FEW = ("method=[grad_cam]", ONE_METRIC)
Jobs = Callable[..., list[dict[str, Any]]]
T = TypeVar("T")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Iterator[Jobs]:
    """A function that returns the configurations of a command line's jobs without running them."""
    results = tmp_path_factory.mktemp("results")

    @cache
    def compose(overrides: tuple[str, ...], config_folder: Path | None) -> list[dict[str, Any]]:
        with pytest.MonkeyPatch.context() as patch:
            # No file is read, so the paths needn't exist.
            patch.setattr("axiom_bench.run.composing.paths.check_paths", lambda *_: None)
            _, outcomes = run_jobs([*overrides, f"results={results}"], config_folder)
            return [outcome.config for outcome in outcomes]

    def skip_job(config: Any, *_: object) -> JobResult:
        settings = Settings.of(composition.resolve_config(config))
        network = settings.model
        name = f"{network['name']} at {network['layer']} on {settings.data['name']}"
        return JobResult(name, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spine, "run_job", skip_job)
        yield lambda overrides, config_folder=None: compose(tuple(overrides), config_folder)


def model_names(configs: list[dict[str, Any]]) -> list[str]:
    return [config["model"]["name"] for config in configs]


@pytest.mark.slow
def test_the_experiments_and_their_networks(jobs):
    names = (
        "blind choose detection gate layers methods mosaic paper paper_two_classes planted quick "
        "real seeds segmentation"
    )
    assert " ".join(EXPERIMENTS) == f"{names} shortcut truth truth_planted voc"
    assert spine.configuration([])["experiment"] == "quick"

    quick_configs = jobs(["experiment=quick", ONE_METRIC])
    assert model_names(quick_configs) == ["scenes_vgg", "scenes_resnet"]
    paper_configs = jobs(["experiment=paper", ONE_METRIC])
    paper_networks = ["alexnet", "vgg16", "vgg19", "inception_v3", "resnet101"]
    assert model_names(paper_configs) == paper_networks
    paper_methods = {"grad_cam", "grad_cam_pp", "ablation_cam", "xgrad_cam", "guided_xgrad_cam"}
    assert paper_methods < set(paper_configs[0]["method"])

    configs = jobs(["experiment=layers", "model=resnet18", "model.layer=layer1,layer2", *FEW])
    assert [config["model"]["layer"] for config in configs] == ["layer1", "layer2"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["quick", "truth"])
def test_the_first_job_is_as_if_its_network_was_typed(experiment):
    """Check the first job of several, which isn't composed again."""
    words = (f"experiment={experiment}", "run=mine", *FEW)
    with composed(words) as several, composed([*words, "model=scenes_vgg"]) as single:
        assert several.plain_job(0) == single.plain_job()
        assert several.plain_job(1)["model"]["name"] == "scenes_resnet"


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_job_of_an_experiment_composes(jobs, experiment):
    configs = jobs([f"experiment={experiment}", "real_root=/somewhere"])
    # each is a sweep, without -m, except the race of methods for one network
    assert len(configs) > 1 or experiment == "choose"
    for config in configs:
        assert config["experiment"] == experiment
        assert config["method"]
        assert config["metric"]
        assert "???" not in [value for _, value in iterate_settings(config)]


@cache
def metrics_of(choice: str, *overrides: str) -> list[str]:
    return list(spine.configuration([f"metric={choice}", FEW[0], *overrides, *QUICK])["metric"])


@pytest.mark.slow
def test_without_a_choice_the_folders_are_the_choice():
    """Check `all`, and `all_fast`, which has each metric in its fast form."""
    config = spine.configuration(["experiment=methods", ONE_METRIC])
    assert list(config["method"]) == methods.names()

    slow_forms = {}
    for name in metrics.names():
        if slow_form := metrics.get(name).spec.fast_form_of:
            slow_forms[name] = slow_form
    slow = metrics_of("all")
    fast = metrics_of("all_fast")
    assert slow == [name for name in metrics.names() if name not in slow_forms]
    assert sorted(slow_forms.get(name, name) for name in fast) == slow
    assert len(set(fast) - set(slow)) == len(slow_forms) == 6


@pytest.mark.slow
def test_a_users_own_fast_form_stands_for_its_metric(tmp_path):
    (tmp_path / "metric").mkdir()
    for name, more in (("mine", ""), ("mine_fast", "  fast_form_of: mine\n")):
        text = f"{name}:\n  _target_: axiom_bench.metrics.gini.gini\n{more}"
        (tmp_path / "metric" / f"{name}.yaml").write_text(text)
    folder = f"hydra.searchpath=[file://{tmp_path}]"
    slow = set(metrics_of("all", folder))
    fast = set(metrics_of("all_fast", folder))
    assert slow & {"mine", "mine_fast"} == {"mine"}
    assert fast & {"mine", "mine_fast"} == {"mine_fast"}


@pytest.mark.slow
def test_real_gives_the_own_model_its_own_photographs(jobs):
    configs = jobs(["experiment=real", "real_root=/somewhere", *FEW])
    config_by_model = {config["model"]["name"]: config for config in configs}
    assert len(config_by_model) == 6

    resnet = config_by_model["resnet18"]
    assert resnet["data"]["root"] == "/somewhere/data/imagenet"
    assert resnet["data"]["classes"] is None
    assert resnet["model"]["weights_folder"] == "/somewhere/weights"

    own_model = config_by_model["own_model"]
    assert own_model["data"]["root"] == "/somewhere/own_model/images"
    assert own_model["data"]["name"] == "own_images"
    assert own_model["data"]["classes"] == own_model["model"]["classes"]


@pytest.mark.parametrize(
    ("overrides", "models"),
    [
        (["model=resnet18", "data=imagenet"], ["resnet18"]),
        (["experiment=real", "model=own_model"], ["own_model"]),
        (["model=resnet18,vgg16", "data=imagenet"], ["resnet18", "vgg16"]),
        (["model=vgg11_bn", "data=imagenet"], ["vgg11_bn"]),  # a torchvision name without a file
    ],
)
def test_the_command_line_replaces_a_swept_axis(jobs, overrides, models):
    assert model_names(jobs([*overrides, *FEW])) == models


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["model=scenes_vgg,scenes_vgg"], 1),
        (["model=scenes_vgg,scenes_resnet,scenes_vgg"], 2),
        (["model=glob(scenes_*resnet)"], 2),
        (["model=scenes_vgg", "model.layer=features.13,features.13,features.10"], 2),
        (["model=scenes_vgg", "data=scenes,scenes"], 1),
    ],
)
def test_each_value_of_an_axis_counts_once(jobs, overrides, count, tmp_path):
    """Check the jobs, in addition to the report: a job that runs twice costs twice."""
    with composed([*FEW, *overrides, f"results={tmp_path}"]) as composition:
        assert len(composition.jobs) == count
        assert len(spine.run(composition, Settings.of(composition.plain()))) == count


CONF_FILES = {
    "experiment/mine.yaml": """\
# @package _global_
defaults:
  - override /method: [grad_cam, own_cam]
experiment: mine
data:
  size: 3
hydra:
  sweeper:
    params:
      model: scenes_vgg,own_net
""",
    "experiment/every.yaml": """\
# @package _global_
defaults:
  - override /method: all
experiment: every
""",
    "method/own_cam.yaml": """\
own_cam:
  _target_: axiom_bench.methods.grad_cam.grad_cam
  params: {}
""",
    "model/own_net.yaml": """\
defaults:
  - scenes_vgg
name: own_net
""",
}


@pytest.fixture
def own_conf(tmp_path) -> Path:
    """A user's folder of YAML files: an experiment, a method that it uses, and a network."""
    folder = tmp_path / "my conf"
    for name, text in CONF_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "searchpath", ["['{}']", "['file://{}']", None], ids=["searchpath", "url", "config_folder"]
)
def test_a_folder_of_the_user_s_own(jobs, own_conf, searchpath):
    words = [ONE_METRIC]
    folder = own_conf
    if searchpath:
        words.append(f"hydra.searchpath={searchpath.format(own_conf)}")
        folder = None

    configs = jobs(["experiment=mine", *words], config_folder=folder)
    assert model_names(configs) == ["scenes_vgg", "own_net"]
    assert all(list(config["method"]) == ["grad_cam", "own_cam"] for config in configs)
    assert [config["data"]["size"] for config in configs] == [3, 3]

    (config,) = jobs(["model=own_net", "method=[own_cam]", *words], config_folder=folder)
    assert list(config["method"]) == ["own_cam"]

    if not searchpath:  # one of the three cases is enough for the entry `all`
        config = spine.configuration(["experiment=every", *words], folder)
        assert list(config["method"]) == sorted([*methods.names(), "own_cam"])


@pytest.mark.slow
def test_mistakes_in_a_folder_of_the_user_s_own(jobs, own_conf):
    with pytest.raises(BenchError, match="There is no experiment 'mime'; did you mean 'mine'"):
        jobs(["experiment=mime"], config_folder=own_conf)
    (own_conf / "results").mkdir()
    sentence = "A folder results/ in your configuration folder hides the setting"
    with pytest.raises(BenchError, match=sentence):
        jobs([], config_folder=own_conf)


def test_a_user_s_own_method_stands_beside_the_others(jobs, tmp_path, monkeypatch):
    code = "def my_cam(trace, power=1.0):\n    return trace.gradients**power\n"
    (tmp_path / "users_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    own = ("+method.mine._target_=users_module.my_cam", "+method.mine.params.power=2.0")
    config = jobs(["model=scenes_vgg", ONE_METRIC, *own])[0]
    assert {"xgrad_cam", "guided_xgrad_cam", "mine"} < set(config["method"])
    method_by_name = {method.name: method for method in spine.chosen("method", config["method"])}
    assert method_by_name["mine"].params == {"power": 2.0}


TEXTS = (
    "Fotös", "/home/jürgen/r", "猫", "photos (1)", "photos [1]", "a=b", "#1; a&b!", "it's", "'a",
    " ü ", "a, ü", "choise(1)", "C:\\fotös\\", "\\'ü\\\\", 'it\'s "ü"', "a b", "a:b",
    "C:\\photos", "a@b.c", "",
)  # fmt: skip
ROOTS = {text: text for text in TEXTS} | {  # typed text: the value of data.root
    "'a,b'": "a,b",
    "${real_root}/Fotös": "/somewhere/Fotös",
    "~/x": str(Path.home() / "x"),
}


def in_threes(values: Iterable[T]) -> list[tuple[T, ...]]:
    """Return the values in groups of three, since composing takes longer than each value."""
    remaining = iter(values)
    return list(iter(lambda: tuple(islice(remaining, 3)), ()))


@pytest.mark.parametrize("texts", in_threes(ROOTS))
def test_a_value_that_hydra_can_not_read_is_taken_as_typed(texts):
    paths = dict(zip(("root", "labels", "cache"), texts, strict=False))
    words = [f"data.{key}={typed}" for key, typed in paths.items()]
    config = spine.configuration(["data=folder", *words, *FEW, "real_root=/somewhere", "run=here"])
    for key, typed in paths.items():
        assert config["data"][key] == ROOTS[typed], typed


def write(path: Path, content: bytes) -> None:
    """Write a file and create its folder."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def setting(config: Mapping[str, Any], key: str) -> object:
    """Return the value of a dotted setting."""
    node: Any = config
    for name in key.split("."):
        node = node[name]
    return node


# Each command has settings of other keys, since composing takes longer than reading a setting.
NUMBERS_AND_NAMES: tuple[dict[str, object], ...] = (
    {
        "run=2024_11_28": "2024_11_28",
        "results=2024_1": "2024_1",
        "model.layer=1": "1",
        "model.weights=123": "123",
        "model.classes=1_000": 1000,
        "model.resize=1_28": 128,
        "data.split=2024_1": "2024_1",
    },
    {
        "run=007": "007",
        "model.weights=null": None,
        "model.classes=[null,on,1_000,3]": ["null", "on", "1_000", 3],
        "data.leave_out=[001,'a,b',1e5]": ["001", "a,b", "1e5"],
        "data.size=1_0": 10,
        "model.kwargs.width=1_0": 10,
    },
    {
        "run=1e5": "1e5",
        "device.ablation_memory=1_000_000": 1_000_000,
        "report.rival=1e5": "1e5",
    },
    {"run=1.10": "1.10"},
    {"run=true": "true"},
    {"run=null": "null"},
    {"run=12:30": "12:30"},
    {"run=5": 5},  # its text is also 5
)


@pytest.mark.parametrize("values", NUMBERS_AND_NAMES, ids=" ".join)
def test_a_name_that_reads_as_a_number_stays_as_typed_and_a_number_a_number(values):
    config = spine.configuration(["data=imagenet", "data.root=/nowhere", *FEW, *values])
    for typed, value in values.items():
        assert setting(config, typed.partition("=")[0]) == value, typed


@pytest.mark.slow
def test_layers_that_read_as_numbers_are_layers_of_jobs(jobs):
    configs = jobs(["model=scenes_vgg", "model.layer=1,2_0,features.3", *FEW])
    assert [config["model"]["layer"] for config in configs] == ["1", "2_0", "features.3"]


NAMES_LIKE_NUMBERS = """\
# @package _global_
defaults:
  - override /data: folder
  - override /method: [grad_cam]
  - override /metric: [zeta]
run: 2024_11_28 # of the day
data:
  root: 2024_01
  classes: [null, on, 1_000, 007, 'no']
  cache: ~
runtime:
  repeats: 1_0
model:
  layer: [1, 1e5]
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_a_user_s_file_stay_as_written_in_any_encoding(tmp_path, encoding):
    write(tmp_path / "experiment/mine.yaml", NAMES_LIKE_NUMBERS.encode(encoding))
    with composed(["experiment=mine"], tmp_path) as composition:
        configs = [composition.plain_job(number) for number in range(len(composition.jobs))]
    config = configs[0]
    assert {config["model"]["layer"] for config in configs} == {"1", "1e5"}
    assert config["run"] == "2024_11_28"
    assert config["data"]["root"] == "2024_01"
    assert config["data"]["classes"] == ["null", "on", "1_000", "007", "no"]
    assert config["data"]["cache"] is None
    assert config["runtime"]["repeats"] == 10


def test_a_user_s_file_in_another_encoding_is_named(tmp_path):
    write(tmp_path / "experiment/mine.yaml", "run: é".encode("latin-1"))
    sentence = r"mine\.yaml can't be read as text in UTF-8 .*; save it in UTF-8"
    with pytest.raises(BenchError, match=sentence):
        spine.configuration(["experiment=mine"], tmp_path)


def test_a_home_folder_stands_for_its_sign_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("AXIOM_BENCH_REAL", "~/real")
    write(
        tmp_path / "data/own.yaml",
        b"defaults: [imagenet]\nname: own\nlabels: ~/own.csv\nleave_out: [~/a.png, ~b]\n",
    )
    typed = [
        "model=user",
        "model.architecture=~/nets.py:build",
        "model.weights=~/w.pth",
        "results=~",
        "data=own",
        *FEW,
    ]

    config = spine.configuration(typed, tmp_path)

    assert config["results"] == "/home/me"
    assert config["data"]["root"] == "/home/me/real/data/imagenet"
    assert config["data"]["labels"] == "/home/me/own.csv"
    assert config["data"]["leave_out"] == ["/home/me/a.png", "~b"]
    assert config["model"]["architecture"] == "/home/me/nets.py:build"
    assert config["model"]["weights"] == "/home/me/w.pth"


def test_entries_are_named_as_in_conf():
    for words, name in (
        ("method=[GradCAM]", "grad_cam"),
        ("metric=[Sensitivity error]", "sensitivity_error"),
    ):
        with pytest.raises(BenchError, match=f"did you mean '{name}'"):
            spine.configuration([words])


@pytest.mark.slow
def test_lists_and_commas_between_models_stay(jobs):
    own = ("+method.mine._target_=axiom_bench.methods.grad_cam.grad_cam", "+method.mine.note=zoë's")
    configs = jobs(
        ["model=scenes_vgg,scenes_resnet", "data.only_classes=['ü',b]", ONE_METRIC, *own]
    )
    assert model_names(configs) == ["scenes_vgg", "scenes_resnet"]
    assert configs[1]["data"]["only_classes"] == ["ü", "b"]
    assert configs[1]["method"]["mine"]["note"] == "zoë's"


GLOBAL = "# @package _global_\n"
WRONG_EXPERIMENTS = {  # the text of the file: (the wrong line, the sentence)
    "data:\n  size: 2\n": (1, "an experiment begins with the line `# @package _global_`"),
    f"{GLOBAL}# My study.\nmetric: [box_iou, zeta]\n": (
        3,
        "`metric: [box_iou, zeta]` is a choice; write it under "
        "`defaults:`, as `- override /metric: [box_iou, zeta]`",
    ),
    f"{GLOBAL}experiment: mine\nmodel: resnet18\n": (3, "as `- override /model: resnet18`"),
    f"{GLOBAL}defaults:\n  - override metric: [zeta]\n": (
        3,
        "the slash is missing; write `- override /metric: ...`",
    ),
    f"{GLOBAL}data: {{size: 2\n": (3, "this is no YAML"),
}


@pytest.mark.parametrize("text", WRONG_EXPERIMENTS)
def test_a_wrong_experiment_of_a_user_is_named_with_its_line(tmp_path, text):
    line, sentence = WRONG_EXPERIMENTS[text]
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment/mine.yaml"
    file.write_text(text)
    with pytest.raises(BenchError) as error:
        spine.configuration(["experiment=mine"], tmp_path)
    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert sentence in str(error.value)


@pytest.mark.slow
def test_a_user_s_files_may_leave_out_their_names(tmp_path):
    """Check an entry of a method without the key around it, and experiments without their names.

    The second experiment begins with the settings of the first.
    """
    defaults = "defaults:\n- override /metric: [zeta]\n- override /method: [own, named]"
    texts = {
        "experiment/mine.yaml": f"{GLOBAL}{defaults}",
        "experiment/more.yaml": f"{GLOBAL}defaults:\n  - mine\n",
        "method/own.yaml": "_target_: my.cam\nparams:\n  power: 2\n",
        "method/named.yaml": "named:\n  _target_: my.cam\n",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    for name in ("mine", "more"):
        config = spine.configuration([f"experiment={name}", "method.own.params.power=3"], tmp_path)
        assert config["experiment"] == name
        assert list(config["metric"]) == ["zeta"]
        assert config["method"] == {
            "own": {"_target_": "my.cam", "params": {"power": 3}},
            "named": {"_target_": "my.cam"},
        }


SWEEPS = (
    "defaults:\n- override /model: scenes_vgg,scenes_resnet\nmodel: {layer: 'default,last_relu'}\n",
    "defaults:\n- override /model: [scenes_vgg, scenes_resnet]\nmodel: {layer: [default, "
    "last_relu]}\n",
    "hydra: {sweeper: {params: {model: 'scenes_vgg,scenes_resnet', model.layer: "
    "'default,last_relu'}}}\n",
    "hydra: {sweeper: {params: {model: [scenes_vgg, scenes_resnet], model.layer: [default, "
    "last_relu]}}}\n",
)


@pytest.mark.slow
@pytest.mark.parametrize("text", SWEEPS)
def test_a_sweep_in_a_user_s_file(tmp_path, text):
    """Check that the sweep's jobs are those of the command line, which can set one model."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(GLOBAL + text)
    with composed(["experiment=mine", *FEW], tmp_path) as composition:
        models = [config["model"] for config in composition.job_configs()]
        chosen = [(model["name"], model["layer"]) for model in models]
    assert chosen == [
        ("scenes_vgg", "default"),
        ("scenes_vgg", "last_relu"),
        ("scenes_resnet", "default"),
        ("scenes_resnet", "last_relu"),
    ]
    with composed(["experiment=mine", "model=scenes_vgg", *FEW], tmp_path) as composition:
        assert len(composition.jobs) == 2


LAYERS_BY_NETWORK = "{resnet18: [layer3, layer4], vgg16: 'features.27,features.29'}"


@pytest.mark.slow
def test_layers_of_each_network(tmp_path):
    """Check also that a network that isn't named keeps its default layer."""
    (tmp_path / "experiment").mkdir()
    text = f"{GLOBAL}model: {{layer: {LAYERS_BY_NETWORK}}}\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    words = ["experiment=mine", "model=resnet18,vgg16,alexnet", *FEW]
    with composed(words, tmp_path) as composition:
        layers = [str(config.model.layer) for config in composition.job_configs()]
    assert layers == ["layer3", "layer4", "features.27", "features.29", "default"]
    sentence = r"'vgg16' in this run \(model\.layer\); did you mean 'vgg11'"
    with pytest.raises(BenchError, match=sentence):
        spine.configuration(["experiment=mine", "model=vgg11,resnet18"], tmp_path)


OWN = "model=user model.architecture=a/net.py:build"
# Commands, most of them without a name for the run, and the name: it consists of the data and
# models that the command chooses differently from its experiment.
RUN_NAMES = {
    "data.size=3": "default",
    "model=scenes_vgg,scenes_resnet data=scenes": "scenes",
    "model=resnet18 data=imagenet data.root=/data/imagenet": "imagenet-resnet18",
    "data=voc model=resnet18,vgg16,alexnet": "voc",
    "data=folder data.root=/my/photos/ model=resnet18": "photos-resnet18",
    "data=webdataset data.path=s3://bucket/val": "val",
    "data=mosaic data.of=imagenet data.size=4": "mosaic_imagenet",
    f"{OWN} model.weights=net.pth data=voc": "voc-net",
    f"{OWN} model.weights=null": "net",  # its function may load its weights
    f"{OWN} model.weights=as_built model.name=mine": "mine",
    "model=resnet18 model.weights=null": "resnet18",
    "model=resnet18 model.weights=tuned.pth": "resnet18",
    "model=resnet18 model.layer=layer3,layer4": "resnet18",
    "model=resnet18,vgg16 model.layer=default": "default",
    "model.layer=features.9 model=scenes_vgg": "scenes_vgg",
    "experiment=voc data.root=/data model.weights_folder=null": "default",
    "experiment=layers": "default",
    "experiment=layers model.layer=features.1": "default",
    "model=resnet18 run=mine": "mine",
    "model=resnet18 run=default": "default",
}


@pytest.mark.parametrize("command", RUN_NAMES)
def test_a_run_s_name_follows_from_the_models_and_data_that_a_command_chooses(command):
    with composed([*FEW, *command.split()]) as composition:
        names = {composition.plain()["run"], composition.plain_job()["run"]}
    assert names == {RUN_NAMES[command]}


def test_a_program_of_the_user_s_that_has_hydra_itself_keeps_it(tmp_path):
    (tmp_path / "config.yaml").write_text("theirs: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        with composed(["model=scenes_vgg", *FEW]) as composition:
            assert GlobalHydra.instance().hydra is theirs  # also while a run computes
            assert composition.plain_job()["model"]["name"] == "scenes_vgg"
        assert GlobalHydra.instance().hydra is theirs


@pytest.mark.slow
def test_a_setting_of_a_method_that_an_experiment_has_by_all():
    words = ["experiment=methods", ONE_METRIC, "method.opti_cam.params.iterations=5"]
    config = spine.configuration(words)
    assert config["method"]["opti_cam"]["params"]["iterations"] == 5
    assert len(config["method"]) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "metric", "key", "value"),
    [("detection", "deletion_auc_fast", "output", "logit"), ("gate", "deletion_auc", "steps", 4)],
)
def test_an_experiment_s_parameters_of_metrics_that_the_command_line_leaves_out(
    experiment, metric, key, value
):
    config = spine.configuration([f"experiment={experiment}", f"metric=[zeta,{metric}]"])
    assert sorted(config["metric"]) == [metric, "zeta"]
    assert config["metric"][metric]["params"][key] == value
    config = spine.configuration([f"experiment={experiment}", "protocol=rise2018"])
    assert sorted(config["metric"]) == ["deletion_auc", "insertion_auc"]
