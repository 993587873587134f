"""Text for people and for files: ids, numbers, durations and sizes, the same in every view; integers of any size.

The lowest layer: pure functions, any thread. Python by itself converts at most 4,300 digits
(sys.get_int_max_str_digits), and a process-wide switch is not a library's to change.
"""

from __future__ import annotations

import operator
import re
from functools import cache
from itertools import islice
from math import isfinite
from typing import Protocol, SupportsIndex, TypeVar

T = TypeVar("T")

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff{_BIDI}\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]+")
#: Up to this many bits, and digits, Python's own conversion is used: it is fast there and never refuses.
_PLAIN_BITS, _PLAIN_DIGITS = 2_000, 600
#: An integer of more digits is neither saved nor read: converting this many takes 20 s, and ten times as many an hour.
MAX_DIGITS = 10_000_000
_PRINTED_BITS = 14_000  # 4,300 digits have at least this many bits


def without_surrogates(text: str) -> str:
    """Return the text with each lone surrogate, which UTF-8 can't hold, replaced by U+FFFD.

    Truncated model output ends in half a character, and file names that are no UTF-8 hold one for each odd byte.

    Example:
        >>> without_surrogates("cut \\ud83d")
        'cut \ufffd'
    """
    if text.isascii():
        return text
    return _SURROGATES.sub(lambda found: "\ufffd" * len(found[0]), text)


def shorten(text: str, characters: int, *, keep: str = "start") -> str:
    """Return a text of at most this many characters: its start, or with keep="end" its end, with a mark of the cut.

    Example:
        >>> shorten("abcdef", 4), shorten("abcdef", 4, keep="end")
        ('abc…', '…def')
    """
    if len(text) <= characters:
        return text
    return f"{text[: characters - 1]}…" if keep == "start" else f"…{text[1 - characters :]}"


def id_text(value: str | SupportsIndex) -> str:
    """Return a sample's id, a text or an integer of any kind, as it is saved.

    Example:
        >>> id_text(7), id_text("cut \\ud83d")
        ('7', 'cut \ufffd')
    """
    return without_surrogates(value) if isinstance(value, str) else digits_of(operator.index(value))


def escape_control_chars(text: str) -> str:
    """Return the text with control characters, escapes and marks of direction made visible; line feeds and tabs stay.

    Ids, errors and output come from programs and from directories of strangers: none of it may steer a terminal.

    Example:
        >>> escape_control_chars("a\\x1b[31mb\\r\\n")
        'a␛[31mb␍\\n'
    """

    def show(found: re.Match[str]) -> str:
        code = ord(found[0])
        return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"<U+{code:04X}>"

    return _HIDDEN.sub(show, text)


def digits_of(number: int) -> str:
    """Return the decimal digits of an integer of any size.

    Example:
        >>> len(digits_of(10**5000))
        5001
    """
    bits = number.bit_length()
    if bits <= _PLAIN_BITS:
        return str(number)
    import decimal

    @cache
    def power_of_2(exponent: int) -> decimal.Decimal:
        return decimal.Decimal(2) ** exponent

    def convert(n: int, width: int) -> decimal.Decimal:
        if width <= _PLAIN_BITS:
            return decimal.Decimal(n)
        half = width >> 1
        high = n >> half
        return convert(n - (high << half), half) + convert(high, width - half) * power_of_2(half)

    with decimal.localcontext(decimal.Context(decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)):
        text = str(convert(abs(number), bits))
    return f"-{text}" if number < 0 else text


def integer_of(digits: str) -> int:
    """Return the integer that decimal digits stand for, however many there are.

    Raises:
        ValueError: these are no decimal digits, or more than MAX_DIGITS.

    Example:
        >>> integer_of("1" + "0" * 5000) == 10**5000
        True
    """
    if len(digits) <= _PLAIN_DIGITS:
        return int(digits)
    negative = digits.startswith("-")
    digits = digits[negative:]
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"no integer: {digits[:40]}…")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits; more than {MAX_DIGITS:,} are not read")

    @cache
    def power_of_10(exponent: int) -> int:
        return int(5**exponent) << exponent

    def convert(start: int, stop: int) -> int:
        size = stop - start
        if size <= _PLAIN_DIGITS:
            return int(digits[start:stop])
        low = size >> 1
        return convert(start, stop - low) * power_of_10(low) + convert(stop - low, stop)

    value = convert(0, len(digits))
    return -value if negative else value


class LongInteger(int):
    """An integer of more digits than Python prints by itself: it prints, so that a frame that holds one does."""

    def __str__(self) -> str:
        return digits_of(int(self))

    __repr__ = __str__


def printable(value: T) -> T | LongInteger:
    """Return the value; an integer of many digits as a LongInteger.

    Example:
        >>> len(str(printable(10**5000)))
        5001
    """
    is_long = isinstance(value, int) and value.bit_length() > _PRINTED_BITS
    return LongInteger(value) if is_long else value  # type: ignore[call-overload]  # it is an integer


# ---- numbers as people read them


_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units.

    Example:
        >>> duration_text(7842), duration_text(75), duration_text(3.2)
        ('2 h 10 min', '1 min 15 s', '3 s')
    """
    s = round(seconds)
    days, s = divmod(s, 86400)
    hours, s = divmod(s, 3600)
    minutes, s = divmod(s, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (s, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), 3)
    return " ".join(f"{n} {unit}" for n, unit in islice(parts, first, first + 2) if n or unit == parts[first][1])


def time_text(seconds: float) -> str:
    """Return a measured time to three digits.

    Example:
        >>> time_text(1.79e-06), time_text(0.25), time_text(1.2345), time_text(75)
        ('1.79 µs', '250 ms', '1.23 s', '1 min 15 s')
    """
    if not isfinite(seconds):  # in a file that was edited by hand
        return f"{seconds} s"
    s = float(f"{seconds:.3g}")  # rounded first, or 0.9999 s were 1e+03 ms
    if s >= 60:
        return duration_text(seconds)
    scale, unit = next(((n, unit) for n, unit in _UNITS if s >= n), _UNITS[-1] if s > 0 else _UNITS[0])
    return f"{s / scale:.3g} {unit}"


def rate_text(rate_per_s: float | None) -> str:
    """Return a rate in the unit that reads best; "" for None.

    Example:
        >>> rate_text(1234.5), rate_text(0.05), rate_text(None)
        ('1,234 tasks/s', '3.0 tasks/min', '')
    """
    if rate_per_s is None:
        return ""
    if rate_per_s >= 100:
        return f"{rate_per_s:,.0f} tasks/s"
    if rate_per_s >= 1:
        return f"{rate_per_s:.1f} tasks/s"
    if rate_per_s * 60 >= 1:
        return f"{rate_per_s * 60:.1f} tasks/min"
    return f"{rate_per_s * 3600:.1f} tasks/h"


class TaskCounts(Protocol):
    """The counts that `count_text` reads; a Progress has them."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def errors(self) -> int: ...
    @property
    def skipped(self) -> int: ...


def count_text(progress: TaskCounts) -> str:
    """Return how far a run is: "1,204 of 5,000 tasks, 3 errors", or "1,204 tasks" while the total is not known."""
    of = "" if progress.total is None else f" of {progress.total:,}"
    text = f"{progress.done:,}{of} tasks"
    if progress.errors:
        text += f", {counted(progress.errors, 'error')}"
    if progress.skipped:
        text += f", {progress.skipped:,} skipped"
    return text


def percent_text(share: float) -> str:
    """Return a share in percent: 100 % only for all, 0 % only for none.

    Example:
        >>> percent_text(0.9999), percent_text(1.0), percent_text(0.125)
        ('99.9 %', '100 %', '12.5 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(99.9, max(0.1, round(100 * share, 1))):g} %"


def counted(count: int, one: str, more: str = "") -> str:
    """Return a number and what it counts: `one`, and of other numbers `more`, which is `one` with an s if not given.

    Example:
        >>> counted(1, "saved result"), counted(1200, "error"), counted(2, "task is", "tasks are")
        ('1 saved result', '1,200 errors', '2 tasks are')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def bytes_text(n: int) -> str:
    """Return a size in bytes in the unit that reads best.

    Example:
        >>> bytes_text(900), bytes_text(1_234_567), bytes_text(56_000_000_000)
        ('900 bytes', '1.2 MB', '56 GB')
    """
    if n < 1000:
        return f"{n} bytes"
    size, units = n / 1000, ["TB", "GB", "MB", "kB"]
    unit = units.pop()
    while size >= 999.5 and units:
        size, unit = size / 1000, units.pop()
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:,.0f} {unit}"
