"""This project's methods and metrics with other parameters than those of their YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from axiom_bench.evaluation.plugins import Plugin


def with_params(plugin: Plugin, params: Mapping[str, Any]) -> Plugin:
    """The same method or metric with some parameters changed."""
    return replace(plugin, call=partial(plugin.call, **params), params={**plugin.params, **params})
