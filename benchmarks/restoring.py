"""Getting a checkpoint back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness import MIB, Case, Copies, Group, Scratch
from raystorage import Checkpoint, Run
from reports import SYNC


class Stored:
    """A run with one checkpoint, made when it is first needed."""

    def __init__(self, scratch: Scratch, size: int) -> None:
        """Of one file."""
        self.scratch, self.size = scratch, size
        self.run: Run | None = None

    def checkpoint(self) -> Checkpoint:
        """The committed checkpoint."""
        if self.run is None:
            self.run = self.scratch.open("restore")
            source = self.scratch.files("large-1", 1, self.size)
            report = self.run.report({}, Checkpoint.from_directory(source), checkpoint_upload_mode=SYNC)
            committed = report.checkpoint
            assert committed is not None
            self.committed = committed
        return self.committed

    def path(self) -> Path:
        """Its directory."""
        return Path(self.checkpoint().path)


def groups(scratch: Scratch, scale: float) -> list[Group]:
    """1 GiB, restored into a new directory, and used in place."""
    size = int(1024 * MIB * scale)
    stored = Stored(scratch, size)
    copies = Copies(scratch, stored.path)

    def restore(*, verify: bool) -> None:
        stored.checkpoint().to_directory(copies.target, verify=verify)

    def in_place() -> None:
        with stored.checkpoint().as_directory():
            pass

    def forget() -> None:
        stored.checkpoint()
        shutil.rmtree(scratch.path / "staging" / "verified", ignore_errors=True)

    def checksum() -> None:
        name = next(stored.path().glob("*.bin"))
        subprocess.run(["cksum", name], check=True, stdout=subprocess.DEVNULL)

    text = f"{size / MIB:,.0f} MiB"
    return [
        Group(
            f"Restore of {text}",
            [
                copies.case("raystorage `to_directory()`, every byte verified", lambda: restore(verify=True)),
                copies.case("raystorage `to_directory(verify=False)`", lambda: restore(verify=False)),
                copies.cp(),
                copies.copytree(),
                copies.ray(),
            ],
            reference=copies.cp().name,
            settle=True,
        ),
        Group(
            f"`as_directory()` of {text} on a local disk",
            [
                Case("the first time: reads and verifies every byte", in_place, prepare=forget),
                Case("after that", in_place, prepare=stored.checkpoint),
                Case("`cksum`, for comparison", checksum, prepare=stored.checkpoint),
            ],
            reference="the first time: reads and verifies every byte",
        ),
    ]
