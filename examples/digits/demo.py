"""`make demo`: trains, kills, resumes, and shows that nothing was lost. See examples/digits/train.py for the loop."""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import raystorage
from model import Model, load_data
from raystorage import Result

HERE = Path(__file__).parent
EPOCHS = 12
ON_TERMINAL = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, code: str) -> str:
    """The text in a style, on a terminal."""
    return f"\x1b[{code}m{text}\x1b[0m" if ON_TERMINAL else text


def heading(number: int, text: str) -> None:
    """The title of a part."""
    print(f"\n{styled(f'{number}. {text}', '1')}", flush=True)


def say(text: str) -> None:
    """A line of the demo itself."""
    print(f"   {text}".rstrip(), flush=True)


class Trainer:
    """A process that trains, as somebody would start it from a shell."""

    def __init__(self, storage: str, name: str, work: str, keep: int) -> None:
        """Starts it."""
        command = [sys.executable, str(HERE / "train.py"), "--storage", storage, "--name", name, "--work", work]
        command += ["--epochs", str(EPOCHS), "--keep", str(keep)]
        # One thread: with several the order of additions, and so the last bit of a sum, may change from run to run.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def follow(self, until: str | None = None) -> bool:
        """Shows what it prints, to the end or up to a line that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            say(styled("│ ", "2") + line.rstrip())
            if until is not None and line.startswith(until):
                return True
        return False

    def finish(self) -> None:
        """Waits for its end."""
        self.follow()
        if self.process.wait() != 0:
            sys.exit(f"the trainer ended with status {self.process.returncode}")

    def kill(self) -> None:
        """SIGKILL: no handler, no cleanup, no chance."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def reference_run(storage: str, name: str, work: str) -> float:
    """Trains without interruption. Returns how long an epoch takes."""
    trainer = Trainer(storage, name, work, keep=1)
    trainer.follow(until="epoch  0")
    begin = time.monotonic()
    trainer.finish()
    return (time.monotonic() - begin) / (EPOCHS - 1)


def killed_run(storage: str, name: str, work: str, epoch_s: float, seed: int) -> None:
    """Trains and kills the trainer at a random moment of a random epoch; then starts it again."""
    chance = random.Random(seed)
    last, moment = chance.randrange(3, EPOCHS - 3), chance.random()
    trainer = Trainer(storage, name, work, keep=3)
    if not trainer.follow(until=f"epoch {last:2}"):
        sys.exit("the trainer ended before it could be killed")
    time.sleep(moment * epoch_s)
    trainer.kill()
    say(styled(f"SIGKILL, {moment * epoch_s:.2f} s after report() of epoch {last} had returned", "1;31"))
    say("")
    trainer = Trainer(storage, name, work, keep=3)
    trainer.finish()


def is_uri(storage: str) -> bool:
    """Whether it is the address of an object store."""
    return "://" in storage


def below(storage: str, name: str) -> str:
    """A run's address: its name goes before the options of a URI."""
    place, question, options = storage.partition("?")
    return f"{place.rstrip('/')}/{name}{question}{options}"


def curve(result: Result) -> dict[int, list[dict[str, Any]]]:
    """The rows of metrics by training epoch: more than one where an epoch was trained again."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in result.metrics_history:
        rows.setdefault(row["epoch"], []).append(row)
    return rows


def bits(number: float) -> bytes:
    """A float's own bytes, for comparing to the bit."""
    return struct.pack("<d", number)


def compare(reference: Result, killed: Result) -> bool:
    """Prints both loss curves side by side, and says whether they are equal to the bit."""
    expected, found = curve(reference), curve(killed)
    equal = sorted(expected) == sorted(found) == list(range(EPOCHS))
    say(styled("epoch  never killed          killed and resumed    started  same bits", "1"))
    for epoch in range(EPOCHS):
        want = expected.get(epoch, [{}])[-1].get("loss", float("nan"))
        for row in found.get(epoch, []):
            same = bits(row["loss"]) == bits(want)
            equal = equal and same
            launch = "first" if row["raystorage_epoch"] == 1 else "again"
            say(f"{epoch:5}  {want!r:<20}  {row['loss']!r:<20}  {launch:<7}  {'yes' if same else 'NO'}")
    return equal


def show(path: str) -> None:
    """`raystorage show`."""
    say(styled(f"$ raystorage show {shlex.quote(path)}", "2"))
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "raystorage", "show", path], check=True)


def picture(image: Any) -> list[str]:
    """A digit as four lines of text: half blocks, two pixels each."""
    pixels = image.reshape(8, 8) > 0.5
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return ["".join(glyphs[bool(a), bool(b)] for a, b in zip(*pixels[y : y + 2], strict=True)) for y in range(0, 8, 2)]


def predict(result: Result, work: str) -> float:
    """Restores the best checkpoint and classifies digits that training never saw. Returns the accuracy."""
    best = result.get_best_checkpoint("validation/loss", "min")
    assert best is not None
    begin = time.perf_counter()
    directory = best.to_directory(Path(work, "restored"))
    took_ms = (time.perf_counter() - begin) * 1000
    name = best.path.partition("?")[0].rpartition("/")[2]
    say(f"best by validation/loss: {name}, restored and verified in {took_ms:.0f} ms")
    model = Model.load(directory)
    _, _, test = load_data()
    guesses = model.predict(test.images)
    accuracy = float((guesses == test.labels).mean())
    say(f"{len(guesses)} digits that it never saw: {styled(f'{accuracy:.1%} right', '1')}; the first eight:")
    say("")
    for lines in zip(*(picture(image) for image in test.images[:8]), strict=True):
        say("  ".join(lines))
    say("  ".join(f"   {guess}    " for guess in guesses[:8]))
    return accuracy


def main() -> None:
    """The demo."""
    parser = argparse.ArgumentParser(description="Train, kill, resume, compare, restore, predict.")
    parser.add_argument("storage", nargs="?", default="~/ray_results")
    parser.add_argument("--seed", type=int, default=287, help="of the moment of the kill")
    options = parser.parse_args()
    storage = options.storage if is_uri(options.storage) else str(Path(options.storage).expanduser().absolute())
    name = time.strftime("digits-%Y-%m-%d_%H-%M-%S")
    reference = f"{name}-reference"
    begin = time.monotonic()
    work = tempfile.mkdtemp(prefix="raystorage-demo-")
    try:
        print(f"raystorage {raystorage.__version__}: a training loop that survives. Runs lie below {storage}")
        heading(1, "A run that nobody kills")
        epoch_s = reference_run(storage, reference, work)
        heading(2, "The same loop, killed at a random moment, and started again")
        killed_run(storage, name, work, epoch_s, options.seed)
        heading(3, "The loss of every epoch, read from the metrics of both runs")
        results = [Result.from_path(below(storage, one)) for one in (reference, name)]
        equal = compare(*results)
        say(styled("equal to the last bit" if equal else "NOT EQUAL", "1;32" if equal else "1;31"))
        heading(4, "What is kept: the best three by validation/loss, and always the latest")
        show(results[1].path)
        heading(5, "Restore the best one and predict")
        accuracy = predict(results[1], work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    removing = "" if is_uri(storage) else ", or remove both runs"
    print(f"\nDone in {time.monotonic() - begin:.0f} s. Look around (here, in the clone){removing}:")
    paths = [shlex.quote(result.path) for result in results]
    for command in ("metrics", "verify"):
        say(f"PYTHONPATH=python {os.path.relpath(sys.executable)} -m raystorage {command} {paths[1]}")
    if not is_uri(storage):
        say(f"rm -r {' '.join(paths)}")
    if not equal or accuracy < 0.9:
        sys.exit("the demo failed")


if __name__ == "__main__":
    main()
