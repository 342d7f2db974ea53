"""A block device that loses what was not flushed: an NBD server on a unix socket, with a power cut.

What the machine writes is readable at once, and durable only after the next FLUSH, as with a disk whose cache is
volatile. At a cut the device stops answering; of the writes since the last FLUSH a random subset, some of them torn at
a sector, reaches the medium, and the rest is gone. So a later write may survive an earlier one, but two writes of one
sector are never turned round: no disk does that.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512

_NBD_MAGIC = 0x4E42444D41474943
_OPTION_MAGIC = 0x49484156454F5054
_REPLY_MAGIC = 0x3E889045565A9
_REQUEST_MAGIC = 0x25609513
_SIMPLE_REPLY_MAGIC = 0x67446698
_FLAGS_FIXED_NEWSTYLE = 1
_FLAGS_NO_ZEROES = 2
_OPTION_EXPORT_NAME, _OPTION_ABORT, _OPTION_INFO, _OPTION_GO = 1, 2, 6, 7
_REPLY_ACK, _REPLY_INFO, _REPLY_UNSUPPORTED = 1, 3, 0x80000001
_TRANSMISSION_FLAGS = 1 | 4  # has flags, knows FLUSH; no FUA, no TRIM: everything goes through FLUSH
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_EINVAL = 22


@dataclass
class Statistics:
    """What the machine asked for since the device was made."""

    writes: int = 0
    bytes_written: int = 0
    flushes: int = 0
    cuts: int = 0
    lost: int = 0
    kept: int = 0
    torn: int = 0


@dataclass
class LosingDevice:
    """The device. `medium` is the file that survives a cut; the working copy beside it is what the machine sees."""

    medium: Path
    socket_path: Path
    seed: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._working = self.medium.with_suffix(".working")
        shutil.copyfile(self.medium, self._working)
        self._medium_fd = os.open(self.medium, os.O_RDWR | os.O_CLOEXEC)
        self._working_fd = os.open(self._working, os.O_RDWR | os.O_CLOEXEC)
        self._size = os.fstat(self._medium_fd).st_size
        self._pending: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        self._powered = True
        self._cut_at_write: int | None = None
        self.cut_happened = threading.Event()
        self.socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket_path))
        self._listener.listen(4)
        threading.Thread(target=self._serve, name="losing-device", daemon=True).start()

    def cut_power(self) -> None:
        """Stops answering now. The machine hangs until it is killed; then call `power_on`."""
        with self._lock:
            self._cut()

    def cut_after_writes(self, count: int) -> None:
        """Cuts when that many more writes have been taken: instants that a clock does not find."""
        with self._lock:
            self._cut_at_write = self.statistics.writes + count

    def power_on(self) -> None:
        """Decides what reached the medium and answers again."""
        with self._lock:
            self._cut()
            # From "nothing went out" over "half of it, anyhow" to "all but a little".
            probability = self._random.choice((0.0, 0.2, 0.5, 0.8, 0.95))
            survivors = [item for item in self._pending if self._random.random() < probability]
            self.statistics.lost += len(self._pending) - len(survivors)
            self.statistics.kept += len(survivors)
            for offset, data in survivors:
                content = data
                if len(data) > SECTOR and self._random.random() < 0.2:
                    content = data[: self._random.randrange(1, len(data) // SECTOR) * SECTOR]
                    self.statistics.torn += 1
                os.pwrite(self._medium_fd, content, offset)
            # The working copy forgets what is gone.
            for offset, data in self._pending:
                os.pwrite(self._working_fd, os.pread(self._medium_fd, len(data), offset), offset)
            self._pending.clear()
            self._powered = True
            self.cut_happened.clear()

    def close(self) -> None:
        self._powered = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.close(self._medium_fd)
        os.close(self._working_fd)
        self._working.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)

    def _cut(self) -> None:
        if self._powered:
            self._powered = False
            self._cut_at_write = None
            self.statistics.cuts += 1
            self.cut_happened.set()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            if self._handshake(connection):
                self._transmit(connection)

    def _handshake(self, connection: socket.socket) -> bool:
        connection.sendall(struct.pack(">QQH", _NBD_MAGIC, _OPTION_MAGIC, _FLAGS_FIXED_NEWSTYLE | _FLAGS_NO_ZEROES))
        (client_flags,) = struct.unpack(">I", _receive(connection, 4))
        while True:
            _, option, length = struct.unpack(">QII", _receive(connection, 16))
            _receive(connection, length)
            if option == _OPTION_EXPORT_NAME:
                zeroes = b"" if client_flags & _FLAGS_NO_ZEROES else bytes(124)
                connection.sendall(struct.pack(">QH", self._size, _TRANSMISSION_FLAGS) + zeroes)
                return True
            if option in (_OPTION_INFO, _OPTION_GO):
                export = struct.pack(">HQH", 0, self._size, _TRANSMISSION_FLAGS)
                connection.sendall(_option_reply(option, _REPLY_INFO, export) + _option_reply(option, _REPLY_ACK, b""))
                if option == _OPTION_GO:
                    return True
            elif option == _OPTION_ABORT:
                connection.sendall(_option_reply(option, _REPLY_ACK, b""))
                return False
            else:
                connection.sendall(_option_reply(option, _REPLY_UNSUPPORTED, b""))

    def _transmit(self, connection: socket.socket) -> None:
        while True:
            _, _, kind, handle, offset, length = struct.unpack(">IHHQQI", _receive(connection, 28))
            data = _receive(connection, length) if kind == _WRITE else b""
            with self._lock:
                if not self._powered:
                    break
                error, answer = self._carry_out(kind, offset, length, data)
                if kind == _DISCONNECT:
                    return
                if not self._powered:
                    break
                connection.sendall(struct.pack(">IIQ", _SIMPLE_REPLY_MAGIC, error, handle) + answer)
        # Without power there is no answer, not even an error, until the machine is gone.
        while connection.recv(1 << 16):
            pass

    def _carry_out(self, kind: int, offset: int, length: int, data: bytes) -> tuple[int, bytes]:
        if kind == _READ:
            return 0, os.pread(self._working_fd, length, offset)
        if kind == _WRITE:
            os.pwrite(self._working_fd, data, offset)
            self._pending.append((offset, data))
            self.statistics.writes += 1
            self.statistics.bytes_written += length
            if self._cut_at_write is not None and self.statistics.writes >= self._cut_at_write:
                self._cut()
            return 0, b""
        if kind == _FLUSH:
            for position, content in self._pending:
                os.pwrite(self._medium_fd, content, position)
            self._pending.clear()
            self.statistics.flushes += 1
            return 0, b""
        return (0, b"") if kind == _DISCONNECT else (_EINVAL, b"")


def _option_reply(option: int, kind: int, payload: bytes) -> bytes:
    return struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(payload)) + payload


def _receive(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
