"""The smallest loop that survives: kill it at any moment, start it again. The README shows it."""

import json
import pathlib
import tempfile

import raystorage
from raystorage import Checkpoint, CheckpointConfig, RunConfig

raystorage.init(RunConfig(name="minimal", checkpoint_config=CheckpointConfig(num_to_keep=3)))
epoch, weight = 0, 0.0
if checkpoint := raystorage.get_checkpoint():  # None on a fresh run
    with checkpoint.as_directory() as directory:
        epoch, weight = json.loads(pathlib.Path(directory, "state.json").read_text())
while epoch < 100:
    epoch, weight = epoch + 1, weight - 0.1 * (weight - 3)
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "state.json").write_text(json.dumps([epoch, weight]))
        raystorage.report({"epoch": epoch, "loss": (weight - 3) ** 2}, Checkpoint.from_directory(directory))
