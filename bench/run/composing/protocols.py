"""Protocols, `protocol=NAME`: the settings of a paper's evaluation, as its authors' code has them.
A file of conf/protocol/ fixes them; what the command line says wins, and the run tells what
differs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from axiom_bench.errors import BenchError
from axiom_bench.run.composing import settings

GROUP = "protocol"  # of conf/, and the key of what a protocol says of itself
EMBEDDED = "embedded"  # source of networks that take images of their own size
SHOWN = ("report", "pictures", "runtime")  # what a protocol shows decides no value
METRICS = "override /metric"


def check(config: DictConfig, typed: Collection[str]) -> None:
    """Raises BenchError for several protocols, and for a key of what a protocol says of itself.
    typed: the keys of the command line.
    """
    if GROUP in typed and GROUP not in config.hydra.runtime.choices:
        raise BenchError(
            "protocol takes one name, protocol=NAME; axiom-bench list protocols shows them."
        )
    if inside := next((key for key in typed if key.startswith(f"{GROUP}.")), None):
        raise BenchError(
            f"{inside} can't be set: write a protocol of your own, protocol/NAME.yaml below "
            "--config-dir."
        )


def apply(config: DictConfig, file: Mapping[str, Any], typed: Collection[str]) -> None:
    """Set what the protocol says of the configuration's network, and write `protocol.differences`:
    a sentence for each setting that isn't the protocol's. file: its content. typed: the keys of the
    command line, which win.
    """
    of_network = dict(_of_network(config, file[GROUP]))
    missing = [name for name in _metrics(file) if "_target_" not in config.metric.get(name, {})]
    fixed = {**dict(_fixed(file)), **of_network}
    with open_dict(config):
        for key, value in of_network.items():
            if key not in typed:
                OmegaConf.update(config, key, value)
        config[GROUP].differences = [f"metric.{name} isn't computed" for name in missing]
        config[GROUP].differences += [
            f"{key} is {_text(here)}, not {_text(value)}"
            for key, value in fixed.items()
            if not key.startswith(tuple(f"metric.{name}." for name in missing))
            and (here := OmegaConf.select(config, key)) != value
        ]


def _of_network(config: DictConfig, about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of the job's network: `layers` names the layer of an architecture,
    `preprocessing` is that of photographs.
    """
    layers = about.get("layers") or {}
    if config.model.architecture in layers:
        yield "model.layer", layers[config.model.architecture]
    if config.model.source != EMBEDDED:
        yield from (
            (f"model.{key}", value) for key, value in (about.get("preprocessing") or {}).items()
        )


def _fixed(file: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting that the file has and that decides values."""
    rest = {key: value for key, value in file.items() if key not in ("defaults", GROUP, *SHOWN)}
    return ((key, value) for key, value in settings.dotted(rest) if not isinstance(value, Mapping))


def _metrics(file: Mapping[str, Any]) -> list[str]:
    return [name for entry in file["defaults"] if METRICS in entry for name in entry[METRICS]]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=list)
