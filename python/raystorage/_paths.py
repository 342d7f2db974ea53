"""Paths and URIs as people write them."""

from __future__ import annotations

import os
import re

from .errors import InvalidArgumentError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_USER = re.compile(r"(?<=://)[^/@]*@")
_SECRET = re.compile(r"(?i)([?&][^=&]*(?:secret|token|password|key|credential|signature)[^=&]*=)[^&]*")


def text(path: str | os.PathLike[str], what: str = "path") -> str:
    """A path as text.

    Raises:
        InvalidArgumentError: It is neither `str` nor `os.PathLike`, or it is empty.
    """
    try:
        given: object = os.fspath(path)
    except TypeError:
        raise InvalidArgumentError(
            f"{what} must be a str or os.PathLike, not {type(path).__name__}", details={"name": what}
        ) from None
    if isinstance(given, bytes):
        given = os.fsdecode(given)
    if not isinstance(given, str) or not given:
        raise InvalidArgumentError(f"{what} must not be empty", details={"name": what})
    return given


def is_uri(path: str) -> bool:
    """Whether it has a scheme."""
    return _SCHEME.match(path) is not None


def settled(path: str) -> str:
    """A URI as it is; a local path absolute and with ``~`` expanded, so that a later `chdir` does not move it."""
    return path if is_uri(path) else os.path.abspath(os.path.expanduser(path))


def local(path: str) -> str | None:
    """The local path that a path or a ``file://`` URI stands for, or None for another scheme."""
    if not is_uri(path):
        return path
    scheme, _, rest = path.partition("://")
    if scheme != "file" or not rest.startswith("/"):
        return None
    from urllib.parse import unquote

    return unquote(rest)


def without_options(path: str) -> str:
    """A URI without what stands behind its ``?``."""
    return path.partition("?")[0] if is_uri(path) else path


def name(path: str) -> str:
    """The last component."""
    return os.path.basename(without_options(path).rstrip("/"))


def redacted(path: str) -> str:
    """A URI without the credentials that it may carry, for people to read."""
    return _SECRET.sub(r"\1***", _USER.sub("***@", path)) if is_uri(path) else path
