"""What a setting may be: read from text, checked at the start, and named by its setting when it is wrong."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from service.core.curves import curve_key


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _be_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        ip_network(network)
    return value


def _be_public_keys(value: tuple[str, ...]) -> tuple[str, ...]:
    for key in value:
        curve_key(key)
    return value


def _be_signed_on_a_day(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        date.fromisoformat(each.partition("=")[2])
    return value


def _strip_copied_whitespace(value: Any) -> Any:
    """A secret with a trailing newline never matches, and says so to nobody."""
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return ",".join(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _be_signing_secrets(value: SecretStr) -> SecretStr:
    if not all(re.fullmatch(r"whsec_\S{8,}", part) for part in value.get_secret_value().split(",") if part):
        raise ValueError("each must start with whsec_, and none may be cut off there")
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[CommaSeparated, AfterValidator(_be_networks)]
PublicKeys = Annotated[CommaSeparated, AfterValidator(_be_public_keys)]
SignedOn = Annotated[CommaSeparated, AfterValidator(_be_signed_on_a_day)]
"""name=2026-01-31, comma separated."""
Copied = Annotated[SecretStr, BeforeValidator(_strip_copied_whitespace)]
"""A secret that somebody copied from a page of Stripe or SendGrid."""
SigningSecrets = Annotated[Copied, AfterValidator(_be_signing_secrets)]
