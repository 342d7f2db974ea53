"""A training job of Ray itself, on a cluster of one: goes on with a run and reports.

Run as a program: ``rays_trainer.py STORAGE NAME NUM_TO_KEEP STEPS``; NUM_TO_KEEP is 0 for all. Prints one JSON object:
the name of the checkpoint that the job began with, its content, and the names that are kept at the end, in Ray's order.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# On the loopback of one machine, for seconds; with it Ray leaves a token in the home directory.
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
import ray.train
from ray.train import CheckpointConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def loop(config: dict[str, object]) -> None:
    """Says where it begins, then reports a checkpoint a step."""
    import json
    import os
    import tempfile
    from pathlib import Path

    import ray.train

    begun = ray.train.get_checkpoint()
    seen = None
    if begun is not None:
        with begun.as_directory() as directory:
            seen = [os.path.basename(begun.path), Path(directory, "model.bin").read_text()]
    Path(str(config["seen"])).write_text(json.dumps(seen))
    for step in range(int(str(config["steps"]))):
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "model.bin").write_text(f"of Ray {step}")
            ray.train.report({"step": step}, checkpoint=ray.train.Checkpoint.from_directory(directory))


def main() -> None:
    storage, name, keep, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    # Short: Ray's sockets lie below it, and the path of a socket has at most 107 bytes.
    own = tempfile.mkdtemp(prefix="rs-ray-", dir="/tmp")
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=own, object_store_memory=100 << 20)
        trainer = DataParallelTrainer(
            loop,
            train_loop_config={"seen": f"{own}/seen", "steps": steps},
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(
                name=name, storage_path=storage, checkpoint_config=CheckpointConfig(num_to_keep=keep or None)
            ),
        )
        result = trainer.fit()
        kept = [os.path.basename(checkpoint.path) for checkpoint, _ in result.best_checkpoints]
        print(json.dumps({"begun": json.loads(Path(own, "seen").read_text()), "kept": kept}))
    finally:
        ray.shutdown()
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
