"""How the server is set up; tests change it while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Credentials:
    """One key that the server knows."""

    access_key: str
    secret_key: str
    token: str = ""
    # After so many signed requests it has expired; None: never.
    expires_after: int | None = None
    # From this moment on it has expired (seconds since 1970); None: never.
    expires_at: float | None = None
    used: int = 0

    @property
    def expired(self) -> bool:
        worn = self.expires_after is not None and self.used > self.expires_after
        return worn or (self.expires_at is not None and time.time() >= self.expires_at)


@dataclass
class Settings:
    """Everything that holds for all requests; single ones go wrong by `Fault`."""

    region: str = "us-east-1"
    credentials: list[Credentials] = field(default_factory=lambda: [Credentials("FAULTYTESTKEY", "faulty/test+secret")])
    anonymous: bool = False
    # Buckets that are in another region: requests for them are redirected there.
    elsewhere: dict[str, str] = field(default_factory=dict)

    # What is asked of clients.
    unsigned_payload_over_http: bool = False
    require_checksums: bool = True
    # Knows no x-amz-checksum headers, as older stores: passes over them.
    ignore_checksums: bool = False
    # Ignores conditions, as older stores.
    ignore_conditions: bool = False
    min_part_bytes: int = 5 << 20
    max_put_bytes: int = 5 << 30
    equal_parts: bool = True
    # Header values that an operation must carry: {"PutObject": {"x-amz-storage-class": "STANDARD_IA"}}.
    required_headers: dict[str, dict[str, str]] = field(default_factory=dict)

    # How it behaves.
    page_size: int = 1000
    clock_offset_s: float = 0
    latency_s: float = 0
    # Of all connections together, each way; 0: no limit.
    bandwidth_bytes_s: int = 0
    # Closes a connection after so many requests; 0: never.
    requests_per_connection: int = 0
    # In an answer to CompleteMultipartUpload there are so many blanks, one each 0.1 s, as S3 keeps slow ones alive.
    complete_whitespace: int = 0
