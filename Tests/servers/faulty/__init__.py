"""An S3 of our own in memory, stricter than S3, that fails as it is told and remembers all that it was asked.

    with FaultyS3() as server:
        server.fail("UploadPart", status=503, code="SlowDown", times=2)
        ...
        assert server.refusals == [] and server.count("UploadPart") == 3

`servers.faulty.faults` lists what can go wrong, `servers.faulty.rules` what a client must get right. For programs in
other languages every call can be made over HTTP: `servers.faulty.control`.
"""

from __future__ import annotations

from servers.faulty.faults import Action, Fault
from servers.faulty.server import FaultyS3
from servers.faulty.settings import Credentials, Settings

__all__ = ["Action", "Credentials", "Fault", "FaultyS3", "Settings"]
