"""Which metrics are taken, and that every row is kept exactly (P14)."""

from __future__ import annotations

import collections
import enum
import json
import math
import random
import sys
import types
from typing import TYPE_CHECKING

import numpy
import pytest

from raystorage import Checkpoint, InvalidArgumentError, NotFoundError, Result, StorageError

if TYPE_CHECKING:
    from pathlib import Path

OWN_KEYS = ("training_iteration", "timestamp", "time_total_s", "checkpoint_dir_name")


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "lies"


TAKEN = {
    "int": (3, 3),
    "negative": (-3, -3),
    "float": (0.1, 0.1),
    "smallest": (5e-324, 5e-324),
    "largest": (1.7976931348623157e308, 1.7976931348623157e308),
    "minus zero": (-0.0, -0.0),
    "infinity": (math.inf, math.inf),
    "minus infinity": (-math.inf, -math.inf),
    "bool": (True, True),
    "none": (None, None),
    "text": ('é\u0301 \n " \\ \x00 \U0001f600', 'é\u0301 \n " \\ \x00 \U0001f600'),
    "beyond 64 bits": (2**200, 2**200),
    "beyond double": (2**63 + 1, 2**63 + 1),
    "list": ([1, [2.5, None]], [1, [2.5, None]]),
    "tuple": ((1, 2), [1, 2]),
    "nested": ({"a": {"b": 1}}, {"a": {"b": 1}}),
    "empty": ({}, {}),
    "ordered": (collections.OrderedDict(z=1, a=2), {"z": 1, "a": 2}),
    "mapping": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "int enum": (Level.HIGH, 3),
    "str subclass": (Text("honest"), "honest"),
    "float32": (numpy.float32(0.5), 0.5),
    "float64": (numpy.float64(0.1), 0.1),
    "float16": (numpy.float16(0.5), 0.5),
    "longdouble": (numpy.longdouble(0.5), 0.5),
    "int64": (numpy.int64(-7), -7),
    "uint64": (numpy.uint64(2**64 - 1), 2**64 - 1),
    "numpy bool": (numpy.bool_(True), True),
    "numpy text": (numpy.str_("x"), "x"),
    "numpy infinity": (numpy.float32("inf"), math.inf),
    "array without dimensions": (numpy.array(2.5), 2.5),
    "numpy inside": ([numpy.float32(0.5), {"a": numpy.int8(1)}], [0.5, {"a": 1}]),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_taken_comes_back_as_it_was(open_run, kind: str) -> None:
    """P14."""
    given, expected = TAKEN[kind]
    run = open_run()
    run.report({"value": given, "key with / and \u00e9": 1})
    row = run.close().metrics_history[0]
    assert row["value"] == expected
    assert type(row["value"]) is type(expected)
    assert math.copysign(1, row["value"]) == math.copysign(1, expected) if isinstance(expected, float) else True
    assert row["key with / and \u00e9"] == 1


@pytest.mark.parametrize("value", [math.nan, numpy.float32("nan"), numpy.float64("nan")])
def test_nan_is_taken_and_kept_in_the_log_the_results_and_the_snapshot(open_run, directory, value: float) -> None:
    """P14."""
    run = open_run()
    run.report({"loss": value}, Checkpoint(directory()))
    result = run.close()
    assert math.isnan(result.metrics_history[0]["loss"])
    assert math.isnan(result.metrics["loss"])
    assert math.isnan(json.loads((storage_of(result) / "result.json").read_text())["loss"])
    snapshot = json.loads((storage_of(result) / "checkpoint_manager_snapshot.json").read_text())
    assert math.isnan(snapshot["latest_checkpoint_result"]["metrics"]["loss"])


def storage_of(result: Result) -> Path:
    from pathlib import Path

    return Path(result.path)


class FakeTensor:
    """What torch.Tensor looks like to us."""

    def item(self) -> float:
        return 1.0


FakeTensor.__module__ = "torch"


def cycle() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["self"] = [inner]
    return inner


def deep() -> object:
    value: object = 1
    for _ in range(5000):
        value = [value]
    return value


REFUSED = {
    "bytes": (b"x", "binary"),
    "bytearray": (bytearray(b"x"), "binary"),
    "torch tensor": (FakeTensor(), r"\.item\(\)"),
    "array": (numpy.zeros(3), "dimensions"),
    "complex": (1j, "complex"),
    "numpy complex": (numpy.complex64(1j), "no counterpart"),
    "datetime64": (numpy.datetime64("2024-01-01"), "no counterpart"),
    "set": ({1}, "sorted"),
    "object": (object(), "allowed are"),
    "function": (len, "allowed are"),
    "int keys": ({1: 2}, "keys must be text"),
    "none keys": ({None: 2}, "keys must be text"),
    "cycle": (cycle(), "contain themselves"),
    "deep": (deep(), "deeper than 100"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_taken_is_refused_with_its_path_before_anything_is_written(open_run, directory, kind: str) -> None:
    """P14, P7: and the next report works."""
    given, why = REFUSED[kind]
    run = open_run()
    with pytest.raises(InvalidArgumentError, match=why) as caught:
        run.report({"fine": 1, "outer": {"inner": [0, given]}}, Checkpoint(directory()))
    assert "outer/inner/1" in str(caught.value) or kind == "deep"
    assert run.stats["reports"] == 0
    assert run.report({"fine": 2}, Checkpoint(directory())).wait() is not None
    assert [row["fine"] for row in run.close().metrics_history] == [2]


@pytest.mark.parametrize("metrics", [None, 3, [("a", 1)], "a=1", numpy.float32(1)])
def test_metrics_must_be_a_dict(open_run, metrics: object) -> None:
    with pytest.raises(InvalidArgumentError, match="dict"):
        open_run().report(metrics)


def test_an_int_with_too_many_digits_is_refused_and_nothing_is_written(open_run) -> None:
    run = open_run()
    digits = sys.get_int_max_str_digits()
    with pytest.raises(InvalidArgumentError):
        run.report({"huge": 10 ** (digits + 1)})
    run.report({"huge": 10 ** (digits - 1)})
    assert run.close().metrics_history[0]["huge"] == 10 ** (digits - 1)


def test_a_lone_surrogate_is_kept_or_refused_but_never_breaks_the_log(open_run) -> None:
    run = open_run()
    try:
        run.report({"text": "\ud800"})
    except InvalidArgumentError:
        pass
    run.report({"text": "after"})
    assert run.close().metrics_history[-1]["text"] == "after"


def test_a_score_that_is_no_number_is_refused_before_the_upload(open_run, directory) -> None:
    """P14: Ray fails after the upload and leaves the directory behind."""
    from raystorage import CheckpointConfig

    run = open_run(checkpoint_config=CheckpointConfig(2, "loss"))
    with pytest.raises(InvalidArgumentError, match="loss"):
        run.report({"loss": "low"}, Checkpoint(directory()))
    run.report({"loss": True}, Checkpoint(directory()))
    assert len(run.close().checkpoints) == 1


def test_every_row_is_kept_in_order_with_or_without_a_checkpoint(open_run, directory) -> None:
    """P14: Ray Train V2 drops those without."""
    given = random.Random(5)
    rows = [{"n": number, "x": given.uniform(-1e300, 1e300), "s": "é" * given.randrange(5)} for number in range(300)]
    run = open_run()
    for number, row in enumerate(rows):
        run.report(row, Checkpoint(directory()) if number % 50 == 0 else None)
    run.close()
    run = open_run()
    run.report({"n": 300, "x": 0.0, "s": ""})
    history = run.close().metrics_history
    own = [{key: row[key] for key in ("n", "x", "s")} for row in history]
    assert own == [*rows, {"n": 300, "x": 0.0, "s": ""}]
    assert all(key in history[0] for key in OWN_KEYS)
    assert [row["training_iteration"] for row in history] == list(range(1, 302))
    assert [row["checkpoint_dir_name"] is not None for row in history[:51]] == [n % 50 == 0 for n in range(51)]


def test_result_json_holds_one_whole_line_per_report(open_run, directory) -> None:
    run = open_run()
    run.report({"a": "line\nbreak", "nested": {"b": 1}}, Checkpoint(directory()))
    run.report({"a": "x", "c": 2})
    path = storage_of(run.close())
    lines = (path / "result.json").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == ["line\nbreak", "x"]
    assert "nested/b" in (path / "progress.csv").read_text().splitlines()[0]


def test_the_metrics_of_a_report_whose_checkpoint_fails_are_kept(open_run, directory, storage: Path) -> None:
    """P14, P7."""
    run = open_run(on_error="warn")
    run.report({"n": 0}, Checkpoint(directory()), checkpoint_dir_name="best").wait()
    with pytest.warns(RuntimeWarning, match="taken"):
        failed = run.report({"n": 1}, Checkpoint(directory()), checkpoint_dir_name="best")
    with pytest.warns(RuntimeWarning, match="no such|does not exist|not found|No such|gone"):
        run.report({"n": 2}, Checkpoint(storage / "missing"))
    run.report({"n": 3}, Checkpoint(directory())).wait()
    with pytest.raises(StorageError):
        failed.wait()
    assert [row["n"] for row in run.close().metrics_history] == [0, 1, 2, 3]


def test_the_failure_that_became_a_warning_last_is_in_the_result(open_run, directory, storage: Path) -> None:
    """P7: `report()` itself failed, a report without checkpoint came after it, and another run had none."""
    run = open_run(on_error="warn")
    run.report({"n": 0}, Checkpoint(directory()), checkpoint_dir_name="best").wait()
    with pytest.warns(RuntimeWarning, match="taken"):
        run.report({"n": 1}, Checkpoint(directory()), checkpoint_dir_name="best")
    with pytest.warns(RuntimeWarning, match="gone"):
        run.report({"n": 2}, Checkpoint(storage / "gone"))
    run.report({"n": 3}, Checkpoint(directory()))
    error = run.close().error
    assert isinstance(error, NotFoundError)
    assert "gone" in str(error)
    assert open_run(on_error="warn").close().error is None


def test_metrics_are_in_the_log_when_report_returns(open_run, storage: Path) -> None:
    """P14."""
    run = open_run()
    run.report({"n": 1})
    assert [row["n"] for row in Result.from_path(run.path).metrics_history] == [1]


def test_the_data_frame_has_a_row_per_report(open_run) -> None:
    pytest.importorskip("pandas")
    run = open_run()
    for number in range(3):
        run.report({"n": number})
    frame = run.close().metrics_dataframe
    assert list(frame["n"]) == [0, 1, 2]
