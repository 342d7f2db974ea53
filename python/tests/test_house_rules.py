"""The checks of scripts/ find what they are there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


def check_layers(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / "Sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, SCRIPTS / "check-layers.py", root], capture_output=True, text=True)
    assert done.returncode == bool(done.stdout), done.stderr
    return done.stdout.splitlines()


def test_a_layer_may_name_the_layers_below(tmp_path: Path) -> None:
    files = {
        "StorageCore/Support/Low.swift": "struct Low {}\n",
        "StorageCore/Run/High.swift": "struct High { var low: Low }\n",
    }
    assert check_layers(tmp_path, files) == []


@pytest.mark.parametrize(
    ("low", "high"),
    [("Support", "Run"), ("Backends", "Transfer"), ("Checkpoint", "Metrics"), ("Metrics", "Checkpoint")],
)
def test_a_layer_may_not_name_one_above_or_beside(tmp_path: Path, low: str, high: str) -> None:
    files = {
        f"StorageCore/{high}/High.swift": "public final class High {}\n",
        f"StorageCore/{low}/Low.swift": '// High in a comment\nlet text = "High"\nstruct Low { var high: High }\n',
    }
    (line,) = check_layers(tmp_path, files)
    assert f"Sources/StorageCore/{low}/Low.swift:3: {low} names High of {high}" in line


@pytest.mark.parametrize(
    "code",
    [
        "let a = b!\n",
        "let a = try! b()\n",
        "let a = b as! C\n",
        'let a = "\\(b!)"\n',
        "var a: Int!\n",
        "precondition(a)\n",
        "fatalError()\n",
        "import Foundation\n",
        "internal import Dispatch\n",
        "Task { await a() }\n",
        "try await Task.sleep(for: .seconds(1))\n",
        "print(a)\n",
        '@_cdecl("raystorage_x")\n',
        "let a = Unmanaged.passRetained(b)\n",
        "curl_easy_init()\n",
    ],
)
def test_what_no_source_may_use_is_found(tmp_path: Path, code: str) -> None:
    assert len(check_layers(tmp_path, {"StorageCore/Run/Code.swift": code})) == 1


def test_what_looks_alike_is_not_taken_for_it(tmp_path: Path) -> None:
    code = (
        "if a != b, !c {}\n"
        "// try! in a comment, precondition(x)\n"
        'let text = "stop! precondition(x) \\" try! "\n'
        'let long = """\n  wait! import Foundation\n  """\n'
        'let raw = #"a "quoted!" word"#\n'
        "throw StorageError(.precondition, text)\n"
        "func `refuses this!`() {}\n"
    )
    assert check_layers(tmp_path, {"StorageCore/Run/Code.swift": code}) == []


def test_a_file_outside_the_layers_is_found(tmp_path: Path) -> None:
    (line,) = check_layers(tmp_path, {"StorageCore/Extras/Code.swift": "let a = 1\n"})
    assert "not in the folder of a layer" in line
