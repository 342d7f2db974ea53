#!/usr/bin/env python3
"""Holds the house rules that a compiler does not know: which layer may name which, and what no source may use.

    scripts/check-layers.py [ROOT]

Layers are the folders of Sources/StorageCore. A file may name the top-level types of its own layer and of those below.
Exits 1 and prints one line per violation; warnings (long files) do not fail.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

# From the bottom up. Checkpoint and Metrics stand side by side and do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("Support",),
    ("HTTP",),
    ("Auth",),
    ("Backends",),
    ("Transfer",),
    ("Checkpoint", "Metrics"),
    ("Run",),
    ("Report",),
)
MAX_LINES = 400

DECLARATION = re.compile(
    r"^(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private|final|indirect|nonisolated)\s+)*"
    r"(?:struct|class|enum|actor|protocol|typealias)\s+(\w+)",
    re.MULTILINE,
)
NESTED = re.compile(r"\b(?:struct|class|enum|actor|protocol|typealias|associatedtype)\s+(\w+)|<([^<>]*)>")
WORD = re.compile(r"\b[A-Z]\w*\b")


@dataclass(frozen=True)
class Rule:
    """A pattern that no code may contain, except in the files whose path starts with one of `allowed`."""

    pattern: re.Pattern[str]
    message: str
    allowed: tuple[str, ...] = ()


def rule(pattern: str, message: str, *allowed: str) -> Rule:
    return Rule(re.compile(pattern), message, allowed)


RULES = (
    rule(r"[\w)\]>]!(?!=)", "force unwrap, `try!`, `as!` or implicitly unwrapped type: it kills the trainer"),
    rule(r"(?<!\.)\b(?:fatalError|precondition|preconditionFailure|assertionFailure)\s*\(", "traps kill the trainer"),
    rule(r"\bimport\s+(?:Foundation|FoundationEssentials|Dispatch)\b", "no Foundation and no Dispatch"),
    rule(
        r"\bTask\s*(?:<[^>]*>)?\s*\{|\bTask\.(?:detached|sleep)\b",
        "tasks run on the Engine",
        "StorageCore/Support/Engine",
    ),
    rule(r"@_cdecl\b", "exports belong to StorageABI", "StorageABI/"),
    rule(
        r"\bUnmanaged\b",
        "Unmanaged belongs to StorageABI",
        "StorageABI/",
        "StorageCore/Support/Engine",
        "StorageCore/Support/WorkerPool",
        "StorageCore/HTTP/Curl",
    ),
    rule(r"\b(?:cs_)?curl_\w+|\bCURL\w*\b", "only HTTP touches curl", "StorageCore/HTTP/"),
    rule(
        r"(?<![.\w])(?:Glibc\.)?(?:pread|pwrite|fsync|fdatasync|ftruncate|lseek|renameat|linkat|symlinkat|unlinkat|mkdir(?:at)?"
        r"|rmdir|lstat|fstat(?:at)?|faccessat|readlink(?:at)?|realpath|f?chmod(?:at)?|utimensat|futimens|f?opendir|fdopendir"
        r"|readdir|closedir|waitpid)\s*\(|\bGlibc\.(?:read|write|close|rename|link|unlink|stat|statvfs|access)\s*\(",
        "forks wait for calls of the C library: use those of cscalls.h",
    ),
    rule(r"\b(?:print|debugPrint|NSLog)\s*\(", "a library does not print: use the log"),
)


@dataclass
class Source:
    """One Swift file with comments and string literals blanked out, line structure kept."""

    path: Path
    name: str
    layer: str | None
    code: str
    declares: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)

    def line_of(self, offset: int) -> int:
        return self.code.count("\n", 0, offset) + 1


def blank(text: str) -> str:
    """Replaces comments and string literals by spaces; what is interpolated into a string stays."""
    out: list[str] = []
    index, length = 0, len(text)
    # Each entry is a string literal that we are inside of: its closing delimiter and the parentheses open in it.
    strings: list[str] = []
    depths: list[int] = []
    while index < length:
        if strings and depths[-1] == 0:
            closing = strings[-1]
            hashes = closing.count("#")
            if text.startswith("\\" + "#" * hashes + "(", index):
                out.append(" " * (hashes + 1) + "(")
                index += hashes + 2
                depths[-1] = 1
            elif text.startswith(closing, index):
                out.append(" " * len(closing))
                index += len(closing)
                strings.pop()
                depths.pop()
            elif text[index] == "\\" and hashes == 0:
                out.append("  ")
                index += 2
            else:
                out.append(text[index] if text[index] == "\n" else " ")
                index += 1
            continue
        if text.startswith("//", index):
            end = text.find("\n", index)
            end = length if end == -1 else end
            out.append(" " * (end - index))
            index = end
        elif text.startswith("/*", index):
            end = text.find("*/", index)
            end = length if end == -1 else end + 2
            out.append(re.sub(r"[^\n]", " ", text[index:end]))
            index = end
        elif match := re.compile(r'(#*)("""|")').match(text, index):
            strings.append(match.group(2) + match.group(1))
            depths.append(0)
            out.append(" " * len(match.group(0)))
            index = match.end()
        elif match := re.compile(r"`[^`\n]*`").match(text, index):
            # A raw identifier: the name of a test may hold any character.
            out.append("_" * len(match.group(0)))
            index = match.end()
        else:
            if strings:
                depths[-1] += {"(": 1, ")": -1}.get(text[index], 0)
            out.append(text[index])
            index += 1
    return "".join(out)


def read(root: Path) -> list[Source]:
    sources = []
    for path in sorted((root / "Sources").rglob("*.swift")):
        name = path.relative_to(root / "Sources").as_posix()
        parts = name.split("/")
        layer = parts[1] if parts[0] == "StorageCore" and len(parts) > 2 else None
        source = Source(path, name, layer, blank(path.read_text(encoding="utf-8")))
        source.declares = set(DECLARATION.findall(source.code))
        for nested, generics in NESTED.findall(source.code):
            source.local.add(nested)
            source.local.update(re.findall(r"\b[A-Z]\w*\b(?=\s*(?::|,|$))", generics))
        sources.append(source)
    return sources


def check(root: Path) -> tuple[list[str], list[str]]:
    """Returns (violations, warnings)."""
    sources = read(root)
    height = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}
    owner: dict[str, set[str]] = {}
    for source in sources:
        for name in source.declares:
            if source.layer is not None:
                owner.setdefault(name, set()).add(source.layer)
    violations, warnings = [], []
    for source in sources:
        where = f"Sources/{source.name}"
        if source.name.startswith("StorageCore/") and source.layer not in height:
            violations.append(f"{where}:1: not in the folder of a layer: {', '.join(height)}")
        for item in RULES:
            if source.name.startswith(item.allowed or ("\0",)):
                continue
            for match in item.pattern.finditer(source.code):
                violations.append(f"{where}:{source.line_of(match.start())}: {match.group(0).strip()}: {item.message}")
        if source.layer in height:
            level = height[source.layer]
            seen: set[str] = set()
            for match in WORD.finditer(source.code):
                name = match.group(0)
                layers = owner.get(name, set())
                if name in seen or name in source.local or not layers:
                    continue
                if all(height.get(layer, -1) >= level and layer != source.layer for layer in layers):
                    seen.add(name)
                    violations.append(
                        f"{where}:{source.line_of(match.start())}: {source.layer} names {name} of {min(layers)}, "
                        "which is not below it"
                    )
        lines = source.code.count("\n")
        if lines > MAX_LINES:
            warnings.append(f"{where}: {lines} lines, more than {MAX_LINES}: one idea per file?")
    return violations, warnings


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    violations, warnings = check(root)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
