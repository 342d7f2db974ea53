"""One line of progress on a terminal; nothing in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any

from . import output

_PERIOD_S = 0.1
# Erases from the cursor to the end of the line.
_ERASE = "\x1b[K"
# A terminal answers Ctrl-C with ^C behind the line, which must not bring the cursor to the next one.
_MARGIN = 3
_SHORTEST_LABEL = 10
_shown = False


def clear_line() -> None:
    """Removes the line, so that what is printed next stands alone."""
    global _shown
    if _shown:
        sys.stderr.write("\r" + _ERASE)
        sys.stderr.flush()
        _shown = False


class ProgressLine:
    """What `progress=` takes: shows phase, bytes, rate and the time that is left, in place."""

    def __init__(self, label: str) -> None:
        """Shows nothing yet; `label` says what is going on."""
        self._label = output.harmless(label)
        self._on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._started = time.monotonic()
        self._next = self._started + 2 * _PERIOD_S
        self._first_bytes: int | None = None

    def __call__(self, progress: dict[str, Any]) -> None:
        """Draws the line again."""
        global _shown
        now = time.monotonic()
        if not self._on_terminal or now < self._next:
            return
        self._next = now + _PERIOD_S
        columns = shutil.get_terminal_size().columns - _MARGIN
        text = output.shortened(self._text(progress, now, columns), columns)
        # First: Ctrl-C may come while it is written.
        _shown = True
        sys.stderr.write("\r" + text + _ERASE)
        sys.stderr.flush()

    def __enter__(self) -> ProgressLine:  # noqa: PYI034 - nobody derives from this
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the line."""
        clear_line()

    def _text(self, progress: dict[str, Any], now: float, columns: int) -> str:
        done, total = int(progress.get("bytes_done") or 0), int(progress.get("bytes_total") or 0)
        if self._first_bytes is None:
            self._first_bytes, self._started = done, now
        parts = []
        phase = str(progress.get("phase") or "")
        # "verifying: verify" says it twice.
        if phase and not self._label.startswith(phase.removesuffix("e")):
            parts.append(phase)
        if total:
            parts.append(f"{output.size(done)} of {output.size(total)} ({100 * done / total:.0f}%)")
        elif done:
            parts.append(output.size(done))
        if progress.get("files_total"):
            parts.append(f"{progress.get('files_done') or 0}/{progress['files_total']} files")
        seconds = now - self._started
        if seconds > 0.2 and done > self._first_bytes:
            rate = (done - self._first_bytes) / seconds
            parts.append(f"{output.size(rate)}/s")
            if total > done:
                parts.append(f"{output.duration((total - done) / rate)} left")
        if not parts:
            return self._label
        figures = ", ".join(parts)
        # The figures are what changes: a long name makes room for them.
        label = output.shortened(self._label, max(_SHORTEST_LABEL, columns - output.width(figures) - 2))
        return f"{label}: {figures}"
