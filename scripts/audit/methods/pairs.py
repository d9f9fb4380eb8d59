"""Which method of another library is compared with which of this project, and with which settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from axiom_bench import methods
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin

from ..plugins import with_params


@dataclass(frozen=True)
class Settings:
    """Settings under which both are the same method, where their defaults differ.

    own: changed parameters of this project's method. peer: changed options of the library's. text: both, for the table.
    unit: of the library's raw map in units of ours: "1", "H W" (positions of the layer), or "" where there is no one
    factor. rectified: whether both maps are rectified before they are scaled. read: whether `readings.py` has the
    library's formula for these settings.
    """

    own: Mapping[str, Any] = field(default_factory=dict)
    peer: Mapping[str, Any] = field(default_factory=dict)
    text: str = "default"
    unit: str = "1"
    rectified: bool = True
    read: bool = True


@dataclass(frozen=True)
class MethodPair:
    """A method of this project and the same of a library.

    name: method@library. peer_params: of the library's adapter. passes_per_channel: forward passes of the whole network
    for each channel, 0 for methods without such.
    """

    name: str
    own: Plugin
    peer_params: Mapping[str, Any]
    settings: Settings
    passes_per_channel: int = 0

    @property
    def library(self) -> str:
        """The library's import name."""
        return self.name.partition("@")[2]

    @property
    def title(self) -> str:
        """The name, with the settings where it is compared under several."""
        return self.name + (f" ({self.settings.text})" if len(SETTINGS.get(self.name, ())) > 1 else "")

    @property
    def extractor(self) -> str:
        """The name of the library's class."""
        return str(self.peer_params["extractor"])

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments of the library's class."""
        return self.peer_params.get("options") or {}


NO_NOISE = 1e-30  # torch's normal distribution refuses 0
SETTINGS = {
    # Neither the paper nor the library rectifies CAM.
    "cam@torchcam": (Settings(text="raw: ours times H W", unit="H W", rectified=False),),
    "guided_grad_cam@captum": (
        Settings(unit=""),  # ours multiplies by a heatmap whose maximum is 1
        Settings({}, {"interpolate_mode": "bilinear"}, "`interpolate_mode` bilinear", unit="", read=False),
    ),
    "finer_cam@pytorch_grad_cam": (Settings({"gamma": 1.0}, text="gamma 1"),),
    "is_cam@torchcam": (Settings({"steps": 2}, {"num_samples": 2}, "2 steps"),),
    "ss_cam@torchcam": (
        Settings({"samples": 2, "sigma": 0.0}, {"num_samples": 2, "std": NO_NOISE}, "2 samples, no noise"),
    ),
    "smooth_grad_cam_pp@torchcam": (
        Settings({"samples": 4, "sigma": 0.0}, {"num_samples": 4, "std": NO_NOISE}, "4 samples, no noise"),
    ),
}
PASSES_PER_CHANNEL = {"ablation_cam": 1, "score_cam": 1, "is_cam": 2, "ss_cam": 2}


def pairs() -> Iterator[MethodPair]:
    """Every file of conf/peers/ whose method this project has. Raises BenchError where a library is absent."""
    for name in plugins.names(plugins.PEERS):
        if name.partition("@")[0] in methods.names():
            yield from pairs_of(name)


def pairs_of(name: str) -> Iterator[MethodPair]:
    """The pairs of a file of conf/peers/, named method@library, one for each of its settings.

    Raises BenchError where the library is absent.
    """
    method = name.partition("@")[0]
    for settings in SETTINGS.get(name, (Settings(),)):
        peer_params = dict(methods.get(name).params)
        if settings.peer:
            peer_params["options"] = {**(peer_params.get("options") or {}), **settings.peer}
        own = with_params(methods.get(method), settings.own)
        yield MethodPair(name, own, peer_params, settings, PASSES_PER_CHANNEL.get(method, 0))
