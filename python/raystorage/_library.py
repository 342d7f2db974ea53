"""Where `libraystorage.so` may lie. Nothing is loaded here."""

from __future__ import annotations

import os

_NAME = "libraystorage.so"


def candidates() -> list[str]:
    """Every place that is looked at, in order.

    ``$RAYSTORAGE_LIBRARY`` is the only place when it is set: somebody who names a library must not silently get
    another one.
    """
    named = os.environ.get("RAYSTORAGE_LIBRARY")
    if named:
        return [os.path.abspath(os.path.expanduser(named))]
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(os.path.dirname(package))
    places = [os.path.join(package, "lib", _NAME)]
    if os.path.isfile(os.path.join(checkout, "Package.swift")):
        places += [
            os.path.join(checkout, "build", _NAME),
            os.path.join(checkout, ".build", "release", _NAME),
            os.path.join(checkout, ".build", "debug", _NAME),
        ]
    return places


def failure_text(tried: list[tuple[str, str]]) -> str:
    """The message for a library that cannot be loaded: every place with what was wrong there."""
    lines = [f"  {place}: {reason}" for place, reason in tried]
    return "\n".join(
        [
            f"{_NAME} cannot be loaded. Tried:",
            *lines,
            "Build it with `make lib`, install a wheel that contains it, or set RAYSTORAGE_LIBRARY to its path.",
        ]
    )
