"""QR codes and other patterns, drawn when they are read: nothing is downloaded or stored."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from axiom_bench.cutting.interventions import FINDER_PATTERNS, GROUND, TIMING_PATTERNS
from axiom_bench.data.base import Drawn, Seed, StoredPart
from axiom_bench.data.embedded import DrawnImages
from axiom_bench.embedded import qr, scenes
from axiom_bench.kinds import Name

CODE_PARTS = (FINDER_PATTERNS, TIMING_PATTERNS, "other modules")  # as `embedded.qr` numbers them


class QRCodes(DrawnImages):
    """Images of a QR code, or of another pattern: see `embedded.qr`."""

    classes = qr.CLASSES

    def __init__(
        self, size: Drawn, seed: Seed = 0, split: Name = "evaluation", name: Name = "qr_codes"
    ) -> None:
        super().__init__(size, seed, split, name, qr.KIND.space, qr.draw)

    def interventions(self, index: int) -> tuple[StoredPart, ...]:
        """Return the parts of a code, or the whole pattern, and the ground with the quiet zone.

        All modules of a part are light in its version. The ground has other textures around the
        quiet zone.
        """
        drawing = qr.make_drawing(self.split, self.seed, index)
        label = drawing.figures[0].digit
        names = CODE_PARTS if label == qr.CODE else ("pattern",)
        parts = []
        for number, name in enumerate(names):
            without = Image.fromarray(drawing.image(without=number))
            parts.append(StoredPart(name, label, drawing.figures[number].drawn, (without,)))
        grounds = []
        bare = []
        for version in range(1, scenes.GROUNDS + 1):
            other = qr.make_drawing(self.split, self.seed, index, version)
            grounds.append(Image.fromarray(other.image()))
            bare.append(Image.fromarray(replace(other, figures=()).image()))
        ground = StoredPart(GROUND, None, drawing.mask < 0, tuple(grounds), tuple(bare))
        return (*parts, ground)
