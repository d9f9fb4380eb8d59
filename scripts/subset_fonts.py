"""Reduce DejaVu Sans, the font of the report's figures, to Latin, Greek, arrows and mathematics.

Each PDF embeds the part of a font that it uses (type 42, as conferences ask). Cutting that part out
of the whole DejaVu Sans took half of the time of drawing a PDF, because of its layout tables and
6,000 glyphs. A sign that the reduced font lacks is drawn in the whole one.

    python scripts/subset_fonts.py    writes bench/report/charts/fonts/ again
"""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib
from fontTools import subset

FOLDER = Path(__file__).resolve().parents[1] / "bench" / "report" / "charts" / "fonts"
SIGNS = ((0x20, 0x180), (0x370, 0x400), (0x2010, 0x2040), (0x2190, 0x2270))  # from, to below
NAMES = (1, 4, 6, 16)  # records: family, full name, PostScript name, typographic family


def reduce(source: Path, target: Path) -> None:
    """Write the reduced font under its own name, as DejaVu's licence asks of changed fonts."""
    options = subset.Options(
        layout_features=[], glyph_names=True, name_IDs=["*"], notdef_outline=True
    )
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "FFTM", "MATH"]
    font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[sign for first, end in SIGNS for sign in range(first, end)])
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in NAMES:
            name = str(record).replace("DejaVu Sans", "Report Sans")
            record.string = name.replace("DejaVuSans", "ReportSans")
    font["head"].modified = font["head"].created  # the same bytes again
    font.save(str(target))


def main() -> None:
    """Write both weights, and the licence next to them."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    FOLDER.mkdir(exist_ok=True)
    for name, weight in (("DejaVuSans", "Regular"), ("DejaVuSans-Bold", "Bold")):
        reduce(fonts / f"{name}.ttf", FOLDER / f"ReportSans-{weight}.ttf")
    shutil.copy(fonts / "LICENSE_DEJAVU", FOLDER / "LICENSE")


if __name__ == "__main__":
    main()
