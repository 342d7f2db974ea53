"""One line of progress on a terminal; nothing in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from . import output

_PERIOD_S = 0.1
_shown = False


def clear_line() -> None:
    """Removes the line, so that what is printed next stands alone."""
    global _shown
    if _shown:
        sys.stderr.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
        sys.stderr.flush()
        _shown = False


class ProgressLine:
    """What `progress=` takes: shows phase, bytes, rate and the time that is left, in place."""

    def __init__(self, label: str) -> None:
        """Shows nothing yet; `label` says what is going on."""
        self._label = output.harmless(label)
        self._on_terminal = sys.stderr.isatty()
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
        columns = shutil.get_terminal_size().columns - 1
        text = output.shortened(self._text(progress, now), columns)
        sys.stderr.write("\r" + text + " " * (columns - output.width(text)))
        sys.stderr.flush()
        _shown = True

    def __enter__(self) -> ProgressLine:  # noqa: PYI034 - nobody derives from this
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the line."""
        clear_line()

    def _text(self, progress: dict[str, Any], now: float) -> str:
        done, total = int(progress.get("bytes_done") or 0), int(progress.get("bytes_total") or 0)
        if self._first_bytes is None:
            self._first_bytes, self._started = done, now
        parts = [f"{self._label}: {progress.get('phase') or 'working'}"]
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
        return ", ".join(parts)
