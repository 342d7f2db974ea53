"""A server program in a process group of its own: started, waited for until it answers, and gone when the test is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ServerError(Exception):
    """A server did not start, or ended by itself; with the end of what it logged."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. Another process may take one before the server does: `start` tries again."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def program(name: str, package: str) -> str:
    """The path of a program, beside this Python or in PATH."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise ServerError(f"{name} is missing: scripts/install-dependencies.sh s3 python installs it ({package})")
    return found


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    """One process."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        # Go and Ceph programs look for configuration in the home directory.
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8", **(env or {})}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, answers: Callable[[], bool], timeout_s: float = 60) -> None:
        """Returns when the probe says so; raises when the process ends or the time does."""
        end = time.monotonic() + timeout_s
        while not answers():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}: {self._tail()}")
            if time.monotonic() > end:
                raise ServerError(f"{self.name} did not answer within {timeout_s:g} s: {self._tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGKILL to the whole group: nothing that a test server keeps is worth waiting for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def suspend(self) -> None:
        """Nothing answers any more, connections stay open."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "it said nothing"


def run(command: Sequence[str], directory: Path, timeout_s: float = 60) -> str:
    """A command to its end; what it printed."""
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise ServerError(
            f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout)[-1000:].strip()}"
        )
    return done.stdout


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def responds(url: str, accepted: Callable[[int], bool] = lambda status: status < 500) -> bool:
    """Whether a GET brings an answer with such a status."""
    try:
        with _opener.open(url, timeout=2) as response:
            return accepted(response.status)
    except urllib.error.HTTPError as error:
        return accepted(error.code)
    except OSError:
        return False
