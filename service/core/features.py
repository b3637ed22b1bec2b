"""Finds the parts of the features by file name, so that adding a feature is one word in one list."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

FILE_NAMES = ("models", "schemas", "queries", "actions", "flows", "api", "pages", "jobs", "admin")
"""The only names a feature's files may have; a file that outgrows 300 lines becomes a package of the same name."""


def load(features: tuple[str, ...], file_name: str) -> list[tuple[str, ModuleType]]:
    """(feature, module) for each feature that has such a file, in the order of the list."""
    found = []
    for feature in features:
        dotted = f"service.features.{feature}.{file_name}"
        if find_spec(dotted) is not None:
            found.append((feature, import_module(dotted)))
    return found
