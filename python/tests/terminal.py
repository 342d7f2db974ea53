"""A program on a terminal of its own: what a person sees of it, and Ctrl-C as the terminal sends it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

from processes import KILLPOINT, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable


class Terminal:
    """``raystorage ARGUMENTS…`` on a pseudo-terminal of so many columns."""

    def __init__(
        self, *arguments: object, columns: int = 80, faults: str = "", env: dict[str, str] | None = None
    ) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "TERM": "xterm", **(env or {})}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        if faults:
            environment |= {"LD_PRELOAD": str(KILLPOINT), "RAYSTORAGE_FAULTS": faults}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "raystorage", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def press(self, keys: str) -> None:
        """``"\\x03"`` is Ctrl-C: the terminal makes a SIGINT of it."""
        os.write(self._master, keys.encode())

    def read_until(self, condition: Callable[[str], object], timeout_s: float = 60) -> str:
        """Reads until what it has written meets the condition."""
        end = time.monotonic() + timeout_s
        while not condition(self.text):
            assert time.monotonic() < end, f"waited in vain; it wrote {self.text!r}"
            if not self._read():
                raise AssertionError(f"it ended and wrote {self.text!r}")
        return self.text

    def end(self, timeout_s: float = 60) -> tuple[int, list[str]]:
        """The exit code, and the lines that stand on the screen."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self._read():
            pass
        code = self._popen.wait(max(0.1, end - time.monotonic()))
        return code, self.screen()

    def screen(self) -> list[str]:
        """What is to be seen: a carriage return begins the line again, later letters replace earlier ones, and
        `ESC [ K` erases the rest.
        """
        lines = []
        for line in self.text.replace("\r\n", "\n").split("\n"):
            shown: list[str] = []
            for part in line.split("\r"):
                at = 0
                for piece in re.split(r"(\x1b\[K)", part):
                    if piece == "\x1b[K":
                        del shown[at:]
                    else:
                        shown[at : at + len(piece)] = piece
                        at += len(piece)
            lines.append("".join(shown).rstrip())
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last one has let go of the terminal
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        os.close(self._master)
