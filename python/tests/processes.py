"""Trainers in processes of their own: started from a text, killed, stopped and continued, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent.parent
KILLPOINT = ROOT / "build" / "faults" / "killpoint.so"

_PROLOGUE = """
import json, logging, os, signal, sys, threading, time
from pathlib import Path
import raystorage
from raystorage import *
def say(*words):
    print(*words, flush=True)
def source(path, step=0, size=1000):
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.bin").write_bytes(bytes([step]) * size)
    return Checkpoint.from_directory(path)
"""


@dataclass
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str
    seconds: float


class Process:
    """A Python process that runs a text; its standard output is read line by line."""

    def __init__(self, code: str, *arguments: object, env: dict[str, str] | None = None, faults: str = "") -> None:
        environment = {**os.environ, **(env or {})}
        environment.setdefault("PYTHONPATH", str(ROOT / "python"))
        if faults:
            environment |= {"LD_PRELOAD": str(KILLPOINT), "RAYSTORAGE_FAULTS": faults}
        self._started = time.monotonic()
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _PROLOGUE + textwrap.dedent(code), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def state(self) -> str:
        """What the kernel says that its first thread does: R runs, S waits, T is stopped."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def line(self) -> str:
        """The next line it says; an error with what it complained of when it ended instead."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            done = self.end()
            raise AssertionError(f"the process ended with {done.code} instead of saying something:\n{done.err}")
        return line.rstrip("\n")

    def tell(self, text: str = "") -> None:
        """A line for its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text + "\n")
        self._popen.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._popen.kill()
        self._popen.wait()

    def wait_stopped(self) -> None:
        """Returns when it has stopped itself."""
        until(lambda: self.state() == "T")

    def end(self, timeout_s: float = 60) -> Done:
        """Waits for its end; a process that hangs is killed and is an error."""
        try:
            out, err = self._popen.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            out, err = self._popen.communicate()
            raise AssertionError(f"the process hung for {timeout_s} s; it said:\n{out}\n{err}") from None
        return Done(self._popen.returncode, out, err, time.monotonic() - self._started)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


def python(
    code: str,
    *arguments: object,
    env: dict[str, str] | None = None,
    timeout_s: float = 60,
    code_expected: int | None = 0,
    faults: str = "",
) -> Done:
    """Runs a text to its end."""
    with Process(code, *arguments, env=env, faults=faults) as process:
        done = process.end(timeout_s)
    if code_expected is not None:
        assert done.code == code_expected, f"exit {done.code}:\n{done.out}\n{done.err}"
    return done


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Waits for something that has no event to wait for."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
