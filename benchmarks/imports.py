"""How long `import` takes in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from harness import Case, Goal, Group, Scratch

CODE = "import time; begin = time.perf_counter(); import {0}; print(time.perf_counter() - begin)"


def groups(scratch: Scratch, scale: float) -> list[Group]:
    """Beside what a Ray Train loop imports."""

    def seconds(module: str) -> float:
        command = [sys.executable, "-c", CODE.format(module)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    modules = ("raystorage", "pyarrow.fs", "ray.train")
    return [
        Group(
            "Import in a fresh interpreter",
            [Case(f"`import {module}`", partial(seconds, module)) for module in modules],
            reference="`import ray.train`",
            goal=Goal("less than 50 ms", lambda value, _: value < 0.05),
        )
    ]
