"""`make bench`: measures raystorage beside its peers and prints one table.

    python benchmarks/run.py [--rounds 7] [--only GROUP]... [--scale 1] [--scratch DIR] [--save]

Every round measures each case of a group once, in turn; preparation and cleaning up are not timed. The figures are
medians with the least and the largest value. Sources are in the page cache, as a checkpoint is that was just written.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["RAYSTORAGE_LIBRARY"] = str(ROOT / "build" / "libraystorage.so")
os.environ["PYTHONPATH"] = str(ROOT / "python")
sys.path.insert(0, str(ROOT / "python"))

import imports  # noqa: E402
import memory  # noqa: E402
import metrics  # noqa: E402
import reports  # noqa: E402
import restoring  # noqa: E402
import s3  # noqa: E402
from harness import Group, Measured, Scratch, measure  # noqa: E402

GROUPS: dict[str, Callable[[Scratch, float], list[Group]]] = {
    "import": imports.groups,
    "metrics": metrics.groups,
    "large": reports.large,
    "small": reports.small,
    "handed-over": reports.handed_over,
    "async": reports.asynchronous,
    "restore": restoring.groups,
    "memory": memory.groups,
    "s3": s3.groups,
    "s3-tls": partial(s3.groups, tls=True),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure raystorage beside its peers.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", choices=sorted(GROUPS), help="only this group; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, to try the benchmarks themselves")
    parser.add_argument("--scratch", default=str(ROOT / "build"), help="where everything is written")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/<date>.md")
    options = parser.parse_args()
    begin = time.monotonic()
    scratch = Scratch(options.scratch)
    measured: list[Measured] = []
    try:
        for name in options.only or GROUPS:
            for group in GROUPS[name](scratch, options.scale):
                measured += measure(group, options.rounds)
        conditions = describe(scratch, options.rounds, time.monotonic() - begin)
    except Exception:
        # What was measured before took its time.
        print(table(measured))
        raise
    finally:
        scratch.remove()
    text = f"{conditions}\n{table(measured)}\n{verdict(measured)}"
    print(text)
    if options.save:
        target = ROOT / "benchmarks" / "results" / time.strftime("%Y-%m-%d.md")
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"# Benchmarks, {time.strftime('%Y-%m-%d')}\n\n{text}")
        print(f"\nsaved as {target.relative_to(ROOT)}", file=sys.stderr)


# -------------------------------------------------------------------------------- text


def describe(scratch: Scratch, rounds: int, seconds: float) -> str:
    """Machine, commit, command: what the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = output("findmnt", "-n", "-o", "FSTYPE", "-T", str(scratch.path))
    commit = output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = " with changes" if output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no") else ""
    command = " ".join(["python", "benchmarks/run.py", *sys.argv[1:]])
    return (
        f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, {kind}; "
        f"Python {platform.python_version()}, pyarrow {version('pyarrow')}, ray {version('ray')}. "
        f"Commit {commit}{changed}. `{command}`, up to {rounds} rounds, {seconds / 60:.0f} minutes; "
        f"load average at the end {os.getloadavg()[1]:.1f}.\n"
    )


def output(*command: str) -> str:
    """What a command prints; empty where there is no such thing."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()


def number(value: float, unit: str) -> str:
    """A figure for people."""
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "MiB":
        return f"{value:.1f} MiB"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"


def table(measured: list[Measured]) -> str:
    """One markdown table of all groups."""
    lines = ["| what | how | median | least to most | ratio | goal |", "|---|---|---:|---:|---:|---|"]
    for one in measured:
        group = one.group
        for place, case in enumerate(group.cases):
            values = one.values[case.name]
            ratio = one.ratio(case.name)
            cells = [
                f"{group.title} ({len(values)} rounds)" if place == 0 else "",
                case.name,
                number(one.median(case.name), group.unit),
                f"{number(min(values), group.unit)} to {number(max(values), group.unit)}",
                "" if ratio is None else "1" if case.name == one.reference else f"{ratio:.2f}",
                goal(one) if place == 0 else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def goal(one: Measured) -> str:
    """Whether the first case is where it is to be."""
    wanted = one.group.goal
    if wanted is None:
        return ""
    name = one.group.cases[0].name
    met = wanted.holds(one.median(name), one.ratio(name))
    return f"{wanted.text}: {'met' if met else '**missed**'}"


def verdict(measured: list[Measured]) -> str:
    """What is not faster, in words, and the notes."""
    slower: list[str] = []
    for one in measured:
        group, own = one.group, one.group.cases[0].name
        for case in group.cases[1:]:
            if (
                case.is_floor
                or case.name.startswith("raystorage")
                or not own.startswith(("raystorage", "`import raystorage"))
            ):
                continue
            mine, theirs = one.median(own), one.median(case.name)
            factor = theirs / mine if group.larger_is_better else mine / theirs if theirs else math.inf
            if factor < 1.005:
                continue
            difference = f"{mine - theirs:.1f} MiB more" if group.unit == "MiB" else f"{factor:.2f} times slower"
            slower.append(f"- {group.title}: {own}: {difference} than {case.name}")
    text = "Not faster than its peers here (differences below 10 % are noise):\n\n"
    text += "\n".join(slower or ["- nothing that was measured"]) + "\n"
    notes = [f"- {one.group.title}: {one.group.note}" for one in measured if one.group.note]
    return text + ("\nNotes:\n\n" + "\n".join(notes) + "\n" if notes else "")


if __name__ == "__main__":
    main()
