"""hydra/launcher: jobs in other processes give the values of one process; what can't be is one sentence. And what is
used of Hydra's inside is there."""

import importlib.util
import inspect
import pkgutil
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
import yaml

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.run.composing import hydra_inside
from axiom_bench.run.composing.composition import composed

from .conftest import rows_of, tiny

SCHEMAS = {  # of each launcher's package: what it takes
    "joblib": ("hydra_plugins.hydra_joblib_launcher.config", "JobLibLauncherConf"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher.config", "LocalQueueConf"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher.config", "SlurmQueueConf"),
}
NAMES = sorted(path.stem for path in (conf_folder() / "hydra/launcher").glob("*.yaml"))


def node(name: str) -> dict[str, Any]:
    """What conf/ says of a launcher."""
    return yaml.safe_load((conf_folder() / f"hydra/launcher/{name}.yaml").read_text())


def skip_where_absent(name: str) -> None:
    module = node(name)["_target_"].split(".")[1]
    pytest.importorskip(f"hydra_plugins.{module}", reason=f"{module} isn't installed")


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_takes_what_its_file_says(name):
    """And Hydra, which finds two configurations of one name, doesn't warn of them."""
    skip_where_absent(name)
    module, schema = SCHEMAS[name]
    assert set(node(name)) <= {field.name for field in fields(getattr(import_module(module), schema))}
    with composed(tiny((f"hydra/launcher={name}",))) as composition:
        assert dict(composition.config.hydra.launcher).keys() == node(name).keys()


@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
@pytest.mark.slow
def test_a_job_in_another_process_gives_the_same_bits(tmp_path, monkeypatch, name):
    """Slow: the other process imports what a run needs."""
    skip_where_absent(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = tiny(("method=[grad_cam]", "metric=[sensitivity_error]"))
    here = run_jobs([*words, f"results={tmp_path / 'here'}"])[1]
    more = ["hydra.launcher.n_jobs=2"] if name == "joblib" else []  # with 1 it stays in this process
    there = run_jobs([*words, f"hydra/launcher={name}", *more, f"results={tmp_path / 'there'}"])[1]
    assert [outcome.shards_computed for outcome in there] == [3]
    pd.testing.assert_frame_equal(rows_of(tmp_path / "there", there), rows_of(tmp_path / "here", here))


@pytest.mark.parametrize(("name", "extra"), [("joblib", "launchers"), ("submitit_slurm", "launchers")])
def test_what_isn_t_installed_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(BenchError, match=rf"isn't installed; pip install '\.\[{extra}\]' in axiom-bench's checkout"):
        hydra_inside.check_launcher(node(name), hydra_inside.LOCAL)
    with pytest.raises(BenchError, match="install its package"):
        hydra_inside.check_launcher({"_target_": "my.launcher.Mine"}, hydra_inside.LOCAL)


def test_a_launcher_and_an_executor_are_not_combined():
    with (
        pytest.raises(BenchError, match="leave hydra/launcher out"),
        composed(tiny(("hydra/launcher=joblib", "executor=processes"))),
    ):
        pass
    with composed(tiny(("executor=processes",))):
        pass


def test_a_killed_process_is_a_sentence(monkeypatch):
    class Breaks:
        def launch(self, jobs: object, initial_job_idx: int) -> object:
            raise RuntimeError("A worker process was terminated. It may be this.\nOr that.")

    from hydra.core.plugins import Plugins

    monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", lambda *_: Breaks())
    monkeypatch.setattr(hydra_inside, "check_launcher", lambda *_: None)
    with composed(tiny(("hydra/launcher=joblib",))) as composition, pytest.raises(BenchError) as caught:
        composition.launch(lambda config: None)
    assert str(caught.value) == (
        "hydra/launcher couldn't end all jobs (RuntimeError: A worker process was terminated). Finished shards are "
        "kept: the same command goes on from there."
    )


ROOT = Path(__file__).resolve().parents[2]
INSIDE = "bench/run/composing/hydra_inside.py"
USED = {  # a class or function, and the parameters that it must take
    "hydra._internal.callbacks.Callbacks": ["config"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl": ["config_search_path"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.compute_defaults_list": [
        "config_name",
        "overrides",
        "run_mode",
    ],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.load_sweep_config": ["master_config", "sweep_overrides"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.get_group_options": ["group_name", "results_filter"],
    "hydra._internal.config_repository.ConfigRepository": ["config_search_path"],
    "hydra._internal.config_repository.ConfigRepository.load_config": ["config_path"],
    "hydra._internal.config_repository.ConfigRepository._find_object_source": ["config_path", "object_type"],
    "hydra._internal.hydra.Hydra": ["task_name", "config_loader"],
    "hydra._internal.hydra.Hydra.compose_config": ["config_name", "overrides", "run_mode"],
    "hydra._internal.utils.create_config_search_path": ["search_path_dir"],
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher": [],
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": [],
    "hydra.core.config_store.ConfigStore.instance": [],
    "hydra.core.override_parser.overrides_parser.OverridesParser.create": ["config_loader"],
    "hydra.core.override_parser.overrides_parser.OverridesParser.parse_override": ["s"],
    "hydra.core.override_parser.overrides_parser.OverridesParser.parse_overrides": ["overrides"],
    "hydra.core.override_parser.types.QuotedString": ["text", "quote"],
    "hydra.core.plugins.Plugins.instantiate_launcher": ["hydra_context", "task_function", "config"],
    "hydra.plugins.launcher.Launcher.launch": ["job_overrides", "initial_job_idx"],
    "hydra.types.HydraContext": ["config_loader", "callbacks"],
    "hydra.version.setbase": ["ver"],
}


@pytest.mark.parametrize("name", USED)
def test_hydra_has_what_is_used_of_its_inside(name):
    try:
        used = pkgutil.resolve_name(name)  # also where Hydra's search for plug-ins has imported the module before
    except (ImportError, AttributeError):
        pytest.fail(f"Hydra {hydra.__version__} has no {name}; change {INSIDE}.")
    missing = set(USED[name]) - set(inspect.signature(used).parameters)
    assert not missing, f"Hydra {hydra.__version__}: {name} takes no {missing}; change {INSIDE}."


def test_one_module_uses_hydras_inside():
    paths = [path for folder in ("bench", "methods", "metrics", "scripts") for path in (ROOT / folder).rglob("*.py")]
    using = [str(path.relative_to(ROOT)) for path in paths if "hydra._internal" in path.read_text()]
    assert using == [INSIDE]
