"""hydra/launcher: jobs in other processes give the values of one process; what can't be is one sentence. And what is
used of Hydra's inside is there."""

import importlib.util
import inspect
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.run.composing import launchers
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.sweep import sweep

from .conftest import RUN, module_of, rows_of, tiny

SCHEMAS = {  # of each launcher's package: what it takes
    "joblib": ("hydra_plugins.hydra_joblib_launcher.config", "JobLibLauncherConf"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher.config", "LocalQueueConf"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher.config", "SlurmQueueConf"),
    "ray": ("hydra_plugins.hydra_ray_launcher._config", "RayLauncherConf"),
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
    here = sweep([*words, f"results={tmp_path / 'here'}"])[1]
    more = ["hydra.launcher.n_jobs=2"] if name == "joblib" else []  # with 1 it stays in this process
    there = sweep([*words, f"hydra/launcher={name}", *more, f"results={tmp_path / 'there'}"])[1]
    assert [outcome.computed.shards for outcome in there] == [3]
    pd.testing.assert_frame_equal(rows_of(tmp_path / "there", there), rows_of(tmp_path / "here", here))


@pytest.mark.parametrize(("name", "extra"), [("joblib", "launchers"), ("submitit_slurm", "launchers"), ("ray", "ray")])
def test_what_isn_t_installed_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(BenchError, match=rf"isn't installed; pip install '\.\[{extra}\]' in axiom-bench's checkout"):
        launchers.check(node(name), "cpu")


def test_launchers_of_others_and_of_each_gpu():
    for device, sentence in (("cpu", "install the package that has it"), ("each_gpu", "leave hydra/launcher out")):
        with pytest.raises(BenchError, match=sentence):
            launchers.check({"_target_": "my.launcher.Mine"}, device)
    launchers.check({"_target_": launchers.BASIC_LAUNCHER}, "each_gpu")


def test_a_killed_process_is_a_sentence(monkeypatch):
    class Breaks:
        def launch(self, jobs: object, initial_job_idx: int) -> object:
            raise RuntimeError("A worker process was terminated. It may be this.\nOr that.")

    from hydra.core.plugins import Plugins

    monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", lambda *_: Breaks())
    monkeypatch.setattr(launchers, "check", lambda *_: None)
    with composed(tiny(("hydra/launcher=joblib",))) as composition, pytest.raises(BenchError) as caught:
        composition.launch(lambda config: None)
    assert str(caught.value) == (
        "hydra/launcher couldn't end all jobs (RuntimeError: A worker process was terminated). Finished shards are "
        "kept: the same command goes on from there."
    )


def test_the_environment_is_as_it_was_and_slurm_s_jobs_outlive_the_command(monkeypatch, capsys):
    monkeypatch.setenv(launchers.WARNINGS, "ignore:mine")
    monkeypatch.delenv(launchers.STARTED_BY, raising=False)
    with launchers.shown(2, node("joblib")):
        assert os.environ[launchers.WARNINGS] == "ignore:mine,ignore:resource_tracker"
        assert os.environ[launchers.STARTED_BY] == str(os.getpid())
        launchers.end_with_command()  # of the command itself: nothing to watch
    assert os.environ[launchers.WARNINGS] == "ignore:mine"
    assert launchers.STARTED_BY not in os.environ
    with launchers.shown(2, node("submitit_local")):
        pass
    assert capsys.readouterr().out == ""
    with launchers.shown(2, node("submitit_slurm")):  # its jobs may be on other machines
        assert launchers.STARTED_BY not in os.environ
    assert "scancel --name=axiom-bench ends them" in capsys.readouterr().out


def test_a_process_on_this_machine_ends_with_the_command():
    """Also where the command was killed, and the process is in the middle of a sleep."""
    code = "import time; from axiom_bench.run.composing import launchers; launchers.end_with_command(); "
    code += "print('started', flush=True); time.sleep(100)"
    command = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    options = {"env": {**os.environ, launchers.STARTED_BY: str(command.pid)}, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    try:
        assert process.stdout.readline() == "started\n"
        assert process.poll() is None
        command.kill()
        command.wait()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        command.kill()


STOPPED = """
import glob, os, signal, torch

stopped = []


def stops(explanation):
    if not stopped and glob.glob("RECORDS/*.parquet"):
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGUSR2)
    return torch.zeros(len(explanation.trace))
"""


@contextmanager
def handling(number: int, handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_stopped_job_ends_and_goes_on_later(run, results, tmp_path, monkeypatch):
    """As submitit does when Slurm tells it that a job's time is over: here once the first shard is there."""
    module_of(tmp_path, "stopped_once", STOPPED.replace("RECORDS", str(results / RUN / "records")), monkeypatch)
    words = ("method=[grad_cam]", "metric=[sensitivity_error]", "+metric.stops._target_=stopped_once.stops")
    with handling(signal.SIGUSR2, lambda *_: sys.exit(-1)):
        with pytest.raises(SystemExit):
            run(*words)
        (outcome,) = run(*words)
    assert outcome.failure is None
    assert 0 < outcome.computed.shards < outcome.shards


def test_handlers_are_put_back_and_an_error_of_a_child_is_one_of_who_has_it():
    def raises(number: int, _: object) -> None:
        raise RuntimeError(f"signal {number}")

    def interrupted() -> None:
        with launchers.signals_apart(), suppress(Exception):  # as code around a user's function does
            signal.raise_signal(signal.SIGUSR2)

    with handling(signal.SIGUSR2, raises):
        with pytest.raises(RuntimeError, match=f"signal {signal.SIGUSR2:d}"):
            interrupted()
        assert signal.getsignal(signal.SIGUSR2) is raises
    with handling(signal.SIGCHLD, raises), launchers.signals_apart(), pytest.raises(RuntimeError):
        signal.raise_signal(signal.SIGCHLD)


def test_other_threads_have_no_handlers():
    def use() -> str:
        with launchers.signals_apart():
            return "ran"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result() == "ran"


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
