"""Puts the built library into the wheel and names the systems that it runs on."""

from __future__ import annotations

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Any Python 3, since ctypes loads the library; glibc 2.34, which scripts/build-library.sh checks.
TAG = "py3-none-manylinux_2_34_x86_64"


class LibraryHook(BuildHookInterface[Any]):
    """Takes build/libraystorage.so (or RAYSTORAGE_LIBRARY) as raystorage/lib/libraystorage.so, with the licences."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is packed; an editable install finds the library in the checkout."""
        if version == "editable":
            return
        checkout = os.path.dirname(self.root)
        build = os.path.join(checkout, "build")
        library = os.environ.get("RAYSTORAGE_LIBRARY") or os.path.join(build, "libraystorage.so")
        if not os.path.isfile(library):
            raise FileNotFoundError(f"{library} is missing: run `make lib` first")
        build_data["pure_python"] = False
        build_data["tag"] = TAG
        include = build_data["force_include"]
        include[library] = "raystorage/lib/libraystorage.so"
        include[os.path.join(checkout, "LICENSE")] = "raystorage/lib/LICENSE"
        for name in ("isa-l", "curl", "openssl", "expat"):
            include[os.path.join(build, "deps", "static", f"LICENSE.{name}")] = f"raystorage/lib/LICENSE.{name}"
