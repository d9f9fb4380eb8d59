"""The common types of an audit: a case on which a CAM function is called, and a finding."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from axiom_bench.evaluation.cam_call import Arguments
from axiom_bench.evaluation.cam_call import CamFunction as CamFunction

CALL = "cam(model, layer, images, targets)"


@dataclass(frozen=True, eq=False)
class Case:
    """A network whose right maps are known, and what a CAM function is called with.

    Attributes:
        name: What the network has in particular, such as "negative activations".
        model: The network in eval mode.
        layer: The dotted name of the target layer.
        images: The images, (B, 3, H', W').
        targets: The explained classes, (B,).
    """

    name: str
    model: nn.Module
    layer: str
    images: Tensor
    targets: Tensor

    @property
    def layer_module(self) -> nn.Module:
        """The target layer in the network."""
        return self.model.get_submodule(self.layer)

    def arguments(self) -> Arguments:
        """Return a copy of the network and the tensors, which a CAM function may change."""
        model = copy.deepcopy(self.model)
        layer = model.get_submodule(self.layer)
        return Arguments(model, layer, self.images.clone(), self.targets.clone())


@dataclass(frozen=True)
class Finding:
    """A behaviour of a CAM function that its users should know.

    Attributes:
        key: The name of the check, such as `hooks_left`.
        sentence: One sentence that describes the behaviour with its numbers.
        code: Lines of Python that reproduce it.
    """

    key: str
    sentence: str
    code: str


def names_of_call(cam: CamFunction, case: Case) -> dict[str, object]:
    """Return the names in `CALL`, and so in a finding's code, for a copy of a case."""
    names: dict[str, object] = vars(case.arguments())
    names.update(cam=cam)
    return names
