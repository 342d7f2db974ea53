"""P1, P2, P4, P14: `make demo STORAGE=s3://…`, as a person runs it: train, kill, resume, the same losses to the bit."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from stores import signed_for

from raystorage import Result

if TYPE_CHECKING:
    from servers import Endpoint

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_on_an_object_store(seaweedfs: Endpoint) -> None:
    storage = seaweedfs.url("demo")
    done = subprocess.run(
        [ROOT / "scripts" / "demo.sh", storage],
        env={**os.environ, **seaweedfs.environment()}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    # Killed, and gone on with what it had reported: not trained from the beginning.
    killed = re.search(r"SIGKILL, .* after report\(\) of epoch (\d+) had returned", done.stdout)
    resumed = re.search(r"resumed from checkpoint_000001_\d+, after epoch (\d+)", done.stdout)
    assert killed
    assert resumed
    assert int(resumed[1]) >= int(killed[1])
    assert "equal to the last bit" in done.stdout
    # And so it is on the store, whatever the demo says of itself.
    name = re.search(r"demo/(digits-[0-9_-]+)\?", done.stdout)
    assert name
    with signed_for(seaweedfs):
        reference, run = (
            Result.from_path(seaweedfs.url(f"demo/{one}")).metrics_history for one in (f"{name[1]}-reference", name[1])
        )
    assert {row["raystorage_epoch"] for row in reference} == {1}
    again = [row["epoch"] for row in run if row["raystorage_epoch"] == 2]
    assert min(again) == int(resumed[1]) + 1
    losses = {row["epoch"]: row["loss"] for row in reference}
    assert len(losses) == 12
    assert {row["epoch"]: row["loss"] for row in run} == losses
