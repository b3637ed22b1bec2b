"""Every column says what it holds, why, and what erasing a person does to it: logs, audit, export and erasure read it.

Protects from: personal data that nobody remembered (GDPR Art. 15, 17, 30), secrets in logs. How to use:
`mapped_column(..., info=personal("contact.email"))`, `content()`, `internal()` or `secret()`. A word of CATEGORIES says
what it is, one of PURPOSES why we have it, and with that on which lawful basis; a value that outlives its person names
the law or the reason (`because=`), one that an export leaves out says why (`withheld=`). What is not a column is in
guardrails.data_map, how a row reaches its person in guardrails.subjects. Limits: it classifies columns; what a customer
types into a free text field is `content()`, the organization's, and treated as if it could be personal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, MetaData

from service.core import logging


class Protection(StrEnum):
    INTERNAL = "internal"  # ids, states, times: may be logged and audited in clear
    CONTENT = "content"  # what a tenant wrote: belongs to the tenant, never logged, audited in clear for its owner
    PERSONAL = "personal"  # identifies a person: never logged, audited as changed
    SECRET = "secret"  # opens a door: never logged, audited, exported


class Erasure(StrEnum):
    DELETE = "delete"  # the row goes
    NULL = "null"  # the value goes
    PSEUDONYMIZE = "pseudonymize"  # replaced by a random token
    KEEP = "keep"  # kept for a reason that is stated


class Basis(StrEnum):
    """Why we may (GDPR Art. 6(1)); NONE is for what says nothing about a person."""

    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    LEGITIMATE_INTEREST = "legitimate_interest"
    CONSENT = "consent"
    NONE = "none"


class Residency(StrEnum):
    TENANT_REGION = "tenant-region"  # where the organization chose to be
    GLOBAL = "global"  # where the service itself is: a person may belong to organizations of several regions


@dataclass(frozen=True, slots=True)
class Purpose:
    basis: Basis
    sentence: str


PURPOSES: dict[str, Purpose] = {
    "service": Purpose(Basis.CONTRACT, "to give you the product you signed up for"),
    "security": Purpose(Basis.LEGITIMATE_INTEREST, "to keep accounts safe and to find out afterwards what happened"),
    "billing": Purpose(Basis.CONTRACT, "to sell plans and to take payments for them"),
    "erasure": Purpose(Basis.LEGAL_OBLIGATION, "to erase whoever asked for it, and to show that we did (GDPR Art. 17)"),
    "objection": Purpose(Basis.LEGAL_OBLIGATION, "to go on honouring a wish not to be written to (GDPR Art. 21(3))"),
}
"""Every purpose with its basis. One with consent as its basis is processed only after guardrails asked for it."""


@dataclass(frozen=True, slots=True)
class Category:
    """`key` in the words of the Fides taxonomy; a sensitive one (GDPR Art. 9, 10) needs an impact assessment."""

    key: str
    meaning: str
    sensitive: bool = False

    @property
    def is_personal(self) -> bool:
        return self.key.startswith("user.")


CATEGORIES: dict[str, Category] = {
    "operations": Category("system.operations", "ids, states, counts and times of the service's own work"),
    "tenant": Category("tenant.id", "which organization a row belongs to"),
    "content": Category("tenant.content", "what people wrote into their organization's workspace"),
    "history": Category("tenant.content.history", "what a record was before and after a change"),
    "billing": Category("tenant.financial", "what an organization bought and paid"),
    "subject": Category("user.unique_id", "the random number that stands for a person"),
    "pseudonym": Category("user.unique_id.pseudonymous", "a keyed hash of an address, which nobody can turn back"),
    "name": Category("user.name", "a person's name"),
    "contact.email": Category("user.contact.email", "an e-mail address"),
    "external.identifier": Category("user.unique_id.external", "what another provider calls the person"),
    "message": Category("user.content.message", "a message to or about a person"),
    "credentials": Category("user.authorization.credentials", "what proves who somebody is: hashes, sealed secrets"),
    "device": Category("user.device", "browser and system, in two words"),
    "address": Category(
        "user.device.ip_address", "the network an address is in; the whole address only while a rate limit counts it"
    ),
}
"""What a column may hold, by the short word that models use."""

LAW = re.compile(r"\b(Art\. ?|recital |CFR |PCI DSS )\d|§ ?\d")
"""What outlives its person cites a law or a standard, not only a wish of ours."""
NAMES_NOBODY = "a random number that stands for nobody once the account is gone (GDPR recital 26)"
TENANTS_OWN = "the organization's record, which we hold on its behalf (GDPR Art. 28); its author is a random number"


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a column holds, why we have it and what erasing its subject does to it."""

    protection: Protection
    category: str
    purpose: str
    erasure: Erasure
    because: str = ""
    withheld: str = ""
    residency: Residency | None = None

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES or self.purpose not in PURPOSES:
            raise ValueError(f"{self.category!r} is not in CATEGORIES, or {self.purpose!r} not in PURPOSES")

    @property
    def export(self) -> bool:
        return not self.withheld

    @property
    def key(self) -> str:
        return CATEGORIES[self.category].key

    @property
    def basis(self) -> Basis:
        return PURPOSES[self.purpose].basis if CATEGORIES[self.category].is_personal else Basis.NONE


def internal(
    category: str = "operations",
    *,
    purpose: str = "service",
    erasure: Erasure = Erasure.DELETE,
    because: str = "",
    withheld: str = "",
) -> dict[str, Any]:
    return {"privacy": Privacy(Protection.INTERNAL, category, purpose, erasure, because, withheld)}


def author() -> dict[str, Any]:
    """Whoever made an organization's row: a key to their account that empties itself (ON DELETE SET NULL)."""
    return internal("subject", erasure=Erasure.NULL)


def pointer() -> dict[str, Any]:
    """Whoever did something to a row, without a key to their account: the row, and this, outlive it."""
    return internal("subject", erasure=Erasure.KEEP, because=NAMES_NOBODY)


def content(category: str = "content") -> dict[str, Any]:
    return {"privacy": Privacy(Protection.CONTENT, category, "service", Erasure.KEEP, TENANTS_OWN)}


def personal(
    category: str,
    *,
    purpose: str = "service",
    erasure: Erasure = Erasure.DELETE,
    because: str = "",
    withheld: str = "",
) -> dict[str, Any]:
    return {"privacy": Privacy(Protection.PERSONAL, category, purpose, erasure, because, withheld)}


def secret(category: str = "credentials") -> dict[str, Any]:
    withheld = "it opens a door: no copy leaves the service"
    return {"privacy": Privacy(Protection.SECRET, category, "security", Erasure.DELETE, withheld=withheld)}


def privacy_of(column: Column[Any]) -> Privacy | None:
    found: Privacy | None = column.info.get("privacy")
    return found


def protection_of(column: Column[Any]) -> Protection:
    """An unclassified column counts as secret until somebody says otherwise (a test names it)."""
    privacy = privacy_of(column)
    return privacy.protection if privacy else Protection.SECRET


def residency_of(column: Column[Any]) -> Residency:
    """A tenant's row stays where its organization is; what belongs to a person or to nobody is where the service is."""
    privacy = privacy_of(column)
    if privacy is not None and privacy.residency is not None:
        return privacy.residency
    return Residency.TENANT_REGION if "organization_id" in column.table.columns else Residency.GLOBAL


def hide_in_logs(metadata: MetaData) -> None:
    """Teach the logger every column name whose value may not be logged."""
    for table in metadata.tables.values():
        for column in table.columns:
            if protection_of(column) is not Protection.INTERNAL:
                logging.hidden_names.add(column.name)
