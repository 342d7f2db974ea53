"""P12: a guest in somebody else's process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import Process

_TIMES = 50 if os.environ.get("RAYSTORAGE_TEST_LONG") else 3
_THREADS = 'names = [Path(f"/proc/self/task/{t}/comm").read_text().strip() for t in os.listdir("/proc/self/task")]'

_FORK = """
run = Run(RunConfig("r", sys.argv[1]))
report = run.report({"step": 0}, source(sys.argv[2], size=20_000_000))
pid = os.fork()
if pid == 0:
    try:
        run.report({"step": 1})
        os._exit(1)
    except ForkedProcessError:
        pass
    with Run(RunConfig("child", sys.argv[1])) as own:
        own.report({"step": 0}, source(sys.argv[2] + "-child")).wait(timeout_s=30)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert report.wait(timeout_s=30) is not None
run.close()
"""
_EXIT = """
run = Run(RunConfig("r", sys.argv[1]))
run.report({"step": 0}, source(sys.argv[2], size=20_000_000))
os._exit(0)
"""
_UNCLOSED = """
run = Run(RunConfig("r", sys.argv[1]))
run.report({"step": 0}, source(sys.argv[2], size=20_000_000))
"""
_RAISES = _UNCLOSED + "raise SystemExit(0)\n"
_MULTIPROCESSING = """
import multiprocessing
run = Run(RunConfig("r", sys.argv[1]))
run.report({"step": 0}, source(sys.argv[2], size=5_000_000))
for method in ("fork", "spawn"):
    child = multiprocessing.get_context(method).Process(target=os.getpid)
    child.start()
    child.join(30)
    assert child.exitcode == 0, (method, child.exitcode)
run.close()
"""


def test_importing_starts_no_thread_and_the_threads_of_a_run_are_ours(storage: Path) -> None:
    """P12."""
    code = f"""
        {_THREADS}
        say(len(names))
        run = Run(RunConfig("r", sys.argv[1]))
        {_THREADS}
        say(sorted(name.rsplit("-", 1)[0] for name in names if name.startswith("raystorage")))
        run.close()
        raystorage.shutdown()
        """
    with Process(code, storage) as process:
        assert process.line() == "1"
        assert "raystorage-io" in process.line()
        assert process.end().code == 0


@pytest.mark.parametrize(
    "code",
    [_FORK, _EXIT, _UNCLOSED, _RAISES, _MULTIPROCESSING],
    ids=["fork during an upload", "os._exit", "exit with work left", "exception at exit", "multiprocessing"],
)
def test_no_hang_and_no_crash(code: str, storage: Path) -> None:
    """P12."""
    for turn in range(_TIMES):
        with Process(code, storage / str(turn), storage.parent / f"src-{turn}") as process:
            done = process.end(timeout_s=60)
            assert done.code == 0, done.err
