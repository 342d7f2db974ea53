"""nginx with Lua: a sink that takes S3 uploads at the speed of the loopback, and a proxy that harms what passes it.

The sink keeps small objects and the names of all; the bytes of large ones it throws away. What is downloaded comes from
files: the key `bucket/<workload>-anything/.../<name>` is `<files>/<workload>/<name>`. It checks nothing.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from servers.daemon import Daemon, ServerError, free_ports, program, responds
from servers.endpoint import QUIRKS, Endpoint, certificate

_HERE = Path(__file__).resolve().parent
_MODULES = Path("/usr/lib/nginx/modules")

_CONFIGURATION = """\
daemon off;
{user}
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type binary/octet-stream;
    types {{ }}
    etag off;
    sendfile on;
    sendfile_max_chunk 1m;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 300;
    client_max_body_size 0;
    client_body_buffer_size 16m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    large_client_header_buffers 8 32k;
    lua_shared_dict objects 512m;
    lua_socket_buffer_size 64k;
    lua_shared_dict orders 1m;
    lua_package_path "{lua}/?.lua;;";
    init_by_lua_block {{ require "resty.core" }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {tls}
        {locations}
    }}
}}
"""

_SINK = """\
        location / { content_by_lua_block { require("sink").serve() } }
        location /-/files/ { internal; alias %(files)s/; }
"""

# Requests pass unbuffered: what harms the client in the middle harms the server in the middle. Answers are buffered,
# for nginx limits the rate of no others.
_PROXY = """\
        location = /-/orders { content_by_lua_block { require("proxy").orders() } }
        location / {
            access_by_lua_block { require("proxy").access() }
            body_filter_by_lua_block { return require("proxy").body() }
            proxy_pass %(upstream)s;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_read_timeout 600;
            proxy_send_timeout 600;
        }
"""


@contextmanager
def _nginx(directory: Path, locations: str, *, tls: bool, workers: int) -> Iterator[tuple[str, str]]:
    """URL and certificate of a server with these locations."""
    if not (_MODULES / "ngx_http_lua_module.so").exists():
        raise ServerError("nginx's Lua module is missing: scripts/install-dependencies.sh s3")
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    ca_file = secure = ""
    if tls:
        authority, chain, key = certificate(directory)
        ca_file = str(authority)
        secure = f"ssl_certificate {chain}; ssl_certificate_key {key};"
    configuration = _CONFIGURATION.format(
        user="user root;" if os.geteuid() == 0 else "",
        workers=workers,
        directory=directory,
        modules=_MODULES,
        lua=_HERE,
        port=f"{port} ssl" if tls else port,
        tls=secure,
        locations=locations,
    )
    (directory / "nginx.conf").write_text(configuration)
    command = [program("nginx", "apt nginx-core libnginx-mod-http-lua"), "-p", str(directory), "-c", "nginx.conf"]
    daemon = Daemon("nginx", command, directory)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        daemon.wait_for(lambda: _listens(port))
        yield url, ca_file
    finally:
        daemon.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def sink(directory: Path, files: Path, *, tls: bool = False, workers: int = 2) -> Iterator[Endpoint]:
    """The sink, with the files that downloads come from."""
    with _nginx(directory, _SINK % {"files": files}, tls=tls, workers=workers) as (url, ca_file):
        yield Endpoint("sink", url, "SINKTESTKEY", "sink/test+secret", "bucket", quirks=tuple(QUIRKS), ca_file=ca_file)


class Proxy:
    """Harms what passes to a server behind it, from now on."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def order(
        self, *, bytes_per_second: int = 0, delay_s: float = 0, status: int = 0, every: int = 1, reset: int = 0
    ) -> None:
        """Limits each answer's rate, delays each request; every so many requests are answered with `status`, or reset
        (after so many bytes of the answer, when that is how they end). Without arguments: nothing any more."""
        order = {"rate": bytes_per_second, "delay": delay_s, "status": status, "every": every, "reset": reset}
        if not responds(f"{self.endpoint.endpoint}/-/orders?{urlencode(order)}"):
            raise ServerError("the proxy does not take orders")


@contextmanager
def proxy(directory: Path, behind: Endpoint) -> Iterator[Proxy]:
    """A proxy in front of a running server; its endpoint takes the same keys and bucket."""
    with _nginx(directory, _PROXY % {"upstream": behind.endpoint}, tls=False, workers=1) as (url, _):
        if not responds(url):
            raise ServerError(f"nothing answers behind the proxy at {url}")
        yield Proxy(dataclasses.replace(behind, name=f"{behind.name}-proxied", endpoint=url))
