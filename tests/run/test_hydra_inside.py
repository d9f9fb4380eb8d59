"""What is used of Hydra's inside is in one module, and is as that module expects it: a new release may change it."""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path

import hydra
import pytest

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "bench/run/composing/hydra_inside.py"
USED = {  # a class or function, and the parameters that it must take
    "hydra._internal.callbacks.Callbacks": ["config"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl": ["config_search_path"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.load_sweep_config": ["master_config", "sweep_overrides"],
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.get_group_options": ["group_name", "results_filter"],
    "hydra._internal.config_repository.ConfigRepository.load_config": ["config_path"],
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
def test_hydra_has_what_is_used_of_its_inside(name: str):
    try:
        used = pkgutil.resolve_name(name)  # also where Hydra's search for plug-ins has imported the module before
    except (ImportError, AttributeError):
        pytest.fail(f"Hydra {hydra.__version__} has no {name}; change {INSIDE}.")
    missing = set(USED[name]) - set(inspect.signature(used).parameters)
    assert not missing, f"Hydra {hydra.__version__}: {name} takes no {missing}; change {INSIDE}."


def test_one_module_uses_hydras_inside():
    folders = ("bench", "methods", "metrics", "scripts")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    using = [path for path in paths if "hydra._internal" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in using] == [INSIDE]
