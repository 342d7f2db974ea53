"""What a run holds: its latest and best checkpoints and its metrics. Reading needs no open run and writes nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _native, _operation, _paths
from .checkpoint import Checkpoint, ReportedCheckpoint, encode_options, reader, reported
from .errors import InvalidArgumentError, StorageError

if TYPE_CHECKING:
    import os

    import pandas


@dataclass(frozen=True)
class Result:
    """A run as it was when it was read.

    Attributes:
        metrics: The metrics of the latest checkpoint; of the latest report where the run has no checkpoint.
        checkpoint: The latest checkpoint.
        path: The run's directory or URI.
        error: The report that failed last under ``on_error="warn"``; None for a run that was read with `from_path`.
        best_checkpoints: The kept checkpoints with their metrics, ascending by score: the last one is the best.
        checkpoints: All of them, oldest first, with what else is known: status, size, time.
        name: The run's name.
        format: ``"raystorage"``, ``"ray_v2"`` or ``"ray_v1"``.
        run_id: The random id of the run; None for Ray's.
    """

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    path: str
    error: StorageError | None = None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] = field(default_factory=list)
    checkpoints: list[ReportedCheckpoint] = field(default_factory=list)
    name: str = ""
    format: str = "raystorage"
    run_id: str | None = None
    _storage_options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Result:
        """Reads a run directory that raystorage or Ray (Train V2, V1 and Tune trials) has written.

        Args:
            path: The run's directory or URI.
            storage_options: Options of the storage backend; local paths take none.

        Raises:
            NotFoundError: There is no run.
        """
        path = _paths.settled(_paths.text(path))
        return cls._from_document(read_document(path, storage_options), storage_options)

    @classmethod
    def _from_document(
        cls, document: Mapping[str, Any], storage_options: Mapping[str, Any] | None, error: StorageError | None = None
    ) -> Result:
        read = reader(storage_options)
        latest = document.get("checkpoint")
        best = document.get("best_checkpoints") or []
        return cls(
            metrics=document.get("metrics"),
            checkpoint=None if latest is None else read(latest),
            path=document["path"],
            error=error,
            best_checkpoints=[(read(one), one.get("metrics") or {}) for one in best],
            checkpoints=[reported(one, read) for one in document.get("checkpoints") or []],
            name=document.get("name") or "",
            format=document.get("format", "raystorage"),
            run_id=document.get("run_id"),
            _storage_options=storage_options,
        )

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """The kept checkpoint with the best value of a metric; of equal ones the latest.

        Args:
            metric: The metric's name, ``"a/b"`` for a nested one. Checkpoints without it, or with NaN, rank last.
            mode: ``"max"`` or ``"min"``.

        Returns:
            The checkpoint, or None where the run has none.

        Raises:
            InvalidArgumentError: No kept checkpoint has that metric; the text lists those that there are.
        """
        if mode not in ("max", "min"):
            raise InvalidArgumentError(f"mode must be 'max' or 'min', not {mode!r}")
        if not self.best_checkpoints:
            return None
        best: tuple[float, Checkpoint] | None = None
        for checkpoint, metrics in self.best_checkpoints:
            value = lookup(metrics, metric)
            if not isinstance(value, (int, float)):
                continue
            score = -math.inf if math.isnan(value) else (value if mode == "max" else -value)
            if best is None or score >= best[0]:
                best = (score, checkpoint)
        if best is None:
            raise self._no_metric(metric)
        return best[1]

    def _no_metric(self, metric: str) -> InvalidArgumentError:
        names = sorted({name for _, metrics in self.best_checkpoints for name in flattened(metrics)})
        known = ", ".join(names) or "none"
        return InvalidArgumentError(
            f"no checkpoint of {self.path} has a number as metric {metric!r}; there are: {known}",
            details={"name": metric, "allowed": names},
        )

    @functools.cached_property
    def metrics_history(self) -> list[dict[str, Any]]:
        """Every report's metrics, in order, with `training_iteration`, `timestamp` and `checkpoint_dir_name`.

        Read on first use.
        """
        rows: list[dict[str, Any]] = _operation.run(
            "result_metrics_start",
            _native.encode(self.path, "path"),
            encode_options(self._storage_options),
            what=f"reading the metrics of {_paths.redacted(self.path)}",
        )
        return rows

    @property
    def metrics_dataframe(self) -> pandas.DataFrame:
        """`metrics_history` as a pandas data frame, a row per report; nested metrics stay dicts.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            text = "metrics_dataframe needs pandas: pip install 'raystorage[pandas]', or use metrics_history"
            raise ImportError(text) from None
        frame: pandas.DataFrame = pandas.DataFrame(self.metrics_history)
        return frame

    def __repr__(self) -> str:
        """Path, latest checkpoint and its metrics."""
        shown = [f"path={_paths.redacted(self.path)!r}", f"checkpoint={self.checkpoint!r}", f"metrics={self.metrics!r}"]
        if self.error is not None:
            shown.append(f"error={self.error!r}")
        return f"Result({', '.join(shown)})"


def read_document(path: str, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The "result" document of a run."""
    reading = Reading(path, storage_options)
    _operation.finish(reading.operation, reading.what)
    return reading.wait()


class Reading:
    """A "result" document that is being read."""

    def __init__(self, path: str, storage_options: Mapping[str, Any] | None) -> None:
        """Begins to read."""
        self.what = f"reading the run {_paths.redacted(path)}"
        path_argument = _native.encode(path, "path")
        self.operation = _operation.start("result_read_start", path_argument, encode_options(storage_options))

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The document; a TimedOutError when it is not there in time, and the reading goes on."""
        _operation.wait("operation_wait", self.operation, timeout_s, self.what)
        document: dict[str, Any] = _native.call_json("operation_result", self.operation)
        return document

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        _operation.cancel(self.operation)


def flattened(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested metrics as ``{"a/b": value}``."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def lookup(metrics: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401
    """A metric by its flattened name; None when there is none. A key that itself holds ``/`` counts too."""
    return flattened(metrics).get(name)
