"""What can go wrong with a single request, and when."""

from __future__ import annotations

import enum
import fnmatch
import threading
from dataclasses import dataclass, field


class Action(enum.Enum):
    """What happens to a request. `at` counts bytes of the body of the request or of the answer."""

    # Not carried out.
    STATUS = "status"  # answered with `status`, `code`, `headers`; without a body if `body` is false
    EARLY_STATUS = "early-status"  # the same before the body was read; then the connection closes
    ERROR_IN_200 = "error-in-200"  # answered with 200 and an <Error> with `code`
    RESET_REQUEST = "reset-request"  # the connection is reset when `at` bytes have come
    STALL_REQUEST = "stall-request"  # nothing is read after `at` bytes, until released
    DELIVER_LATER = "deliver-later"  # read, never answered; carried out when released
    # Carried out.
    DELAY = "delay"  # `seconds` later
    HOLD = "hold"  # when released, with the connection open
    HOLD_REPLY = "hold-reply"  # the answer waits until released
    LOSE_REPLY = "lose-reply"  # the connection is reset instead of an answer
    RESET_RESPONSE = "reset-response"  # after `at` bytes of the answer's body
    STALL_RESPONSE = "stall-response"  # after `at` bytes of the answer's body, until released
    TRUNCATE = "truncate"  # the connection ends in an orderly way after `at` bytes of the answer's body
    SHORTEN = "shorten"  # `at` bytes, and Content-Length says so
    DUPLICATE = "duplicate"  # the first `at` bytes come twice, the length stays: the end is missing
    EXTEND = "extend"  # the first `at` bytes come once more at the end, and Content-Length says so
    OTHER_RANGE = "other-range"  # zeroes, said to be of another range, and reset after `at` bytes of them
    CORRUPT_RESPONSE = "corrupt-response"  # one bit of the answer's byte `at` is flipped
    CORRUPT_STORED = "corrupt-stored"  # one bit of the stored object's byte `at` is flipped
    WRONG_ETAG = "wrong-etag"  # the answer names another ETag than that which is stored
    WRONG_CHECKSUM = "wrong-checksum"  # the answer names another checksum


@dataclass
class Fault:
    """One line of a script: which requests, after how many of them, how often, and what happens."""

    operation: str = "*"
    action: Action = Action.STATUS
    key: str = "*"
    # The first so many requests that match pass.
    skip: int = 0
    # So many are hit; 0: all that follow.
    times: int = 1
    at: int = 0
    status: int = 500
    code: str = "InternalError"
    body: bool = True
    seconds: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    # How many were hit so far.
    hits: int = 0

    def matches(self, operation: str, key: str) -> bool:
        return fnmatch.fnmatchcase(operation, self.operation) and fnmatch.fnmatchcase(key, self.key)

    @property
    def spent(self) -> bool:
        return bool(self.times) and self.hits >= self.times


class Script:
    """The faults in order; the first that matches a request and is not spent hits it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, operation: str, key: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.spent or not fault.matches(operation, key):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                return fault
        return None


class Gate:
    """Where held requests wait until a test, or the end of the server, releases them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._opened = 0
        self._closed = False
        # Whether those who were let go last are to give up.
        self._refused = False
        self.waiting = 0

    def wait(self, timeout_s: float = 600) -> bool:
        """True when released, False when refused or at the end of the server."""
        with self._condition:
            seen = self._opened
            self.waiting += 1
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._opened != seen or self._closed, timeout_s)
            self.waiting -= 1
            return not (self._closed or self._refused)

    def wait_until_held(self, count: int = 1, timeout_s: float = 60) -> bool:
        """Returns when so many requests wait here."""
        with self._condition:
            return self._condition.wait_for(lambda: self.waiting >= count, timeout_s)

    def release(self, *, refuse: bool = False) -> int:
        """Lets all that wait go, or with `refuse` give up without being carried out; how many."""
        with self._condition:
            self._opened += 1
            self._refused = refuse
            self._condition.notify_all()
            return self.waiting

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
