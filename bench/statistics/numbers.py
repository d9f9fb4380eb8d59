"""How a number is written for a reader: three significant digits, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable

NOTHING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
# Values below are float32's rounding: a method that is exact in theory has such errors, and no method is better than
# another by them. They all print the same, and so tie.
FLOAT32_ROUNDING = 1e-6


def number(value: float) -> str:
    """Three significant digits; whole from 1,000 on; a dash for what isn't finite; "<1e-6" for float32's rounding.

    >>> [number(x) for x in (0.012345, 12.0, 4321.5, 2.5e9, 1.2e-7, 0.0)]
    ['0.0123', '12.0', '4,322', '2.50e9', '<1e-6', '0']
    """
    if not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    if abs(value) < FLOAT32_ROUNDING:
        return "<1e-6"
    rounded = float(f"{value:.3g}")
    if not 1e-4 <= abs(rounded) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(rounded) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(rounded)))}f}"


def with_error(mean: float, error: float) -> str:
    """A mean and its standard error to the same decimals, three digits of the larger; the mean alone for n = 1.

    >>> with_error(0.50227, 0.02321)
    '0.502 \u00b1 0.023'
    """
    if not (math.isfinite(error) and math.isfinite(mean)):
        return number(mean)
    larger = number(max(abs(mean), error))
    if "e" in larger:
        return f"{number(mean)} {PLUS_MINUS} {number(error)}"
    decimals = len(larger.partition(".")[2])
    rounded = f"{error:.{decimals}f}"
    return f"{mean:,.{decimals}f} {PLUS_MINUS} {rounded if float(rounded) or not error else number(error)}"


def with_interval(value: float, low: float, high: float) -> str:
    """A value with the ends of its interval, three significant digits each; the value alone where it has none, or where
    all three are float32's rounding.

    >>> with_interval(0.28419, 0.2302, 0.35416)
    '0.284 [0.230, 0.354]'
    """
    is_rounding = all(abs(end) < FLOAT32_ROUNDING for end in (value, low, high))
    if is_rounding or not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def p_value(p: float) -> str:
    """A p value for a sentence.

    >>> [p_value(p) for p in (0.25, 0.0375, 0.00042)]
    ['p = 0.25', 'p = 0.037', 'p < 0.001']
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def share(part: float, total: float) -> str:
    """A percentage without decimals: 0 % and 100 % stand for none and all alone, never for a rounded share."""
    percent = 100 * part / total if total else 0.0
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def counts_text(images: Iterable[int], rows: Iterable[int]) -> str:
    """How many images, and rows (an image and an explained class), values were computed from; of several, the range.

    >>> counts_text([64, 64], [120, 124])
    'n = 64 images, 120 to 124 rows'
    """
    return f"n = {_count(list(images), 'image')}, {_count(list(rows), 'row')}"


def _count(counts: list[int], noun: str) -> str:
    low, high = int(min(counts)), int(max(counts))
    return f"{low:,}{'' if low == high else f' to {high:,}'} {noun}{'' if high == 1 else 's'}"
