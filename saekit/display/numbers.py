"""Numbers as people read them: the one place that decides how many digits are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MISSING = "–"
LARGE = 10_000
"""From here on numbers are shown without decimals."""
HUGE = 1e9
"""From here on numbers that are no counts are shown with their power of ten."""


def number(value: Any, digits: int = 3) -> str:
    """A number with at most `digits` that count, whole ones with separators, a dash for nan and None.

    >>> from saekit.display import number
    >>> number(50.200001), number(1234567), number(0.00012345), number(float("nan")), number(3.5e-8)
    ('50.2', '1,234,567', '0.000123', '–', '3.5e-08')
    """
    if value is None or type(value).__name__ == "NAType":
        return MISSING
    if isinstance(value, bool):
        return str(value)
    try:
        plain = float(value)
    except (TypeError, ValueError):
        return str(value)
    if math.isnan(plain):
        return MISSING
    if math.isinf(plain):
        return "∞" if plain > 0 else "−∞"
    if plain == 0:
        return "0"
    if is_whole(value) and abs(plain) < 1e15:
        return f"{int(value):,}"
    if abs(plain) >= LARGE:
        return f"{round(plain):,}" if abs(plain) < HUGE else f"{plain:.{digits}g}"
    if plain and abs(plain) < 1e-4:
        return f"{plain:.{digits}g}"
    places = decimals([plain], digits)
    text = f"{plain:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def percent(fraction: Any, digits: int = 3) -> str:
    """A fraction as a percentage, a dash for nan; 100% only where it is exact.

    >>> from saekit.display import percent
    >>> percent(0.5), percent(0.123456), percent(0.99999), percent(0.00002)
    ('50%', '12.3%', '>99.9%', '0.002%')
    """
    value = 100 * float("nan" if fraction is None else fraction)
    if math.isnan(value):
        return MISSING
    if 99.95 <= value < 100:
        return ">99.9%"
    return f"{number(round(value, 10), digits)}%"


def short(value: float) -> str:
    """Two decimals, three below 0.1 so that small rates can be distinguished; what texts of results show.

    >>> from saekit.display.numbers import short
    >>> short(0.5), short(0.0123), short(float("nan"))
    ('0.50', '0.012', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if value >= 0.0995 or value == 0 else f"{value:.3f}"


def column(values: Sequence[Any], digits: int = 3) -> list[str]:
    """Numbers of one column of a table, with as many decimals each, so that their points stand below each other.

    A value that these decimals would make 0 is shown with digits of its own.

    >>> from saekit.display.numbers import column
    >>> column([0.9, 0.1234, None]), column([1200, 3]), column([0.5, 1e-7])
    (['0.900', '0.123', '–'], ['1,200', '3'], ['0.500', '1e-07'])
    """
    known = [float(v) for v in values if is_number(v) and math.isfinite(float(v))]
    if all(v.is_integer() for v in known):
        return [number(v, digits) for v in values]
    places = decimals(known, digits)
    if max(map(abs, known)) >= 0.01:
        places = min(max(places, digits * (max(map(abs, known)) <= 1)), digits)

    def cell(value: Any) -> str:
        if not is_number(value) or not math.isfinite(float(value)):
            return number(value, digits)
        plain = float(value)
        if plain and round(plain, places) == 0:
            return f"{plain:.{max(1, digits - 1)}g}"
        return f"{plain:,.{places}f}".replace("-0." + "0" * places, "0." + "0" * places) if places else f"{plain:,.0f}"

    return [cell(v) for v in values]


def decimals(values: Sequence[float], digits: int) -> int:
    """Decimals with which the largest of some numbers shows `digits` that count."""
    top = max((abs(v) for v in values), default=0.0)
    if top >= LARGE or not top:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(top) + 1e-12))


def spans(lows: Sequence[float], highs: Sequence[float]) -> list[str]:
    """Ranges of one column, with as many decimals each.

    >>> from saekit.display.numbers import spans
    >>> spans([0, 0.0738], [0.0738, 0.1476])
    ['0.000 to 0.074', '0.074 to 0.148']
    """
    texts = column([*lows, *highs])
    return [f"{low} to {high}" for low, high in zip(texts[: len(lows)], texts[len(lows) :], strict=True)]


def size(n_bytes: int) -> str:
    """Bytes as people read them.

    >>> from saekit.display.numbers import size
    >>> size(1_234), size(98_000_000)
    ('1.23 kB', '98 MB')
    """
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{number(value)} {unit}"


def rounded(value: Any, digits: int = 6) -> Any:
    """A float without the noise of its 32 bits; anything else as it is.

    >>> import numpy as np
    >>> from saekit.display import rounded
    >>> rounded(float(np.float32(50.2))), rounded(3), rounded("a")
    (50.2, 3, 'a')
    """
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a number and no truth value; numbers of numpy and pandas are."""
    if isinstance(value, (bool, str, bytes)) or value is None or type(value).__name__ in ("bool", "bool_", "NAType"):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_whole(value: Any) -> bool:
    """Whether a value is of a type of whole numbers."""
    return isinstance(value, int) or hasattr(value, "__index__")
