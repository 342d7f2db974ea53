"""A virtual machine: Debian's kernel in QEMU, with a `LosingDevice` as disk or an NFS server's directory."""

from __future__ import annotations

import os
import random
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blockdevice import LosingDevice
from judge import FAULTS, TRAINER

ROOT = Path(__file__).resolve().parent.parent.parent
MACHINE = ROOT / "build" / "machine"


class MachineUnavailableError(Exception):
    """This computer lacks a piece (QEMU, kernel, busybox); the text says which."""


class MachineError(Exception):
    """The machine did not do what it was told in time."""


def prepare() -> None:
    """Makes kernel and initial file system with the programs of all tests: these may run side by side."""
    done = subprocess.run(
        [ROOT / "scripts" / "prepare-machine.sh", FAULTS / "diskwriter", TRAINER],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MachineUnavailableError(
            done.stderr.strip().splitlines()[-1] if done.stderr else "prepare-machine.sh failed"
        )


def make_disk(path: Path, megabytes: int) -> None:
    """An empty ext4 file system in a file, with Debian's default options."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if mkfs is None:
        raise MachineUnavailableError("mkfs.ext4 is missing")
    subprocess.run([mkfs, "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path], check=True)


@dataclass
class Machine:
    """One boot. Lines of the console are collected in `lines` without the kernel's own."""

    device: LosingDevice | None
    command: str
    memory_mb: int = 512
    # PORT/OPTIONS of the NFS server on this host whose /export is mounted; without, the disk is.
    nfs: str = ""
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        socket = "" if self.device is None else self.device.socket_path.as_posix()
        if " " in socket or '"' in self.command:
            raise ValueError("neither blanks in the socket's path nor double quotes in the command")
        command = self.command.replace(" ", "%20")
        # Software emulation on purpose: it boots in about three seconds and is the same wherever the tests run.
        arguments: list[str | Path] = [
            "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", str(self.memory_mb), "-smp", "2",
            "-display", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio",
            "-kernel", MACHINE / "vmlinuz", "-initrd", MACHINE / "initramfs.cpio.gz",
            "-append", f"console=ttyS0 quiet panic=-1 raystorage.nfs={self.nfs} raystorage.run={command}",
        ]  # fmt: skip
        if self.nfs:
            arguments += ["-nic", "user,model=virtio-net-pci"]
        else:
            arguments += ["-nic", "none"]
        if socket:
            drive = f"file=nbd+unix:///?socket={socket},format=raw,if=virtio,cache=writeback"
            arguments += ["-drive", drive]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._partial = b""
        self._seen = 0
        self.ended = False

    def read_until(self, stop: Callable[[str], bool], timeout_s: float) -> str | None:
        """Reads on until `stop` says yes to a line, which is returned; None when the machine has ended before."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._seen < len(self.lines):
                line = self.lines[self._seen]
                self._seen += 1
                if stop(line):
                    return line
            if self.ended:
                return None
            if time.monotonic() > deadline:
                self.kill()
                tail = "\n".join(self.lines[-20:])
                raise MachineError(f"the machine did not answer within {timeout_s} s; its last lines:\n{tail}")
            self._read(0.5)

    def read_to_end(self, timeout_s: float) -> list[str]:
        """All lines until the machine has powered itself off."""
        self.read_until(lambda _: False, timeout_s)
        self._process.wait(10)
        self._output.close()
        return self.lines

    def _read(self, timeout_s: float) -> None:
        if not self._selector.select(timeout_s):
            return
        data = self._output.read(1 << 16)
        if data == b"":
            self.ended = True
        *complete, self._partial = (self._partial + (data or b"")).split(b"\n")
        self.lines += [_clean(raw) for raw in complete]

    def kill(self) -> None:
        """Pulls the plug, and keeps what the console had sent."""
        self._process.kill()
        self._process.wait()
        os.set_blocking(self._output.fileno(), True)
        rest = self._partial + self._output.read()
        self._partial = b""
        self._output.close()
        # A line without its end may be half a promise.
        self.lines += [_clean(raw) for raw in rest.split(b"\n")[:-1]]
        self.ended = True

    def cut_between(self, shortest_s: float, longest_s: float, choice: random.Random) -> None:
        """Lets the machine run for a random time, then cuts its power: at once, or some writes later."""
        device = self.device
        if device is None:
            raise ValueError("the machine has no disk")
        until = time.monotonic() + choice.uniform(shortest_s, longest_s)
        if choice.random() < 0.5:
            device.cut_after_writes(choice.randrange(1, 200))
        while time.monotonic() < until and not device.cut_happened.is_set() and not self.ended:
            self._read(0.01)
        device.cut_power()
        self.kill()
        device.power_on()


def _clean(raw: bytes) -> str:
    """A line of the console without the firmware's escape sequences."""
    return re.sub(r"\x1b(?:c|\[[0-9;?]*[a-zA-Z])", "", raw.decode("utf-8", "replace")).rstrip("\r")
