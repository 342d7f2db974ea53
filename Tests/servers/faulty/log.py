"""What the server was asked, for tests to read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass
class Entry:
    """One request."""

    number: int
    operation: str
    bucket: str
    key: str
    target: str
    headers: dict[str, str]
    connection: int
    started: float = field(default_factory=time.monotonic)
    # 0: no answer was sent.
    status: int = 0
    code: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    fault: str = ""
    # Why a client that does everything right never gets this answer.
    refusal: str = ""
    seconds: float = 0


class Log:
    """All requests in the order in which they came."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._condition = threading.Condition()

    def begin(
        self, operation: str, bucket: str, key: str, target: str, headers: dict[str, str], connection: int
    ) -> Entry:
        # A credential must not lie about in logs, of tests either.
        shown = {name: value for name, value in headers.items() if name != "x-amz-security-token"}
        with self._condition:
            entry = Entry(len(self._entries) + 1, operation, bucket, key, target, shown, connection)
            self._entries.append(entry)
            self._condition.notify_all()
            return entry

    def end(self, entry: Entry) -> None:
        entry.seconds = time.monotonic() - entry.started
        with self._condition:
            self._condition.notify_all()

    def entries(self) -> list[Entry]:
        with self._condition:
            return list(self._entries)

    def clear(self) -> None:
        with self._condition:
            self._entries.clear()

    def wait_for(self, operation: str, count: int, timeout_s: float) -> bool:
        """Returns when so many requests of that kind have come."""
        with self._condition:
            return self._condition.wait_for(
                lambda: sum(entry.operation == operation for entry in self._entries) >= count, timeout_s
            )
