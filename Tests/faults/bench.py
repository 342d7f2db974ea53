"""Fixtures that the fault tests share; a plugin of pytest, see conftest.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line that is seen although the test passes: what a matrix came to."""

    def print_line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return print_line
