"""An NFS 4.2 server in user space, nfs-ganesha, for machines whose kernel is its client."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIGURATION = """
NFS_CORE_PARAM {{
    NFS_Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false;
    MNT_Port = 0; NLM_Port = 0; Rquota_Port = 0;
}}
NFSv4 {{ Graceless = true; Minor_Versions = 1, 2; RecoveryBackend = fs; RecoveryRoot = "{state}"; }}
EXPORT {{
    Export_Id = 1; Path = "{directory}"; Pseudo = "/export"; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = WARN; }}
"""


class ServerUnavailableError(Exception):
    """This computer lacks a piece, or the right to serve; the text says which."""


@contextmanager
def served(directory: Path, work: Path) -> Iterator[int]:
    """Serves a directory as /export on a port of the loopback, which is yielded."""
    program = shutil.which("ganesha.nfsd")
    if program is None:
        raise ServerUnavailableError("ganesha.nfsd is missing: scripts/install-dependencies.sh test")
    directory.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    configuration, log = work / "ganesha.conf", work / "ganesha.log"
    configuration.write_text(_CONFIGURATION.format(port=port, directory=directory, state=work / "state"))
    process = subprocess.Popen(
        [program, "-F", "-f", configuration, "-L", log, "-p", work / "ganesha.pid"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(process, port, log)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    text = log.read_text().splitlines()[-5:] if log.exists() else []
    raise ServerUnavailableError("ganesha.nfsd does not serve: " + " | ".join(text))
