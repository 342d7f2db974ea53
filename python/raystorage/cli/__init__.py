"""The command line: ``raystorage COMMAND …``.

Exit codes: 0 done, 1 the answer is bad (corrupt, missing), 2 wrong usage, 3 storage error; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from raystorage.errors import ChecksumError, InvalidArgumentError, NotFoundError, StorageError

from . import commands
from .progress import clear_line

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, BAD, USAGE, STORAGE = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    # Names in a storage may be anything; an odd locale must not end a listing.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads us has enough. Python would complain about stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        clear_line()
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except StorageError as error:
        clear_line()
        print(f"raystorage {options.command}: {error}", file=sys.stderr)
        return _code(error)
    return code


def _code(error: StorageError) -> int:
    if isinstance(error, (ChecksumError, NotFoundError)):
        return BAD
    return USAGE if isinstance(error, InvalidArgumentError) else STORAGE


def _parser() -> argparse.ArgumentParser:
    from raystorage import __version__

    parser = argparse.ArgumentParser(
        prog="raystorage",
        description="Look at, restore and look after the checkpoints and metrics of training runs.",
        epilog="Exit codes: 0 done, 1 the answer is bad (corrupt, missing), 2 wrong usage, 3 storage error.",
    )
    parser.add_argument("--version", action="version", version=f"raystorage {__version__}")
    adding = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
        command = adding.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print the answer as one JSON document")
        command.add_argument(
            "--storage-options", type=_json_object, metavar="JSON", help="options of the storage backend"
        )
        return command

    command = add("ls", commands.ls, "list the runs below a path, or the checkpoints of a run")
    command.add_argument("path", metavar="PATH", nargs="?", help="default: where runs lie by default")
    command = add("show", commands.show, "show a run: its checkpoints, the latest, the best")
    command.add_argument("path", metavar="RUN")
    command = add("metrics", commands.metrics, "print the metrics of a run, a row per report")
    command.add_argument("path", metavar="RUN")
    command.add_argument("--last", type=_count, metavar="N", help="only the last N rows")
    command = add("get", commands.get, "restore a checkpoint, or the latest or best one of a run, into a directory")
    command.add_argument("path", metavar="CHECKPOINT|RUN")
    command.add_argument("directory", metavar="DIR")
    command.add_argument(
        "--best", type=_best, metavar="METRIC:min|max", help="the checkpoint of the run with the best METRIC"
    )
    command.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="only these files of the checkpoint: config.json, rank_3/, '**/*.json'; may be repeated",
    )
    command.add_argument("--no-verify", action="store_true", help="do not check the bytes against the manifest")
    command = add("verify", commands.verify, "read every byte of a checkpoint, or of all of a run, and check it")
    command.add_argument("path", metavar="CHECKPOINT|RUN")
    command = add("drain", commands.drain, "finish what dead trainers of this machine had captured")
    command.add_argument("path", metavar="STAGING_DIR", nargs="?", help="default: the one that runs use by default")
    command = add("gc", commands.gc, "remove what dead trainers have left unfinished in a run")
    command.add_argument("path", metavar="RUN")
    command.add_argument("--now", action="store_true", help="that of other machines too, without waiting for 7 days")
    command.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    command = add("doctor", commands.doctor, "try whether this machine can do below a path what a run needs")
    command.add_argument("path", metavar="PATH")
    command = add("plot", commands.plot, "draw metrics of a run (needs matplotlib)")
    command.add_argument("path", metavar="RUN")
    command.add_argument("metric", metavar="METRIC", nargs="+")
    command.add_argument("-o", "--output", metavar="FILE.png", required=True)
    return parser


def _json_object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # The text may hold secrets: it is not repeated.
        raise argparse.ArgumentTypeError('must be a JSON object, for example \'{"region": "eu-west-1"}\'')
    return document


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _best(text: str) -> tuple[str, str]:
    metric, _, mode = text.rpartition(":")
    if not metric or mode not in ("min", "max"):
        raise argparse.ArgumentTypeError(f"must be METRIC:min or METRIC:max, not {text!r}")
    return metric, mode
