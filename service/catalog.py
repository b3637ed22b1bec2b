"""Knows every table: importing the models of the features and of the guard rails fills `Base.metadata`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sqlalchemy import MetaData

from service import guardrails
from service.core.database import Base
from service.core.features import load
from service.features import FEATURES
from service.guardrails.personal_data import hide_in_logs


def load_tables() -> MetaData:
    """The complete metadata; also teaches the logger which columns hold what must not be logged."""
    for module in iter_modules(guardrails.__path__):
        import_module(f"service.guardrails.{module.name}")
    load(FEATURES, "models")
    hide_in_logs(Base.metadata)
    return Base.metadata
