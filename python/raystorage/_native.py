"""The C interface, `include/raystorage.h`, as Python functions: with `_abi.py` the only place with ctypes.

The library is loaded by the first call, not by the import. `ctypes.CDLL` lets go of the interpreter lock during a call,
so every wait is made in slices (`SLICE_MS`) and Ctrl-C is answered between two of them. The library never calls back.
"""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from ctypes import byref, c_int32, c_void_p
from typing import Any

from . import _library
from ._abi import ABI_VERSION, PROTOTYPES, ReportOptions, RunOptions
from .errors import (
    ForkedProcessError,
    InvalidArgumentError,
    LibraryError,
    StorageError,
    error_for_status,
)

# The longest that one native wait lasts, in milliseconds: Ctrl-C is not seen before it ends.
SLICE_MS = 100

_loaded: ctypes.CDLL | None = None
_functions: dict[str, Any] = {}
# Counts the forks between the process that imported this module and this one: a handle of another count is a parent's.
_generation = 0


def _after_fork_in_child() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_after_fork_in_child)


def generation() -> int:
    """A number that differs between a process and its forked children."""
    return _generation


def is_loaded() -> bool:
    """Whether any call has been made yet."""
    return _loaded is not None


def _load() -> ctypes.CDLL:
    global _loaded
    tried: list[tuple[str, str]] = []
    for path in _library.candidates():
        if not os.path.exists(path):
            tried.append((path, "no such file"))
            continue
        try:
            library = ctypes.CDLL(path)
            version = int(library.raystorage_abi_version())
            if version != ABI_VERSION:
                text = f"{path} has version {version} of the C interface, this Python package needs {ABI_VERSION}"
                raise LibraryError(text, details={"path": path})
            for name, (result, arguments) in PROTOTYPES.items():
                function = getattr(library, "raystorage_" + name)
                function.restype = result
                function.argtypes = arguments
                _functions[name] = function
        except (OSError, AttributeError) as error:
            tried.append((path, str(error)))
            continue
        _loaded = library
        return library
    raise LibraryError(_library.failure_text(tried), details={"tried": [path for path, _ in tried]})


def _function(name: str) -> Any:  # noqa: ANN401 - ctypes has no type for a function with its own prototype
    if _loaded is None:
        _load()
    return _functions[name]


class Handle:
    """An opaque native handle: freed once when nobody holds it, dead after `fork()`, left alone at interpreter exit."""

    __slots__ = ("__weakref__", "_address", "_generation")

    def __init__(self, address: int, kind: str) -> None:
        """Owns `address`; `kind` is ``"run"``, ``"report"`` or ``"operation"``."""
        self._address = address
        self._generation = _generation
        finalizer = weakref.finalize(self, _free, _functions[kind + "_free"], address, _generation)
        finalizer.atexit = False

    @property
    def address(self) -> int:
        """The pointer, for a call during which the handle itself is held."""
        if self._generation != _generation:
            raise ForkedProcessError(
                "this run or report belongs to the parent process and cannot be used after fork(); "
                "open a run in this process instead"
            )
        return self._address

    def __reduce__(self) -> str:
        """Refused: an open run lives in one process."""
        raise TypeError("an open run or a report cannot be pickled; send run.path or a Checkpoint to the other process")


def _free(function: Any, address: int, generation: int) -> None:  # noqa: ANN401
    if generation == _generation:
        function(address)


def _taken(status: int, error: c_void_p) -> StorageError:
    """Takes the error out of its native handle and frees that."""
    if not error.value:
        name = _functions["status_name"](status).decode()
        return error_for_status(status, f"the storage library answered {name} without a message", {}, False)
    try:
        message = _functions["error_message"](error).decode("utf-8", "replace")
        details = json.loads(_functions["error_details_json"](error) or b"{}")
        retryable = bool(_functions["error_is_retryable"](error))
    finally:
        _functions["error_free"](error)
    return error_for_status(status, message, details, retryable)


def _addresses(arguments: tuple[Any, ...]) -> list[Any]:
    return [argument.address if type(argument) is Handle else argument for argument in arguments]


def call(name: str, *arguments: Any) -> None:  # noqa: ANN401
    """Calls a function that yields nothing. Raises the `StorageError` of its status."""
    function = _function(name)
    error = c_void_p()
    status = function(*_addresses(arguments), byref(error))
    if status:
        raise _taken(status, error)


def call_text(name: str, *arguments: Any) -> str:  # noqa: ANN401
    """Calls a function with a `char **out_json` and returns its text, freed on the native side."""
    function = _function(name)
    error = c_void_p()
    out = c_void_p()
    try:
        status = function(*_addresses(arguments), byref(out), byref(error))
        if status:
            raise _taken(status, error)
        return ctypes.string_at(out.value).decode("utf-8", "surrogateescape") if out.value else "null"
    finally:
        if out.value:
            _functions["string_free"](out)


def call_json(name: str, *arguments: Any) -> Any:  # noqa: ANN401 - documents differ
    """As `call_text`, parsed."""
    return json.loads(call_text(name, *arguments))


def call_handle(kind: str, name: str, *arguments: Any) -> Handle:  # noqa: ANN401
    """Calls a function with a handle as its out parameter and returns that handle."""
    function = _function(name)
    error = c_void_p()
    out = c_void_p()
    status = function(*_addresses(arguments), byref(out), byref(error))
    if status or not out.value:
        raise _taken(status, error)
    return Handle(out.value, kind)


def run_path(run: Handle) -> str:
    """`raystorage_run_path`."""
    text: bytes = _function("run_path")(run.address)
    return text.decode("utf-8", "surrogateescape")


def run_event_fd(run: Handle) -> int:
    """`raystorage_run_event_fd`."""
    descriptor = c_int32(-1)
    call("run_event_fd", run, byref(descriptor))
    return descriptor.value


def report_state(report: Handle) -> int:
    """`raystorage_report_state`."""
    state: int = _function("report_state")(report.address)
    return state


def operation_cancel(operation: Handle) -> None:
    """`raystorage_operation_cancel`."""
    _function("operation_cancel")(operation.address)


def next_log_line() -> dict[str, Any] | None:
    """The next line of the library's log that is there already, or None."""
    out = c_void_p()
    if _function("log_next")(0, byref(out), None) or not out.value:
        return None
    try:
        line: dict[str, Any] = json.loads(ctypes.string_at(out.value).decode("utf-8", "replace"))
        return line
    finally:
        _functions["string_free"](out)


def reference(options: RunOptions | ReportOptions) -> Any:  # noqa: ANN401 - ctypes' own type is private
    """An option struct as an argument, with its size filled in."""
    options.struct_size = ctypes.sizeof(options)
    return byref(options)


def encode(text: str, what: str) -> bytes:
    """Text or a path as the library takes it: UTF-8. A path that is not UTF-8 keeps its bytes.

    Raises:
        InvalidArgumentError: It holds a NUL character, which would cut it short, or a lone surrogate.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} {text!r} is not Unicode text: {error}", details={"name": what}) from None
    if b"\0" in data:
        raise InvalidArgumentError(f"{what} {text!r} contains a NUL character", details={"name": what})
    return data
