"""How much memory a report of 8 GiB takes, in a fresh process; run by itself it is that process.

python memory.py WAY SOURCE TARGET    prints MiB above what the process had before
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

MIB = 1 << 20


def groups(scratch: Scratch, scale: float) -> list[Group]:
    """Peak resident memory above that of the idle process with an open run."""
    from harness import Case, Goal, Group

    count, size = 8, int(1024 * MIB * scale)
    text = f"{count * size / MIB / 1024:.3g} GiB in {count} files"

    def probe(way: str) -> float:
        source = scratch.files("huge", count, size)
        target = scratch.path / "probe"
        command = [sys.executable, __file__, way, str(source), str(target)]
        try:
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        finally:
            shutil.rmtree(target, ignore_errors=True)
        return float(output)

    ways = {
        "copied": "raystorage, copied",
        "handed-over": "raystorage, handed over",
        "restored": "raystorage, restored",
    }
    ways |= {"ray": "Ray Train's `pyarrow.fs.copy_files`, 64 MiB chunks", "copytree": "`shutil.copytree`"}
    return [
        Group(
            f"Peak memory above idle, {text}",
            [Case(name, partial(probe, way)) for way, name in ways.items()],
            unit="MiB",
            reference=ways["ray"],
            goal=Goal("at most 64 MiB", lambda value, _: value <= 64),
            rounds=3,
            note="VmHWM of a fresh process, reset before the report; page cache does not count for any of them.",
        )
    ]


def status(key: str) -> float:
    """A line of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def process(way: str, source: Path, target: Path) -> float:
    """The fresh process."""
    if way in ("ray", "copytree"):
        import pyarrow.fs  # type: ignore[import-untyped]

        local = pyarrow.fs.LocalFileSystem()
        target.mkdir()
        idle = start()
        if way == "ray":
            pyarrow.fs.copy_files(str(source), str(target), destination_filesystem=local, chunk_size=64 * MIB)
        else:
            shutil.copytree(source, target, dirs_exist_ok=True)
        return status("VmHWM") - idle
    from raystorage import Checkpoint, CheckpointUploadMode, Run, RunConfig

    run = Run(RunConfig("memory", target, durability="none"))
    run.report({"warm": 1})
    run.flush()
    if way == "restored":
        report = run.report({}, Checkpoint(source), checkpoint_upload_mode=CheckpointUploadMode.SYNC)
        assert report.checkpoint is not None
        idle = start()
        report.checkpoint.to_directory(target / "restored")
        return status("VmHWM") - idle
    idle = start()
    hand_over = way == "handed-over"
    report = run.report(
        {},
        Checkpoint(source),
        checkpoint_upload_mode=CheckpointUploadMode.SYNC,
        delete_local_checkpoint_after_upload=hand_over,
    )
    peak = status("VmHWM") - idle
    if hand_over:
        # Back to where the next round looks for it.
        assert report.checkpoint is not None
        shutil.rmtree(Path(report.checkpoint.path, ".raystorage"))
        Path(report.checkpoint.path).rename(source)
    return peak


def start() -> float:
    """Forgets the peak so far and returns what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


if __name__ == "__main__":
    print(process(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
else:
    from harness import Group, Scratch
