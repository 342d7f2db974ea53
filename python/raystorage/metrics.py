"""Metrics as compact JSON text, refused with the path of the value before anything starts.

Allowed: numbers (NaN and the infinities too), text, booleans, None, numpy scalars and arrays without dimensions, and
lists, tuples and mappings of these with text as keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgumentError

# The library's parser stops at 128 levels; a report adds a few of its own around the metrics.
MAXIMUM_DEPTH = 100

_ALLOWED = "numbers, text, booleans, None, numpy scalars, and lists and dicts (with text as keys) of these"
_PLAIN = frozenset((float, int, str, bool, type(None)))
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def encode(metrics: Mapping[str, Any]) -> bytes:
    """The metrics as one JSON object; NaN and the infinities as Python's `json` writes them.

    Raises:
        InvalidArgumentError: A value or key is of another kind, a list or dict contains itself, or is nested deeper
            than 100 levels. The text has the path of it, for example ``a/b/0``.
    """
    # The common report is a flat dict of plain values: it must cost microseconds.
    if type(metrics) is not dict:
        if not isinstance(metrics, Mapping):
            raise _refused("metrics", metrics, "must be a dict")
        metrics = dict(metrics)
    for key, value in metrics.items():
        if type(key) is not str or type(value) not in _PLAIN:
            metrics = _plain(metrics, (), ())
            break
    try:
        return _encode(metrics).encode("ascii")
    except ValueError as error:  # an int with more digits than Python prints
        raise InvalidArgumentError(f"metrics cannot be written as JSON: {error}") from None


def _plain(value: Any, path: tuple[str, ...], above: tuple[int, ...]) -> Any:  # noqa: ANN401
    kind = type(value)
    if kind in _PLAIN:
        return value
    if len(above) > MAXIMUM_DEPTH:
        where = "/".join(path[:6])
        raise InvalidArgumentError(f"metrics {where!r}… are nested deeper than {MAXIMUM_DEPTH} levels")
    if id(value) in above:
        raise InvalidArgumentError(f"metrics {_text(path)} contain themselves: a list or dict must not be its own part")
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(item, (*path, str(key)), inside) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, str(index)), inside) for index, item in enumerate(value)]
    return _scalar(value, kind, path)


def _key(key: object, path: tuple[str, ...]) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise _refused(_text((*path, repr(key))), key, "is a key, and keys must be text: use str(key)")


def _scalar(value: Any, kind: type, path: tuple[str, ...]) -> Any:  # noqa: ANN401
    modules = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "torch" in modules:
        raise _refused(_text(path), value, "is a torch object: call .item() on a tensor to report its value")
    if "numpy" in modules:
        return _numpy_scalar(value, path)
    # Subclasses, IntEnum for example, would write what their own __str__ or __repr__ says.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise _refused(_text(path), value, "is binary: decode it to text, or put it into the checkpoint")
    if isinstance(value, (set, frozenset)):
        raise _refused(_text(path), value, "is a set, which has no order: report sorted(...)")
    raise _refused(_text(path), value, f"is not allowed in metrics; allowed are {_ALLOWED}")


def _numpy_scalar(value: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401
    if getattr(value, "shape", None) != ():
        raise _refused(_text(path), value, "has dimensions: report .item() of one element, or .tolist()")
    item = value.item()
    if type(item) in _PLAIN:
        return item
    if getattr(getattr(value, "dtype", None), "kind", "") == "f":  # longdouble has no plain counterpart
        return float(value)
    raise _refused(_text(path), value, "has no counterpart in JSON")


def _text(path: tuple[str, ...]) -> str:
    return repr("/".join(path)) if path else "metrics"


def _refused(where: str, value: object, why: str) -> InvalidArgumentError:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lead = "metrics" if where == "metrics" else f"the metric {where}"
    return InvalidArgumentError(
        f"{lead} of type {name} {why}", details={"name": where.strip("'"), "type": name, "allowed": _ALLOWED}
    )
