"""Trains a classifier of handwritten digits; may be killed at any moment and started again.

    python train.py --storage ~/ray_results --name digits --epochs 12

Every epoch is reported with a checkpoint of 26 MB: weights, optimizer, and the state of the random order of the data.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import raystorage
from model import Model, load_data
from raystorage import Checkpoint, CheckpointConfig, RunConfig


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a classifier of handwritten digits.")
    parser.add_argument("--storage", help="where runs lie; default: ~/ray_results")
    parser.add_argument("--name", default="digits", help="the run; the same name goes on with it")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--keep", type=int, default=3, help="how many checkpoints are kept: the best ones by loss")
    parser.add_argument("--work", help="where checkpoints are written before they are reported; default: $TMPDIR")
    return parser.parse_args()


def resume(run: raystorage.Run) -> Model:
    """The model as it was when the latest committed checkpoint was reported; a new one on a fresh run."""
    checkpoint = run.get_checkpoint()
    if checkpoint is None:
        print("a fresh run", flush=True)
        return Model()
    with checkpoint.as_directory() as directory:
        model = Model.load(directory)
    print(f"resumed from {run.info['resumed_from']['name']}, after epoch {model.epoch - 1}", flush=True)
    return model


def main() -> None:
    """Trains, reports, prints."""
    options = arguments()
    kept = CheckpointConfig(options.keep, checkpoint_score_attribute="validation/loss", checkpoint_score_order="min")
    run = raystorage.init(RunConfig(options.name, options.storage, checkpoint_config=kept))
    if run.info["recovered"]:
        print(f"committed what a killed trainer had captured: {', '.join(run.info['recovered'])}", flush=True)
    training, validation, _ = load_data()
    model = resume(run)
    while model.epoch < options.epochs:
        loss = model.train_epoch(training)
        validation_loss, accuracy = model.evaluate(validation)
        directory = tempfile.mkdtemp(prefix="checkpoint-", dir=options.work)
        model.save(directory)
        metrics = {
            "epoch": model.epoch - 1,
            "loss": loss,
            "validation": {"loss": validation_loss, "accuracy": accuracy},
        }
        begin = time.perf_counter()
        # Handed over: where storage and directory are on one file system it is moved, not copied. The checkpoint is
        # checksummed, fsynced and committed while the next epoch is being trained.
        raystorage.report(metrics, Checkpoint.from_directory(directory), delete_local_checkpoint_after_upload=True)
        blocked_ms = (time.perf_counter() - begin) * 1000
        numbers = f"loss {loss:.6f}  validation {validation_loss:.6f} {accuracy:6.1%}"
        print(f"epoch {model.epoch - 1:2}  {numbers}  report() took {blocked_ms:.1f} ms", flush=True)
    raystorage.shutdown()


if __name__ == "__main__":
    main()
