"""Reads a run afterwards: its metrics, its best checkpoint, and what is kept. Needs no open run and writes nothing.

python read_results.py [STORAGE_PATH [NAME]]
"""

import json
import sys
from pathlib import Path

from raystorage import NotFoundError, Result

storage = Path(sys.argv[1] if len(sys.argv) > 1 else "~/ray_results").expanduser()
name = sys.argv[2] if len(sys.argv) > 2 else "minimal"
try:
    result = Result.from_path(storage / name)
except NotFoundError as error:
    sys.exit(f"{error}; run minimal.py first")

history = result.metrics_history
print(f"{result.path}: {len(history)} reports, the last one said {result.metrics}")
for row in history[-3:]:
    print(f"  report {row['training_iteration']}: loss {row['loss']:.3g}, checkpoint {row['checkpoint_dir_name']}")

print("kept, oldest first:")
for kept in result.checkpoints:
    latest = "  (the latest)" if kept.latest else ""
    print(f"  {kept.name}  {kept.status}  {kept.size_bytes} bytes  loss {kept.metrics['loss']:.3g}{latest}")

best = result.get_best_checkpoint("loss", "min")
if best is not None:
    with best.as_directory() as directory:  # verified, and in place on a local disk
        print(f"best: epoch and weight {json.loads(Path(directory, 'state.json').read_text())}")
