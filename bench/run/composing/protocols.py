"""Apply a protocol, `protocol=NAME`: the settings of a paper's evaluation, as its authors' code has
them. A file of conf/protocol/ fixes them. The command line has priority, and the run lists the
differences.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

from omegaconf import DictConfig, OmegaConf, open_dict

from axiom_bench.errors import BenchError
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.settings import Entries

GROUP = "protocol"  # the folder in conf/, and the key of a protocol's own facts in its file
EMBEDDED = "embedded"  # the source of networks that take images of their own size
SHOWN = ("report", "pictures", "runtime")  # groups of a protocol that change no metric value
METRICS = "override /metric"


def check(config: DictConfig, typed: Collection[str]) -> None:
    """Check that one protocol is chosen, and that nobody changes what the protocol fixes.

    Args:
        config: The composed configuration.
        typed: The keys of the command line.

    Raises:
        BenchError: If several protocols are chosen, or a key below `protocol.` is set.
    """
    if GROUP in typed and GROUP not in config.hydra.runtime.choices:
        raise BenchError(
            "protocol takes one name, protocol=NAME; axiom-bench list protocols shows them."
        )
    fixed_key = next((key for key in typed if key.startswith(f"{GROUP}.")), None)
    if fixed_key:
        raise BenchError(
            f"{fixed_key} can't be set: write a protocol of your own, protocol/NAME.yaml below "
            "--config-dir."
        )


def apply(config: DictConfig, file: Entries, typed: Collection[str]) -> None:
    """Set the protocol's settings of the configuration's network, and write
    `protocol.differences`: a sentence for each setting that isn't the protocol's.

    Args:
        config: The composed configuration, which is changed.
        file: The content of the protocol's file.
        typed: The keys of the command line, which have priority.
    """
    network_settings = dict(_network_settings(config, file[GROUP]))
    missing_metrics = []
    for entry in file["defaults"]:
        if METRICS in entry:
            missing_metrics += [
                name for name in entry[METRICS] if "_target_" not in config.metric.get(name, {})
            ]
    # a metric that isn't computed is one difference, whatever its settings
    skipped = tuple(f"metric.{name}." for name in missing_metrics)
    with open_dict(config):
        for key, value in network_settings.items():
            if key not in typed:
                OmegaConf.update(config, key, value)
        differences = [f"metric.{name} isn't computed" for name in missing_metrics]
        for key, fixed_value in (_fixed_settings(file) | network_settings).items():
            if key.startswith(skipped):
                continue
            value = OmegaConf.select(config, key)
            if value != fixed_value:
                differences.append(f"{key} is {_text(value)}, not {_text(fixed_value)}")
        config[GROUP].differences = differences


def _network_settings(config: DictConfig, facts: Entries) -> Iterator[tuple[str, object]]:
    """Yield the protocol's settings of the job's network: its layer, and the preprocessing of
    photographs.
    """
    layers = facts.get("layers") or {}
    if config.model.architecture in layers:
        yield "model.layer", layers[config.model.architecture]
    if config.model.source != EMBEDDED:
        for key, value in (facts.get("preprocessing") or {}).items():
            yield f"model.{key}", value


def _fixed_settings(file: Entries) -> dict[str, object]:
    """Return every dotted setting of the file that can change a metric value."""
    groups = {key: value for key, value in file.items() if key not in ("defaults", GROUP, *SHOWN)}
    return {
        key: value
        for key, value in settings.iterate_settings(groups)
        if not isinstance(value, Mapping)
    }


def _text(value: object) -> str:
    """Return a setting's value as a sentence shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
