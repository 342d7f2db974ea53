"""Reports without a checkpoint: how many per second."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from harness import Case, Goal, Group, Scratch

HERE = Path(__file__).parent
ROOT = HERE.parent


def build(scratch: Scratch) -> Path:
    """The C program that reports in a loop, built against this checkout."""
    program = scratch.path / "report_rate"
    library = ROOT / "build"
    command = ["cc", "-std=c99", "-O2", str(HERE / "report_rate.c"), "-o", str(program), f"-I{ROOT / 'include'}"]
    subprocess.run([*command, f"-L{library}", "-lraystorage", f"-Wl,-rpath,{library}"], check=True)
    return program


def groups(scratch: Scratch, scale: float) -> list[Group]:
    """Rates in Python and in C, beside the plainest thing that somebody would write."""
    count = max(1000, int(100_000 * scale))
    program = build(scratch)

    def python() -> float:
        with scratch.run("rate") as run:
            report = run.report
            begin = time.perf_counter()
            for step in range(count):
                report({"step": step, "loss": 0.125})
            return count / (time.perf_counter() - begin)

    def c() -> float:
        output = subprocess.run(
            [program, scratch.path / "runs", "rate-c", str(count)], check=True, capture_output=True, text=True
        )
        subprocess.run(["rm", "-r", scratch.path / "runs" / "rate-c"], check=True)
        return float(output.stdout)

    def plain() -> float:
        path = scratch.path / "plain.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        begin = time.perf_counter()
        for step in range(count):
            os.write(descriptor, json.dumps({"step": step, "loss": 0.125, "time": time.time()}).encode() + b"\n")
        rate = count / (time.perf_counter() - begin)
        os.close(descriptor)
        path.unlink()
        return rate

    return [
        Group(
            f"Metrics-only report(), {count:,} in a row",
            [
                Case("raystorage, Python", python),
                Case("raystorage, C", c),
                Case("`os.write(json.dumps(...))` in Python, nothing else", plain),
            ],
            unit="/s",
            reference="`os.write(json.dumps(...))` in Python, nothing else",
            larger_is_better=True,
            goal=Goal("at least 50,000/s", lambda value, _: value >= 50_000),
        )
    ]
