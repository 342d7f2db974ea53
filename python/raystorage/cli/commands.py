"""The commands. Each takes the parsed arguments, prints its answer and returns its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from raystorage import _native, _operation, _paths
from raystorage.checkpoint import Checkpoint, encode_options
from raystorage.errors import InvalidArgumentError, NotFoundError
from raystorage.result import Result, flattened, read_document

from . import output
from .progress import ProgressLine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

DONE, BAD = 0, 1
# Columns of a metrics row that come last in a table, and those that are not shown in it.
_LAST = ("checkpoint_dir_name",)
_HIDDEN = frozenset(("timestamp", "time_total_s", "raystorage_epoch", "raystorage_index", "training_iteration"))
_RAY_BOOKKEEPING = frozenset(
    (
        "config",
        "date",
        "done",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "should_checkpoint",
        "time_since_restore",
        "time_this_iter_s",
        "trial_id",
    )
)


def _document(options: argparse.Namespace, function: str, *arguments: object, what: str) -> Any:  # noqa: ANN401
    path = None if options.path is None else _native.encode(_paths.settled(options.path), "path")
    with ProgressLine(what) as line:
        return _operation.run(
            function, path, encode_options(options.storage_options), *arguments, what=what, progress=line
        )


def ls(options: argparse.Namespace) -> int:
    """`raystorage ls`."""
    if options.path is None:
        environment = os.environ.get("RAYSTORAGE_STORAGE_PATH") or os.environ.get("RAY_STORAGE")
        options.path = environment or "~/ray_results"
    listing = _document(options, "path_list_start", what="listing")
    if options.json:
        output.print_json(listing)
    elif listing["kind"] == "run":
        _checkpoint_table(listing)
    elif not listing["runs"]:
        print(f"no runs below {output.harmless(_paths.redacted(options.path))}")
    else:
        rows = [
            [
                run["name"],
                run.get("format") or "unreadable",
                str(run.get("checkpoints", "-")),
                run.get("latest") or "-",
                _metrics_text(run.get("metrics")),
                output.size(run.get("bytes")),
                output.moment(run.get("modified_at")),
            ]
            for run in listing["runs"]
        ]
        headings = ("RUN", "FORMAT", "CHECKPOINTS", "LATEST", "METRICS", "SIZE", "MODIFIED")
        output.table(headings, rows, right=frozenset(("CHECKPOINTS", "SIZE")))
        for run in listing["runs"]:
            if run.get("error"):
                print(output.colour(output.harmless(f"{run['path']}: {run['error']}"), "red"))
    return DONE


def _metrics_text(metrics: Mapping[str, Any] | None) -> str:
    shown = [f"{name}={output.value(value)}" for name, value in flattened(metrics or {}).items()]
    return " ".join(shown) or "-"


def _checkpoint_table(document: Mapping[str, Any]) -> None:
    if not document.get("checkpoints"):
        print("no checkpoints")
        return
    best = document.get("best_checkpoints") or []
    best_path = best[-1]["path"] if best else None
    rows = []
    for one in document.get("checkpoints") or []:
        marks = [mark for mark, true in (("latest", one.get("latest")), ("best", one["path"] == best_path)) if true]
        rows.append(
            [
                one["name"],
                one.get("status") or "-",
                _metrics_text(one.get("metrics")),
                output.size(one.get("bytes")),
                output.moment(one.get("created_at")),
                " ".join(marks),
            ]
        )
    output.table(("CHECKPOINT", "STATUS", "METRICS", "SIZE", "CREATED", ""), rows, right=frozenset(("SIZE",)))


def show(options: argparse.Namespace) -> int:
    """`raystorage show`."""
    document = read_document(_paths.settled(options.path), options.storage_options)
    if options.json:
        output.print_json(document)
        return DONE
    latest = document.get("checkpoint")
    facts = [
        ("run", document.get("name") or "-"),
        ("path", _paths.redacted(document["path"])),
        ("format", document.get("format") or "-"),
        ("latest", latest["name"] if latest else "none"),
        ("metrics", _metrics_text(document.get("metrics"))),
    ]
    for name, text in facts:
        print(f"{output.colour(name.ljust(8), 'bold')} {output.harmless(text)}")
    print()
    _checkpoint_table(document)
    return DONE


def metrics(options: argparse.Namespace) -> int:
    """`raystorage metrics`."""
    rows: list[dict[str, Any]] = _document(options, "result_metrics_start", what="reading")
    if options.last is not None:
        rows = rows[-options.last :]
    if options.json:
        output.print_json(rows)
        return DONE
    flat = [flattened({key: item for key, item in row.items() if key not in _RAY_BOOKKEEPING}) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row if name not in _HIDDEN and name not in _LAST))
    headings = ["#", *names, "checkpoint"]
    cells = []
    for number, row in enumerate(flat, start=1):
        shown = [output.value(row.get(name)) for name in names]
        iteration = str(row.get("training_iteration") or number)
        cells.append([iteration, *shown, row.get("checkpoint_dir_name") or "-"])
    output.table(headings, cells, right=frozenset(("#", *names)))
    return DONE


def _run_or_none(options: argparse.Namespace) -> Result | None:
    """The run at the path; None where it may be a checkpoint.

    Raises:
        InvalidArgumentError: It holds runs. As a plain directory it could be restored, all runs in one.
    """
    try:
        return Result.from_path(options.path, options.storage_options)
    except (NotFoundError, InvalidArgumentError):
        pass
    try:
        runs = [run["name"] for run in _document(options, "path_list_start", what="looking").get("runs") or []]
    except NotFoundError:
        return None
    if runs:
        path = _paths.redacted(options.path)
        few = ", ".join(runs[:5]) + (", …" if len(runs) > 5 else "")
        raise InvalidArgumentError(f"{path} is no run and no checkpoint; it holds runs: {few}")
    return None


def _without_checkpoint(run: Result) -> NotFoundError:
    return NotFoundError(f"the run {_paths.redacted(run.path)} has no checkpoint")


def get(options: argparse.Namespace) -> int:
    """`raystorage get`."""
    run = _run_or_none(options)
    checkpoint: Checkpoint | None = Checkpoint(options.path, options.storage_options)
    if run is not None:
        checkpoint = run.get_best_checkpoint(*options.best) if options.best else run.checkpoint
        if checkpoint is None:
            raise _without_checkpoint(run)
    elif options.best:
        raise InvalidArgumentError(f"--best needs a run, and {_paths.redacted(options.path)} is not one")
    assert checkpoint is not None
    with ProgressLine("restoring") as line:
        directory = checkpoint.to_directory(
            options.directory, include=options.include, verify=not options.no_verify, progress=line
        )
    if options.json:
        output.print_json({"checkpoint": checkpoint.path, "path": directory, "verify": not options.no_verify})
    else:
        print(f"{output.harmless(_paths.redacted(checkpoint.path))} -> {output.harmless(directory)}")
    return DONE


def verify(options: argparse.Namespace) -> int:
    """`raystorage verify`."""
    run = _run_or_none(options)
    checkpoints = [Checkpoint(options.path, options.storage_options)]
    if run is not None:
        checkpoints = [one.checkpoint for one in run.checkpoints]
        if not checkpoints:
            raise _without_checkpoint(run)
    documents = []
    for checkpoint in checkpoints:
        with ProgressLine(f"verifying {output.harmless(_paths.name(checkpoint.path))}") as line:
            documents.append(checkpoint._verify_document(line))
    good = all(document["ok"] for document in documents)
    if options.json:
        output.print_json({"ok": good, "checkpoints": documents})
    else:
        _verify_table(documents)
    return DONE if good else BAD


def _verify_table(documents: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for document in documents:
        answer = "damaged" if not document["ok"] else "good" if document.get("verified") else "no manifest"
        name = _paths.name(str(document["path"]))
        rows.append([name, answer, str(document.get("files", "-")), output.size(document.get("bytes"))])
    output.table(("CHECKPOINT", "BYTES ARE", "FILES", "SIZE"), rows, right=frozenset(("FILES", "SIZE")))
    for document in documents:
        for problem in document.get("problems") or []:
            where = output.harmless(f"{_paths.without_options(document['path'])}/{problem.get('file')}")
            print(output.colour(f"{where}: {problem.get('problem')}", "red"))


def drain(options: argparse.Namespace) -> int:
    """`raystorage drain`."""
    answer = _document(options, "staging_drain_start", what="finishing uploads")
    runs = answer.get("runs") or []
    lost = any(run.get("lost") for run in runs)
    if options.json:
        output.print_json(answer)
        return BAD if lost else DONE
    if not runs:
        print("nothing to finish")
        return DONE
    rows = []
    for run in runs:
        state = "in use by a live trainer" if run.get("in_use") else "done"
        rows.append([run["path"], str(len(run.get("committed") or [])), str(len(run.get("lost") or [])), state])
    output.table(("RUN", "COMMITTED", "LOST", "STATE"), rows, right=frozenset(("COMMITTED", "LOST")))
    for run in runs:
        for one in run.get("lost") or []:
            name, reason = (one.get("name"), one.get("reason")) if isinstance(one, dict) else (one, "")
            print(
                output.colour(output.harmless(f"lost: {_paths.without_options(run['path'])}/{name}: {reason}"), "red")
            )
    return BAD if lost else DONE


def gc(options: argparse.Namespace) -> int:
    """`raystorage gc`."""
    answer = _document(options, "run_gc_start", int(options.now), int(options.dry_run), what="collecting")
    if options.json:
        output.print_json(answer)
        return DONE
    removed, kept = answer.get("removed") or [], answer.get("kept") or []
    verb = "would remove" if options.dry_run else "removed"
    rows = [[verb, one["path"], output.size(one.get("bytes")), one.get("reason") or ""] for one in removed]
    rows += [["kept", one["path"], output.size(one.get("bytes")), one.get("reason") or ""] for one in kept]
    if rows:
        output.table(("", "PATH", "SIZE", "WHY"), rows, right=frozenset(("SIZE",)))
    known = [one["bytes"] for one in removed if one.get("bytes") is not None]
    unknown = f" and {len(removed) - len(known)} of unknown size" if len(known) < len(removed) else ""
    print(f"{verb} {len(removed)}, {output.size(sum(known))}{unknown}; kept {len(kept)}")
    return DONE


def doctor(options: argparse.Namespace) -> int:
    """`raystorage doctor`."""
    answer = _document(options, "path_doctor_start", what="trying")
    if options.json:
        output.print_json(answer)
    else:
        for check in answer["checks"]:
            word, name = ("ok", "green") if check["ok"] else ("FAILED", "red")
            seconds = f"  {check['seconds']:.3f} s" if check.get("seconds") is not None else ""
            detail = output.harmless(str(check.get("detail") or ""))
            print(f"{output.colour(word.ljust(6), name)}  {check['name']}: {detail}{seconds}")
    return DONE if answer["ok"] else BAD


def plot(options: argparse.Namespace) -> int:
    """`raystorage plot`."""
    rows: list[dict[str, Any]] = _document(options, "result_metrics_start", what="reading")
    flat = [flattened(row) for row in rows]
    known = sorted({name for row in flat for name, item in row.items() if isinstance(item, (int, float))})
    for metric in options.metric:
        if metric not in known:
            raise InvalidArgumentError(f"the run has no number as metric {metric!r}; there are: {', '.join(known)}")
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("raystorage plot: needs matplotlib: pip install 'raystorage[plot]'", file=sys.stderr)
        return 2
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for metric in options.metric:
        points = [(number, row[metric]) for number, row in enumerate(flat, start=1) if metric in row]
        axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=metric)
    axes.set_xlabel("report")
    axes.set_title(_paths.name(options.path))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    try:
        figure.savefig(options.output, dpi=120, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"cannot write {options.output}: {error}") from None
    if options.json:
        output.print_json({"path": options.output, "metrics": options.metric, "rows": len(rows)})
    else:
        print(options.output)
    return DONE
