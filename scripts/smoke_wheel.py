"""What an installed wheel must do, on any Python that it supports: report, read back, restore, and the command line.

Run by scripts/smoke-wheel.sh with the interpreter of a clean environment: python smoke_wheel.py DIRECTORY
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import raystorage
from raystorage import Checkpoint, CheckpointConfig, Result, RunConfig


def check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"smoke test: {text}")


def smoke(directory: Path) -> None:
    check("site-packages" in raystorage.__path__[0], f"not the installed package: {raystorage.__path__}")
    check(len(list(Path("/proc/self/task").iterdir())) == 1, "importing started a thread")
    source = directory / "source"
    source.mkdir(parents=True)
    content = os.urandom(3_000_000)
    (source / "model.bin").write_bytes(content)
    config = RunConfig(
        name="smoke",
        storage_path=directory / "storage",
        staging_dir=directory / "staging",
        checkpoint_config=CheckpointConfig(num_to_keep=2),
    )
    with raystorage.Run(config) as run:
        for step in range(4):
            report = run.report({"step": step, "loss": 1 / (step + 1)}, Checkpoint.from_directory(source))
        check(report.wait(timeout_s=60) is not None, "wait() gave no checkpoint")
    result = Result.from_path(directory / "storage" / "smoke")
    check(result.metrics is not None and result.metrics["step"] == 3, f"last metrics: {result.metrics}")
    check(len(result.metrics_history) == 4, f"{len(result.metrics_history)} rows of metrics")
    check(len(result.best_checkpoints) == 2, f"{len(result.best_checkpoints)} checkpoints kept")
    assert result.checkpoint is not None
    restored = Path(result.checkpoint.to_directory(directory / "restored"))
    check((restored / "model.bin").read_bytes() == content, "restored bytes differ")
    command = Path(sys.executable).with_name("raystorage")
    for arguments in (["ls", str(directory / "storage")], ["show", result.path], ["verify", result.path]):
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    smoke(Path(sys.argv[1]))
    print(f"wheel works on Python {sys.version.split()[0]}")
