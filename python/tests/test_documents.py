"""The README and docs/ say what is there: the example runs as printed, links lead somewhere, names exist."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

import raystorage
from raystorage import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_shows_the_example_that_is_run() -> None:
    code = (ROOT / "examples" / "python" / "minimal.py").read_text().partition('"""\n\n')[2]
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_the_c_interface_exist(page: Path) -> None:
    header = (ROOT / "include" / "raystorage.h").read_text()
    declared = set(re.findall(r"\b(raystorage_\w+)\(", header)) | set(re.findall(r"\bRAYSTORAGE_\w+", header))
    of_rows, of_python = (
        {"raystorage_epoch", "raystorage_fence", "raystorage_index", "raystorage_run"},
        set(re.findall(r"RAYSTORAGE_\w+", environment())),
    )
    for name in re.findall(r"\b(?:raystorage|RAYSTORAGE)_\w+\b", page.read_text()):
        assert name in declared | of_rows | of_python, name


def environment() -> str:
    sources = (ROOT / "python" / "raystorage").glob("*.py")
    return "".join(source.read_text() for source in sources) + (ROOT / "scripts" / "build-library.sh").read_text()


def test_every_public_name_is_described() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text()
    missing = [name for name in raystorage.__all__ if not name.startswith("__") and name not in text]
    assert missing == ["Metrics", "StorageContext"]


def test_every_error_that_is_described_exists() -> None:
    for name in re.findall(r"`(\w+Error)`", (ROOT / "docs" / "python-api.md").read_text()):
        assert hasattr(raystorage, name) or name in dir(__import__("builtins")), name


def test_every_argument_of_a_run_is_described() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text()
    assert [name for name in raystorage.RunConfig.__dataclass_fields__ if f"`{name}`" not in text] == []


def test_every_command_is_described() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    (commands,) = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, parser in commands.choices.items():
        assert f"| `{name}" in text, name
        for option in (option for action in parser._actions for option in action.option_strings):
            assert option in text or option in ("-h", "--help", "-o", "--output"), f"{name} {option}"


def test_tests_that_are_named_exist() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    for name in re.findall(r"`(test_\w+\.py)`", page):
        assert (ROOT / "python" / "tests" / name).exists(), name
    for name in re.findall(r"`(\w+Tests)`", page):
        assert (ROOT / "Tests" / "StorageCoreTests" / f"{name}.swift").exists(), name


def test_every_test_that_a_rule_names_exists() -> None:
    """A rule without its test would be a sentence that nobody checks."""
    text = (ROOT / "docs" / "commit-rules.md").read_text()
    swift: dict[str, str] = {}
    for source in (ROOT / "Tests" / "StorageCoreTests").glob("*Tests.swift"):
        for suite in re.split(r"^(?=@Suite)", source.read_text(), flags=re.MULTILINE)[1:]:
            found = re.search(r"struct (\w+)", suite)
            assert found
            swift[found[1]] = suite
    python = {path.name: path.read_text() for path in (ROOT / "python" / "tests").glob("test_*.py")}
    rules = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| rule ")]
    assert len(rules) > 50
    for rule in rules:
        names = re.findall(r"`(\w+Tests): ([^`]+)`", rule)
        functions = re.findall(r"`(test_\w+\.py)::(\w+)`", rule)
        assert names or functions, f"no test: {rule}"
        for suite_name, sentence in names:
            assert f"func `{sentence}`" in swift.get(suite_name, ""), f"{suite_name}: {sentence}"
        for file, function in functions:
            assert f"def {function}(" in python.get(file, ""), f"{file}::{function}"
