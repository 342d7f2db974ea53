"""Fixtures for pytest: a server is started once per session, when first asked for; each test has its own bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from servers.catalogue import start
from servers.endpoint import VARIABLE, Endpoint, from_json
from servers.faulty import FaultyS3


@pytest.fixture(scope="session")
def running_servers() -> Iterator[Callable[[str], Endpoint]]:
    """Starts a server by name unless it runs already: here, or around this process (`python -m servers run`)."""

    text = os.environ.get(VARIABLE, "")
    running = {endpoint.name: endpoint for endpoint in (from_json(text) if text else [])}
    with ExitStack() as stack:

        def get(name: str) -> Endpoint:
            if name not in running:
                running[name] = stack.enter_context(start(name))
            return running[name]

        yield get


@pytest.fixture
def store(running_servers: Callable[[str], Endpoint]) -> Callable[[str], Endpoint]:
    """`store("ceph")`: that server, with an empty bucket that only this test uses."""
    return lambda name: running_servers(name).with_bucket()


@pytest.fixture
def seaweedfs(store: Callable[[str], Endpoint]) -> Endpoint:
    """The default store."""
    return store("seaweedfs")


@pytest.fixture
def ceph(store: Callable[[str], Endpoint]) -> Endpoint:
    """The older kind of store."""
    return store("ceph")


@pytest.fixture
def faulty() -> Iterator[FaultyS3]:
    """Our own server, which fails as it is told; one for each test."""
    with FaultyS3() as server:
        yield server
