"""HTTP/1.1 on one connection: heads, bodies of known length, and everything that a faulty server does to both."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

_MAX_HEAD = 64 * 1024
_CHUNK = 256 * 1024


class GoneError(Exception):
    """The connection has ended, by either side."""


class MalformedError(Exception):
    """What came is no request."""


@dataclass
class Request:
    """One request; the body follows its head."""

    method: str
    target: str
    headers: dict[str, str]
    secure: bool = False
    body: bytearray = field(default_factory=bytearray)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        pairs = [part.partition("=") for part in self.target.partition("?")[2].split("&") if part]
        return [(text(name), text(value)) for name, _, value in pairs]

    def has(self, name: str) -> bool:
        return any(one == name for one, _ in self.query)

    def argument(self, name: str) -> str:
        return next((value for one, value in self.query if one == name), "")

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    @property
    def length(self) -> int:
        value = self.header("content-length") or "0"
        if not value.isdigit() or len(value) > 15:
            raise MalformedError(f"Content-Length {value!r}")
        return int(value)


@dataclass
class Response:
    """An answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""
    # Of the answer to HEAD.
    length: int | None = None
    # So many, sent slowly after the declaration of a document.
    blanks: int = 0
    close: bool = False


def text(encoded: str) -> str:
    """Percent-decoded UTF-8; what is none becomes a replacement character, which no rule lets pass."""
    return unquote_to_bytes(encoded).decode("utf-8", errors="replace")


class Throttle:
    """A bandwidth shared by all connections."""

    def __init__(self, bytes_per_second: Callable[[], int]) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: int) -> None:
        """Returns when so many bytes may pass."""
        rate = self._rate()
        if rate <= 0 or count <= 0:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / rate
            pause = self._free_at - now
        time.sleep(pause)


class Connection:
    """One client's connection."""

    def __init__(self, sock: socket.socket, throttle: Throttle, *, secure: bool) -> None:
        self._socket = sock
        self._throttle = throttle
        self._secure = secure
        self._pending = bytearray()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def head(self) -> Request | None:
        """The next request, None at an orderly end."""
        while (end := self._pending.find(b"\r\n\r\n")) < 0:
            if len(self._pending) > _MAX_HEAD:
                raise MalformedError("a head of more than 64 KiB")
            more = self._receive()
            if not more:
                if self._pending:
                    raise GoneError
                return None
            self._pending += more
        lines = bytes(self._pending[:end]).decode("latin-1").split("\r\n")
        del self._pending[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or words[2] != "HTTP/1.1":
            raise MalformedError(f"request line {lines[0]!r}")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise MalformedError(f"header {line!r}")
            lower, value = name.lower(), " ".join(value.split())
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        return Request(words[0], words[1], headers, self._secure)

    def read_body(self, request: Request, limit: int | None = None) -> None:
        """The body, or its first bytes when a limit is given."""
        length = request.length
        if limit is not None:
            length = min(length, limit)
        if request.header("expect").lower() == "100-continue" and not self._pending:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray(length)
        view = memoryview(body)
        done = min(length, len(self._pending))
        view[:done] = self._pending[:done]
        del self._pending[:done]
        while done < length:
            try:
                count = self._socket.recv_into(view[done : done + _CHUNK])
            except OSError:
                raise GoneError from None
            if count == 0:
                raise GoneError
            self._throttle.take(count)
            done += count
        request.body = body

    def send(self, request: Request, response: Response, stop_at: int | None = None) -> int:
        """The answer; of its body only so many bytes when told. How many bytes of it were sent."""
        body = memoryview(response.body)
        length = response.length if response.length is not None else len(body) + response.blanks
        phrase = HTTPStatus(response.status).phrase if response.status in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {response.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.status not in (204, 304):
            lines.append(f"Content-Length: {length}")
        if response.close:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if response.blanks:
            # Between the declaration and the root, where XML allows them.
            cut = bytes(body[:200]).find(b"?>") + 2
            head, body = head + bytes(body[:cut]), body[cut:]
        for _ in range(response.blanks):
            self._send(head)
            head = b" "
            time.sleep(0.1)
        if request.method == "HEAD":
            body = body[:0]
        if stop_at is not None:
            body = body[:stop_at]
        if len(body) <= _CHUNK:
            self._send(head + bytes(body))
            self._throttle.take(len(body))
            return len(body)
        self._send(head)
        for start in range(0, len(body), _CHUNK):
            chunk = body[start : start + _CHUNK]
            self._throttle.take(len(chunk))
            self._send(chunk)
        return len(body)

    def ended(self, timeout_s: float) -> bool:
        """Whether the client hangs up within that time."""
        self._socket.settimeout(timeout_s)
        try:
            while self._socket.recv(_CHUNK):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def reset(self) -> None:
        """RST instead of FIN."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """In an orderly way: FIN first, so that the last answer is not thrown away over unread bytes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self.ended(1)
        self._socket.close()

    def abort(self) -> None:
        """Wakes a thread that reads or writes here."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_CHUNK)
        except OSError:
            raise GoneError from None

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise GoneError from None
