"""`python -m servers run NAME,... -- COMMAND...`: runs a command with servers beside it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from servers.catalogue import NAMES, start
from servers.daemon import ServerError
from servers.endpoint import VARIABLE, Endpoint, to_json


def _start_all(stack: ExitStack, names: list[str]) -> list[Endpoint]:
    """Side by side: they mostly wait."""
    begin = time.monotonic()
    contexts = [start(name) for name in names]
    # The pool's threads must outlive the servers, which die with the thread that started them.
    pool = stack.enter_context(ThreadPoolExecutor(len(contexts)))
    futures = [pool.submit(context.__enter__) for context in contexts]
    for context, future in zip(contexts, futures, strict=True):
        if future.exception() is None:
            stack.callback(context.__exit__, None, None, None)
    endpoints = [future.result() for future in futures]
    print(f"servers: {', '.join(names)} up in {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    return endpoints


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m servers", description=__doc__)
    parser.add_argument("action", choices=["run"])
    parser.add_argument("names", help=f"comma-separated: {', '.join(NAMES)}")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="after --; a shell with the variables set if left out"
    )
    options = parser.parse_args()
    command = [word for place, word in enumerate(options.command) if place or word != "--"]
    with ExitStack() as stack:
        try:
            endpoints = _start_all(stack, options.names.split(","))
        except ServerError as error:
            print(f"error: {error}", file=sys.stderr)
            return 3
        environment = os.environ | endpoints[0].environment() | {VARIABLE: to_json(endpoints)}
        if not command:
            for endpoint in endpoints:
                print(f"{endpoint.name}: {shlex.quote(endpoint.url())}", file=sys.stderr)
            command = [os.environ.get("SHELL", "/bin/sh")]
        process = subprocess.Popen(command, env=environment)
        # Ctrl-C reaches the command as well: it ends, then the servers do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
