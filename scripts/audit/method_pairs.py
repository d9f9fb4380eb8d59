"""Which method of another library is compared with which of this project, with which settings, and both calls."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin

from .libraries import quiet
from .networks import Network, embedded, explained, tiny, tiny_pooled


@dataclass(frozen=True)
class Settings:
    """Settings under which both are the same method. ours: changed parameters of this project's method. theirs: changed
    options of the library's. text: both, for the table. unit: of the library's raw map in units of ours: "1", "H W"
    (positions of the layer), or "" where there is no one factor. rectified: whether both maps are, before scaling."""

    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    text: str = "default"
    unit: str = "1"
    rectified: bool = True


NO_NOISE = 1e-30  # torch's normal distribution refuses 0
SETTINGS = {
    # Neither the paper nor the library rectifies CAM.
    "cam@torchcam": (Settings(text="raw: ours times H W", unit="H W", rectified=False),),
    "guided_grad_cam@captum": (
        Settings(unit=""),  # ours multiplies by a heatmap whose maximum is 1
        Settings({}, {"interpolate_mode": "bilinear"}, "`interpolate_mode` bilinear", unit=""),
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
OF_CHANNELS = ("ablation_cam", "score_cam", "is_cam", "ss_cam")  # a pass or more a channel: 32, of small images


@dataclass(frozen=True)
class MethodPair:
    """A method of this project and the same of a library. name: method@library. params: of the library's adapter."""

    name: str
    ours: Plugin
    params: Mapping[str, Any]
    settings: Settings

    @property
    def library(self) -> str:
        """The library's import name."""
        return self.name.partition("@")[2]

    @property
    def title(self) -> str:
        """The name as code, with the settings where it is compared under several."""
        return f"`{self.name}`" + (f" ({self.settings.text})" if len(SETTINGS.get(self.name, ())) > 1 else "")

    @property
    def extractor(self) -> str:
        """The name of the library's class."""
        return str(self.params["extractor"])

    def tiny(self) -> Network:
        """The tiny network that it is measured on."""
        return tiny_pooled() if self.ours.name == "cam" else tiny()

    def trained(self) -> Network:
        """The trained network that it is measured on."""
        if self.ours.name == "cam":
            return embedded("layer4", 96)  # its head is pooled
        return embedded("layer2", 48) if self.ours.name in OF_CHANNELS else explained()

    def our_maps(self, network: Network) -> Tensor:
        """This project's signed raw maps (B, h, w)."""
        raw_map = ab.Explanation.of(network.trace, self.ours(network.trace)).raw_map
        assert raw_map is not None
        return raw_map

    def their_maps(self, network: Network, **changed: Any) -> Tensor:
        """The library's maps (B, h, w), as it returns them. changed: further arguments of the adapter's `extract`."""
        extract = importlib.import_module(f"axiom_bench.methods.peers.{self.library}").extract
        layers = [network.model.get_submodule(network.layer)]
        with quiet():
            maps = extract(network.model, layers, network.images.clone(), network.targets, **self.params, **changed)
        return torch.as_tensor(maps).detach()

    def their_raw_maps(self, network: Network) -> Tensor | None:
        """The library's maps before scaling and resizing; None where it offers none, or in no unit of ours."""
        if not self.settings.unit:
            return None
        if self.library != "pytorch_grad_cam":
            return self.their_maps(network, **({"normalized": False} if self.library == "torchcam" else {}))
        if self.extractor in ("FullGrad", "FinerCAM"):  # they don't use get_cam_image
            return None
        extractor, maps = self._grad_cam(), list[Any]()

        class Recording(extractor):  # type: ignore[valid-type, misc]  # a class known by its name only
            def get_cam_image(self, *args: Any) -> Any:
                maps.append(super().get_cam_image(*args))
                return maps[-1]

        self._call_grad_cam(Recording, network)
        return torch.as_tensor(maps[0]).detach()

    def documented_call(self, network: Network) -> None:
        """The call of the library's documentation, with `with` where it has one."""
        if self.library == "pytorch_grad_cam":
            self._call_grad_cam(self._grad_cam(), network, within=True)
        else:
            self.their_maps(network)

    def _grad_cam(self) -> Any:
        return getattr(importlib.import_module("pytorch_grad_cam"), self.extractor)

    def _call_grad_cam(self, extractor: Any, network: Network, within: bool = False) -> None:
        """within: a `with` statement."""
        of_class = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
        layers = [network.model.get_submodule(network.layer)]
        with quiet():
            cam = extractor(network.model, layers, **self.params.get("options") or {})
            with cam if within else nullcontext():
                cam(network.images.clone(), [of_class(target) for target in network.targets.tolist()])


def pairs() -> Iterator[MethodPair]:
    """Every file of conf/peers/ whose method this project has. Raises BenchError where a library is absent."""
    ours = set(methods.names())
    for name in plugins.names(plugins.PEERS):
        if name.partition("@")[0] in ours:
            yield from pairs_of(name)


def pairs_of(name: str) -> Iterator[MethodPair]:
    """Of a file of conf/peers/, one for each of its settings. Raises BenchError where a library is absent."""
    for settings in SETTINGS.get(name, (Settings(),)):
        params = dict(methods.get(name).params)
        if settings.theirs:
            params["options"] = {**(params.get("options") or {}), **settings.theirs}
        yield MethodPair(name, plugins.with_params("method", name.partition("@")[0], settings.ours), params, settings)
