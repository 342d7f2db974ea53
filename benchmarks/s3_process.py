"""One upload or download by one client, in a process of its own: prints seconds, CPU seconds and MiB as JSON.

    python s3_process.py CLIENT up|down DIRECTORY PREFIX ENDPOINT

ENDPOINT is the JSON of servers.endpoint.Endpoint. What is measured begins when the client is made and all that it needs
is imported, and ends when all bytes are there: in the store, or in the files (nobody fsyncs).
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1 << 20
# Files or parts at once, where a client leaves that to its user: twice what two cores could use.
CONCURRENCY = 16

Transfer = Callable[[], object]
Endpoint = dict[str, Any]


def main() -> None:
    """Measures once."""
    client, way, directory, prefix, text = sys.argv[1:]
    endpoint: Endpoint = json.loads(text)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": endpoint["access_key"],
        "AWS_SECRET_ACCESS_KEY": endpoint["secret_key"],
        "AWS_REGION": endpoint["region"],
        "AWS_DEFAULT_REGION": endpoint["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }
    if endpoint["ca_file"]:
        os.environ |= {"AWS_CA_BUNDLE": endpoint["ca_file"], "SSL_CERT_FILE": endpoint["ca_file"]}
    if way == "down":
        Path(directory).mkdir(parents=True)
    run, finish = CLIENTS[client](endpoint, way, Path(directory), prefix)
    idle = start()
    begin, cpu = time.perf_counter(), cpu_seconds()
    run()
    seconds, used = time.perf_counter() - begin, cpu_seconds() - cpu
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    peak = max(status("VmHWM") - idle, children if client in ("s5cmd", "curl") else 0)
    finish()
    print(json.dumps({"": seconds, "CPU": used, "memory": peak}))


def cpu_seconds() -> float:
    """User and system, children that have ended included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def status(key: str) -> float:
    """A line of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def start() -> float:
    """Forgets the peak so far and returns what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def nothing() -> None:
    """After clients that leave nothing behind."""


def in_parallel(work: Callable[[Path], object], files: list[Path]) -> None:
    """As a user would write it around a client that takes one file at a time."""
    with concurrent.futures.ThreadPoolExecutor(CONCURRENCY) as pool:
        for _ in pool.map(work, files):
            pass


def names(directory: Path, prefix: str) -> list[Path]:
    """The files to download: their names are told in a file beside the directory."""
    return [directory / name for name in json.loads(Path(os.environ["BENCH_NAMES"]).read_text())]


def key_of(prefix: str, file: Path) -> str:
    """Where a file lies in the bucket."""
    return f"{prefix}/{file.name}"


# ------------------------------------------------------------------------------ ours


def raystorage(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """Up: a SYNC report of a directory that is handed over. Down: `to_directory`. Checksums always."""
    from raystorage import Checkpoint, CheckpointUploadMode, Run, RunConfig

    scheme, _, host = endpoint["endpoint"].partition("://")
    query = f"region={endpoint['region']}&scheme={scheme}&endpoint_override={host}&payload_signing=never"
    if endpoint["ca_file"]:
        query += f"&tls_ca_file_path={endpoint['ca_file']}"
    if way == "down":
        checkpoint = Checkpoint(f"s3://{endpoint['bucket']}/{prefix}?{query}")
        return lambda: checkpoint.to_directory(directory), nothing
    run = Run(RunConfig(prefix, f"s3://{endpoint['bucket']}?{query}", durability="none"))

    def report() -> None:
        run.report(
            {},
            Checkpoint(directory),
            checkpoint_upload_mode=CheckpointUploadMode.SYNC,
            delete_local_checkpoint_after_upload=True,
        )

    return report, run.close


# ------------------------------------------------------------------------------ peers


def ray(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """What Ray Train calls, with its arguments."""
    import pyarrow.fs  # type: ignore[import-untyped]

    scheme, _, host = endpoint["endpoint"].partition("://")
    store = pyarrow.fs.S3FileSystem(
        access_key=endpoint["access_key"],
        secret_key=endpoint["secret_key"],
        region=endpoint["region"],
        scheme=scheme,
        endpoint_override=host,
        **({"tls_ca_file_path": endpoint["ca_file"]} if endpoint["ca_file"] else {}),
    )
    local, remote = pyarrow.fs.LocalFileSystem(), f"{endpoint['bucket']}/{prefix}"
    if way == "up":
        return lambda: pyarrow.fs.copy_files(
            str(directory), remote, local, store, chunk_size=64 * MIB, use_threads=False
        ), nothing
    return lambda: pyarrow.fs.copy_files(remote, str(directory), store, local, chunk_size=64 * MIB), nothing


def boto3(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """Its transfer manager over all files, in Python."""
    import boto3 as sdk
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    from s3transfer.manager import TransferManager

    config = Config(s3={"addressing_style": "path"}, max_pool_connections=CONCURRENCY)
    client = sdk.client("s3", endpoint_url=endpoint["endpoint"], config=config, verify=endpoint["ca_file"] or None)
    manager = TransferManager(client, TransferConfig(max_concurrency=CONCURRENCY, preferred_transfer_client="classic"))
    bucket = endpoint["bucket"]

    def run() -> None:
        files = sorted(directory.iterdir()) if way == "up" else names(directory, prefix)
        if way == "up":
            futures = [manager.upload(str(file), bucket, key_of(prefix, file)) for file in files]
        else:
            futures = [manager.download(bucket, key_of(prefix, file), str(file)) for file in files]
        for future in futures:
            future.result()

    return run, manager.shutdown


def awscrt(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """The client of AWS's common runtime, all files at once."""
    from awscrt import auth, http, io, s3  # type: ignore[import-untyped,unused-ignore]

    provider = auth.AwsCredentialsProvider.new_static(endpoint["access_key"], endpoint["secret_key"])
    bootstrap = io.ClientBootstrap.get_or_create_static_default()
    tls = None
    if endpoint["ca_file"]:
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, endpoint["ca_file"])
        tls = io.ClientTlsContext(options).new_connection_options()
    mode = s3.S3RequestTlsMode.ENABLED if tls else s3.S3RequestTlsMode.DISABLED
    client = s3.S3Client(
        bootstrap=bootstrap,
        region=endpoint["region"],
        credential_provider=provider,
        tls_mode=mode,
        tls_connection_options=tls,
        throughput_target_gbps=25,
    )
    host = endpoint["endpoint"].partition("://")[2]

    def one(file: Path) -> Any:
        headers = http.HttpHeaders([("Host", host)])
        path = f"/{endpoint['bucket']}/{key_of(prefix, file)}"
        if way == "up":
            headers.add("Content-Length", str(file.stat().st_size))
            request = http.HttpRequest("PUT", path, headers)
            return client.make_request(request=request, type=s3.S3RequestType.PUT_OBJECT, send_filepath=str(file))
        request = http.HttpRequest("GET", path, headers)
        return client.make_request(request=request, type=s3.S3RequestType.GET_OBJECT, recv_filepath=str(file))

    def run() -> None:
        files = sorted(directory.iterdir()) if way == "up" else names(directory, prefix)
        for request in [one(file) for file in files]:
            request.finished_future.result()

    return run, nothing


def obstore(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """The Rust object_store; several files by threads."""
    import obstore as library  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from obstore.store import S3Store  # type: ignore[import-not-found,import-untyped,unused-ignore]

    options: Any = {"allow_http": True}
    if endpoint["ca_file"]:
        options["allow_invalid_certificates"] = True
    store = S3Store(
        endpoint["bucket"],
        endpoint=endpoint["endpoint"],
        access_key_id=endpoint["access_key"],
        secret_access_key=endpoint["secret_key"],
        region=endpoint["region"],
        virtual_hosted_style_request=False,
        client_options=options,
    )

    def down(file: Path) -> None:
        with file.open("wb") as target:
            for chunk in library.get(store, key_of(prefix, file)).stream(min_chunk_size=8 * MIB):
                target.write(chunk)

    def run() -> None:
        if way == "up":
            in_parallel(lambda file: library.put(store, key_of(prefix, file), file), sorted(directory.iterdir()))
        else:
            in_parallel(down, names(directory, prefix))

    return run, nothing


def opendal(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """Several files by threads; large ones in parts by its writer."""

    import opendal as library  # type: ignore[import-not-found,import-untyped,unused-ignore]

    operator = library.Operator(
        "s3",
        bucket=endpoint["bucket"],
        endpoint=endpoint["endpoint"],
        access_key_id=endpoint["access_key"],
        secret_access_key=endpoint["secret_key"],
        region=endpoint["region"],
    )

    def up(file: Path) -> None:
        if file.stat().st_size <= 8 * MIB:
            operator.write(key_of(prefix, file), file.read_bytes())
            return
        with (
            file.open("rb") as source,
            operator.open(key_of(prefix, file), "wb", chunk=8 * MIB, concurrent=8) as target,
        ):
            shutil.copyfileobj(source, target, 8 * MIB)

    def down(file: Path) -> None:
        with file.open("wb") as target, operator.open(key_of(prefix, file), "rb") as source:
            shutil.copyfileobj(source, target, 8 * MIB)

    def run() -> None:
        in_parallel(
            up if way == "up" else down, sorted(directory.iterdir()) if way == "up" else names(directory, prefix)
        )

    return run, nothing


def minio(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """Several files by threads."""
    import urllib3
    from minio import Minio  # type: ignore[import-not-found,unused-ignore]

    scheme, _, host = endpoint["endpoint"].partition("://")
    pool = urllib3.PoolManager(
        maxsize=CONCURRENCY * 4, **({"ca_certs": endpoint["ca_file"]} if endpoint["ca_file"] else {})
    )
    client = Minio(
        host,
        access_key=endpoint["access_key"],
        secret_key=endpoint["secret_key"],
        region=endpoint["region"],
        secure=scheme == "https",
        http_client=pool,
    )
    bucket = endpoint["bucket"]

    def one(file: Path) -> object:
        if way == "up":
            return client.fput_object(bucket, key_of(prefix, file), str(file))
        return client.fget_object(bucket, key_of(prefix, file), str(file))

    def run() -> None:
        in_parallel(one, sorted(directory.iterdir()) if way == "up" else names(directory, prefix))

    return run, nothing


def s5cmd(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """The program, in Go; its start is part of what is measured."""
    program = str(Path(sys.executable).parent / "s5cmd")
    flags = ["--endpoint-url", endpoint["endpoint"], "--log", "error"]
    if endpoint["ca_file"]:
        flags.append("--no-verify-ssl")
    remote = f"s3://{endpoint['bucket']}/{prefix}/"
    places = [f"{directory}/", remote] if way == "up" else [f"{remote}*", f"{directory}/"]
    return lambda: subprocess.run([program, *flags, "cp", *places], check=True), nothing


def curl(endpoint: Endpoint, way: str, directory: Path, prefix: str) -> tuple[Transfer, Callable[[], object]]:
    """Eight processes, each with its share of the files: bytes between files and sockets, and nothing else."""
    program = shutil.which("curl")
    if program is None:
        raise RuntimeError("curl is missing: apt install curl")
    command = [program, "--silent", "--show-error", "--fail"]
    if endpoint["ca_file"]:
        command += ["--cacert", endpoint["ca_file"]]

    def run() -> None:
        files = sorted(directory.iterdir()) if way == "up" else names(directory, prefix)
        shares = [files[first::8] for first in range(min(8, len(files)))]
        processes = []
        for share in shares:
            lines = []
            for file in share:
                lines.append(f'url = "{endpoint["endpoint"]}/{endpoint["bucket"]}/{key_of(prefix, file)}"')
                lines.append(f'{"upload-file" if way == "up" else "output"} = "{file}"')
            processes.append(subprocess.Popen([*command, "--config", "-"], stdin=subprocess.PIPE, text=True))
            standard_input = processes[-1].stdin
            assert standard_input is not None
            with standard_input:
                standard_input.write("\n".join(lines))
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError("curl failed")

    return run, nothing


CLIENTS: dict[str, Callable[[Endpoint, str, Path, str], tuple[Transfer, Callable[[], object]]]] = {
    "raystorage": raystorage,
    "ray": ray,
    "awscrt": awscrt,
    "obstore": obstore,
    "opendal": opendal,
    "minio": minio,
    "s5cmd": s5cmd,
    "boto3": boto3,
    "curl": curl,
}

if __name__ == "__main__":
    main()
