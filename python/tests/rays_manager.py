"""Ray Train's own checkpoint manager, without a cluster: the class that decides what Ray keeps and that resumes a run.

Run as a program: reads one job a line from standard input, answers with one line each. A job is
``{"storage": path, "name": run, "config": {...}, "reports": [{"name": directory, "metrics": {...}}]}``.
The answer lists the directories that are kept, in Ray's order, and the latest: as it began, and after each report.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ["RAY_TRAIN_V2_ENABLED"] = "1"

from ray.air.config import CheckpointConfig
from ray.train import Checkpoint
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport


def _kept(manager: CheckpointManager) -> dict[str, Any]:
    def name(result: Any) -> str:
        return os.path.basename(result.checkpoint.path)

    latest = manager.latest_checkpoint_result
    return {
        "kept": [name(result) for result in manager._checkpoint_results],
        "latest": name(latest) if latest is not None else None,
    }


def _write(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "model.bin").write_bytes(b"of Ray")


async def _work(job: dict[str, Any]) -> list[dict[str, Any]]:
    storage = StorageContext(storage_path=job["storage"], experiment_dir_name=job["name"])
    manager = CheckpointManager(checkpoint_config=CheckpointConfig(**job["config"]), storage_context=storage)
    states = [_kept(manager)]
    for report in job["reports"]:
        path = Path(storage.build_checkpoint_path_from_name(report["name"]))
        _write(path)
        checkpoint = Checkpoint(str(path), filesystem=storage.storage_filesystem)
        manager.register_checkpoint(_TrainingReport(checkpoint=checkpoint, metrics=report["metrics"], validation=False))
        # What is scheduled beside it must not pile up.
        await asyncio.sleep(0)
        states.append(_kept(manager))
    return states


def main() -> None:
    logging.disable(logging.ERROR)
    for line in sys.stdin:
        answer = asyncio.run(_work(json.loads(line)))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
