"""Kills a trainer whose storage is an object store: at random instants, and at chosen requests of the faulty server.

The judge reads the store with another client, object by object, and compares every byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge import Verdict, judge
from killing import Kill, Outcome, Scenario, Workshop, kill_in
from servers import Endpoint
from servers.faulty import Action, FaultyS3

# What may lie in a run on a store, directly and in its own folder, while nothing is going on.
RUN_FILES = {"checkpoint_manager_snapshot.json", "result.json", "progress.csv", "params.json"}
OWN_FILES = {"run.json", "epochs", "names", "metrics", "index.json", "decisions", "claims", "probe"}


@dataclass
class StoreWorkshop(Workshop):
    """A run in a bucket, and a directory for the trainer's own files."""

    endpoint: Endpoint
    prefix: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.storage = self.endpoint.url(self.prefix)
        self.run = self.directory / "mirror"
        self.address = self.endpoint.url(f"{self.prefix}/run")
        # The judge's readers find their credentials there as well.
        os.environ.update(self.endpoint.environment())

    def judge(self, *, after_open: bool) -> Verdict:
        self.mirror()
        keep, failing = self.scenario.keep, after_open and bool(self.scenario.faults)
        return judge(
            self.run, self.journal(), keep=keep, after_open=after_open, failing=failing, address=self.address
        )  # fmt: skip

    def mirror(self) -> None:
        """A copy of all objects of the run, by another client."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir()
        prefix = f"{self.prefix}/run/"

        def fetch(key: str) -> None:
            target = self.run / key.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.endpoint.read(key))

        # Made here: the client is not ready for two threads while it is made.
        keys = list(self.endpoint.objects(prefix))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fetch, keys))
        for manifest in self.run.glob("*/.raystorage/manifest.json"):
            _dress(manifest.parent.parent, json.loads(manifest.read_text()))

    def leftovers(self) -> list[str]:
        """Parts that nobody will complete, and objects and staged files that belong to nothing."""
        found = [f"open upload of {key}" for key, _ in self.endpoint.open_multiparts(f"{self.prefix}/")]
        committed = {entry.name for entry in self.run.iterdir() if entry.is_dir()}
        for entry in self.run.iterdir():
            if entry.name not in RUN_FILES | committed:
                found.append(entry.name)
        own = self.run / ".raystorage"
        found += [f".raystorage/{entry.name}" for entry in own.iterdir() if entry.name not in OWN_FILES]
        # A captured file that is there still, under whatever name.
        found += [str(path) for path in self.staging.rglob("model.bin")]
        return found


def _dress(directory: Path, manifest: dict[str, Any]) -> None:
    """What objects cannot be, and manifests tell: directories, links, modes. The bytes are the objects' own."""
    for entry in manifest["files"]:
        path = directory / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.get("kind") == "directory":
            path.mkdir(exist_ok=True)
        elif entry.get("kind") == "symlink":
            path.symlink_to(entry["target"])
        elif path.exists():
            path.chmod(int(entry["mode"], 8))


def duration_of(directory: Path, endpoint: Endpoint, scenario: Scenario) -> float:
    """How long the scenario's last launch takes when nobody kills it, once the store has warmed up."""
    took = []
    for turn in range(2):
        shop = StoreWorkshop(directory / str(turn), scenario, endpoint, f"kills/{directory.name}-{turn}")
        shop.directory.mkdir(parents=True)
        shop.prepare()
        begun = time.monotonic()
        status = shop.launch("", "train", *scenario.arguments).wait(120)
        if status != 0:
            raise AssertionError(f"{scenario.name}: ended with {status} without any fault: {shop.errors()}")
        took.append(time.monotonic() - begun)
    return min(took)


def kill_at_random(directory: Path, endpoint: Endpoint, kill: Kill, longest_s: float) -> Outcome:
    """One kill at a random instant, in a prefix of its own of a shared bucket."""
    directory.mkdir(parents=True)
    shop = StoreWorkshop(directory, kill.scenario, endpoint, f"kills/{directory.name}")

    def carry_out(shop: Workshop, kill: Kill, choice: random.Random) -> bool:
        process = shop.launch("", "train", *kill.scenario.arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(choice.uniform(0, longest_s))
        process.kill()
        return process.wait(120) == -signal.SIGKILL

    return kill_in(shop, kill, carry_out)


# ------------------------------------------------------------------ at chosen requests


@dataclass(frozen=True, order=True)
class Request:
    """A kind of request: the operation, and its key with everything that varies left out."""

    operation: str
    key: str

    @property
    def pattern(self) -> str:
        """For the script of the faulty server."""
        return re.sub(r"<[a-z]+>", "*", self.key)

    def __str__(self) -> str:
        return f"{self.operation} {self.key}"


# What becomes of the request during which the trainer dies.
MOMENTS = ("never arrives", "arrives late", "reply is lost")


def normalise(key: str) -> str:
    """A key with numbers and random parts replaced by names in angle brackets."""
    text = re.sub(r"\d+-\d+-[0-9a-f]{16}", "<attempt>", key)
    text = re.sub(r"checkpoint_\d+_\d+|step=\d+", "<name>", text)
    text = re.sub(r"(?<![a-z])[0-9a-f]{8,}", "<hex>", text)
    return re.sub(r"(?<![\w<])\d+|(?<=[-_.])\d+", "<number>", text)


def enumerate_requests(directory: Path, scenario: Scenario) -> Counter[Request]:
    """All kinds of requests that the scenario's last launch makes, with how often it makes them."""
    directory.mkdir(parents=True)
    with FaultyS3() as server:
        shop = StoreWorkshop(directory, scenario, server.endpoint, "kills")
        shop.prepare()
        server.log.clear()
        status = shop.launch("", "train", *scenario.arguments).wait(120)
        if status != 0:
            raise AssertionError(f"{scenario.name}: ended with {status} without any fault: {shop.errors()}")
        if server.refusals:
            raise AssertionError(f"{scenario.name}: refused: {server.refusals[:5]}")
        return Counter(Request(entry.operation, normalise(entry.key)) for entry in server.entries())


def request_kills(scenario: Scenario, requests: Counter[Request], seed: int) -> Iterator[tuple[Kill, Request, int]]:
    """One kill at each moment of each kind of request, at a random one of its occurrences."""
    choice = random.Random(seed)
    for request, count in sorted(requests.items()):
        for moment in MOMENTS:
            occurrence = choice.randint(1, max(1, count * 2 // 3))
            rule = f"{request}: {moment}"
            yield Kill(scenario, rule, f"{request.operation}", choice.randrange(1 << 30)), request, occurrence


def kill_at_request(directory: Path, kill: Kill, request: Request, occurrence: int) -> Outcome:
    """One kill while that request is under way."""
    directory.mkdir(parents=True)
    with FaultyS3() as server:
        shop = StoreWorkshop(directory, kill.scenario, server.endpoint, "kills")

        def carry_out(shop: Workshop, kill: Kill, choice: random.Random) -> bool:
            moment = kill.rule.rpartition(": ")[2]
            action = Action.HOLD_REPLY if moment == "reply is lost" else Action.HOLD
            server.fail(request.operation, action, key=request.pattern, skip=occurrence - 1)
            process = shop.launch("", "train", *kill.scenario.arguments)
            while not server.gate.wait_until_held(timeout_s=0.2):
                if process.poll() is not None:
                    break
            process.kill()
            status = process.wait(120)
            server.gate.release(refuse=moment != "arrives late")
            server.script.clear()
            server.settle()
            return status == -signal.SIGKILL

        outcome = kill_in(shop, kill, carry_out)
        outcome.problems += [f"refused by the server: {text}" for text in server.refusals]
    return outcome
