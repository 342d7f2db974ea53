"""How the command line shows things: sizes, times, tables, colours."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}
_GAP = "  "
_NARROWEST = 8
# Columns that are cut first, and how far: of a time the date stays. Names are there to be copied.
_GIVE_WAY = (("METRICS", 16), ("CREATED", 11), ("MODIFIED", 11))
# Columns that are left out after that, before a name is cut.
_LEFT_OUT = ("METRICS", "FORMAT", "CHECKPOINTS", "CREATED", "MODIFIED", "SIZE", "STATUS", "")


def print_json(document: object) -> None:
    """A document for programs. NaN and the infinities stand as Python's `json` writes and reads them."""
    print(json.dumps(document, indent=2))


def size(count: float | None) -> str:
    """Bytes for people: 1023 B, 1.0 KiB, 2.5 GiB."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return "-"


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 59 s, 3 min, 2 h, 5 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, divisor, unit in ((100, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def moment(seconds: float | None) -> str:
    """A time in the local zone."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def value(given: Any) -> str:  # noqa: ANN401
    """A metric's value, short."""
    if given is None:
        return "-"
    if isinstance(given, float):
        return f"{given:.6g}" if math.isfinite(given) else repr(given)
    return json.dumps(given) if isinstance(given, (list, dict, bool)) else str(given)


def colour(text: str, name: str) -> str:
    """Coloured on a terminal, unless NO_COLOR is set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def harmless(text: str) -> str:
    """Names may hold anything; a terminal must not obey them and a table must not break."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def width(text: str) -> int:
    """Columns on a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def shortened(text: str, columns: int) -> str:
    """The text cut to that many columns."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Prints aligned columns. On a terminal columns are cut or left out to fit, names last; in a pipe none is.

    Args:
        headings: One for each column.
        rows: Cells.
        right: The headings of the columns that are aligned to the right.
    """
    cells = [[harmless(cell) for cell in row] for row in rows]
    titles = [harmless(heading) for heading in headings]
    widths = [max(width(line[column]) for line in [titles, *cells]) for column in range(len(headings))]
    hidden: list[int] = []
    if sys.stdout.isatty():
        hidden = _fit(widths, headings, shutil.get_terminal_size().columns)
    shown = [column for column in range(len(headings)) if column not in hidden]

    def line(row: Sequence[str]) -> str:
        return _line(
            [row[column] for column in shown],
            [headings[column] for column in shown],
            [widths[column] for column in shown],
            right,
        )

    print(colour(line(titles), "bold"))
    for row in cells:
        print(line(row))
    if hidden:
        names = ", ".join(titles[column] for column in sorted(hidden) if titles[column])
        print(colour(f"too narrow to show: {names}", "dim"))


def _fit(widths: list[int], headings: Sequence[str], columns: int) -> list[int]:
    """Cuts `widths` to fit; returns the columns that are left out."""
    hidden: list[int] = []

    def excess() -> int:
        shown = [width for column, width in enumerate(widths) if column not in hidden]
        return sum(shown) + len(_GAP) * (len(shown) - 1) - columns

    def cut(candidates: Sequence[int], narrowest: int) -> None:
        while excess() > 0:
            widest = max(candidates, key=widths.__getitem__)
            if widths[widest] <= narrowest:
                return
            widths[widest] -= 1

    def leave_out(candidates: list[int]) -> None:
        while candidates and excess() > 0:
            hidden.append(candidates.pop(0))

    for heading, narrowest in _GIVE_WAY:
        if heading in headings:
            cut([headings.index(heading)], narrowest)
    leave_out([headings.index(heading) for heading in _LEFT_OUT if heading in headings])
    cut([column for column in range(len(widths)) if column not in hidden], _NARROWEST)
    # A table of metrics may have more columns than any terminal: the first and the last say what a row is.
    leave_out([column for column in range(len(widths) - 2, 0, -1) if column not in hidden])
    return hidden


def _line(row: Sequence[str], headings: Sequence[str], widths: Sequence[int], right: frozenset[str]) -> str:
    parts = []
    for cell, heading, columns in zip(row, headings, widths):
        text = shortened(cell, columns)
        space = " " * (columns - width(text))
        parts.append(space + text if heading in right else text + space)
    return _GAP.join(parts).rstrip()
