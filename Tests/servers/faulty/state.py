"""What the server keeps: buckets, objects, open uploads; all in memory, behind one lock."""

from __future__ import annotations

import base64
import itertools
import threading
import time
from dataclasses import dataclass, field

from awscrt import checksums  # type: ignore[import-untyped]


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C of bytes."""
    return int(checksums.crc32c(data))


def encoded(value: int) -> str:
    """As S3's headers carry it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


_numbers = itertools.count(1)


def new_etag(crc: int) -> str:
    """Opaque, as behind SSE-KMS: no MD5, and another one for each write."""
    return f'"{crc:08x}{next(_numbers):024x}"'


@dataclass
class StoredObject:
    """One object; never changed, only replaced. Its pieces are the parts that it was made of."""

    pieces: list[bytearray]
    crc: int
    etag: str
    modified: float = field(default_factory=time.time)
    headers: dict[str, str] = field(default_factory=dict)
    parts: int = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def read(self, start: int, end: int) -> bytes | memoryview:
        """A range, without copying where one piece holds it."""
        found = []
        offset = 0
        for piece in self.pieces:
            low, high = max(start - offset, 0), min(end - offset, len(piece))
            if low < high:
                found.append(memoryview(piece)[low:high])
            offset += len(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def flip(self, at: int) -> None:
        """Flips a bit; for a negative offset from the end."""
        at %= max(self.size, 1)
        for piece in self.pieces:
            if at < len(piece):
                piece[at] ^= 1
                return
            at -= len(piece)


@dataclass
class Part:
    """One part of an open upload."""

    content: bytearray
    crc: int
    etag: str
    modified: float = field(default_factory=time.time)


@dataclass
class Upload:
    """An upload in parts."""

    key: str
    id: str
    algorithm: str
    checksum_type: str
    headers: dict[str, str]
    started: float = field(default_factory=time.time)
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass
class Bucket:
    """One bucket."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)


class State:
    """Everything."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}

    def begin(self, bucket: Bucket, key: str, algorithm: str, checksum_type: str, headers: dict[str, str]) -> Upload:
        # Longer than a UUID, and with characters that must be encoded in a query.
        upload = Upload(key, f"up+{next(_numbers):032x}/=", algorithm, checksum_type, headers)
        bucket.uploads[upload.id] = upload
        return upload
