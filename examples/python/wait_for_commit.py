"""What an asynchronous report tells: when the directory is ours again, and when the checkpoint is durable."""

import sys
import tempfile
import time
from pathlib import Path

from raystorage import Checkpoint, CheckpointUploadMode, Run, RunConfig

storage = sys.argv[1] if len(sys.argv) > 1 else None

with Run(RunConfig("wait-for-commit", storage)) as run, tempfile.TemporaryDirectory() as directory:
    weights = Path(directory, "weights.bin")

    # ASYNC, the default: report() returns when the directory is captured. It may be changed at once.
    weights.write_bytes(b"\x01" * (32 << 20))
    begin = time.perf_counter()
    report = run.report({"step": 1}, Checkpoint.from_directory(directory))
    captured_ms = (time.perf_counter() - begin) * 1000
    weights.write_bytes(b"\x02" * (32 << 20))  # the report has its own copy
    print(f"captured after {captured_ms:.0f} ms, the report is {report.state.value}")

    # Durable: checksummed, fsynced, committed. Not needed for correctness; a failure would be raised here.
    committed = report.wait(timeout_s=60)
    print(f"committed after {(time.perf_counter() - begin) * 1000:.0f} ms: {committed}")

    # SYNC returns when it is durable.
    run.report({"step": 2}, Checkpoint.from_directory(directory), checkpoint_upload_mode=CheckpointUploadMode.SYNC)

    assert committed is not None
    with committed.as_directory() as restored:
        assert Path(restored, "weights.bin").read_bytes() == b"\x01" * (32 << 20)
    print("the first checkpoint holds the bytes of the call")
