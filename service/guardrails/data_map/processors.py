"""Every other firm, or server, that data goes to: what for, which data, where, and under which agreement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import SecretStr

from service.core.settings import Settings
from service.guardrails.personal_data import CATEGORIES, PURPOSES


class Role(StrEnum):
    PROCESSOR = "processor"
    """Works for us, as agreed in writing (GDPR Art. 28)."""
    CONTROLLER = "controller"
    """Decides for itself; the person, or the law, is the reason why it hears of them."""
    CUSTOMERS = "the customer's"
    """Receives what the organization itself told us to send there."""


@dataclass(frozen=True, slots=True)
class Processor:
    name: str
    title: str
    role: Role
    purpose: str
    receives: tuple[str, ...]
    region: str
    transfer: str
    """What makes a transfer out of the EU lawful (GDPR Art. 44 to 49)."""
    settings: tuple[str, ...]
    """The settings that say where it is."""
    hosts: tuple[str, ...] = ()
    """Where it is while a setting is empty, and where it sends browsers."""

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES or set(self.receives) - set(CATEGORIES):
            raise ValueError(f"{self.name}: its purpose or something it receives is not declared in personal_data.py")
        if self.name in PROCESSORS:
            raise ValueError(f"{self.name} is declared twice")
        PROCESSORS[self.name] = self

    @property
    def needs_agreement(self) -> bool:
        return self.role is Role.PROCESSOR


PROCESSORS: dict[str, Processor] = {}
WITHIN = "none: chosen within the EU or a country with an adequacy decision"
AGREED = "as its agreement says: EU-US Data Privacy Framework, else standard contractual clauses"

Processor(
    "hosting", "The host of database and Redis", Role.PROCESSOR, "service", tuple(CATEGORIES),
    "where you rent it", WITHIN,
    ("database_url", "database_owner_url", "database_maintenance_url", "redis_url"),
)  # fmt: skip
Processor(
    "storage", "The object store (S3)", Role.PROCESSOR, "service",
    (
        "content", "name", "contact.email", "message", "external.identifier", "subject", "tenant", "device",
        "address", "pseudonym",
    ),
    "STORAGE_REGION", WITHIN, ("storage_url", "storage_endpoint"), ("*.amazonaws.com",),
)  # fmt: skip
Processor(
    "sendgrid", "Twilio SendGrid, when MAIL_THROUGH is sendgrid", Role.PROCESSOR, "service",
    ("contact.email", "name", "message"), "United States, or the EU with its EU address", AGREED,
    ("sendgrid_api_base",), ("api.sendgrid.com",),
)  # fmt: skip
Processor(
    "smtp", "The mail relay, when MAIL_THROUGH is smtp", Role.PROCESSOR, "service",
    ("contact.email", "name", "message"), "where you rent it", WITHIN, ("smtp_url",),
)  # fmt: skip
Processor(
    # An address is told only to find whom an erasure is about; what people type into its own pages, it asks itself.
    "stripe", "Stripe", Role.PROCESSOR, "billing", ("tenant", "content", "billing", "contact.email"),
    "Ireland and the United States", AGREED, ("stripe_api_base",),
    ("api.stripe.com", "checkout.stripe.com", "billing.stripe.com", "invoice.stripe.com", "pay.stripe.com"),
)  # fmt: skip
Processor(
    "identity", "The provider somebody logs in with (OpenID Connect)", Role.CONTROLLER, "security",
    ("external.identifier", "contact.email", "name"), "the provider's", "the person's own choice (GDPR Art. 49(1)(b))",
    ("oidc_issuer",),
)  # fmt: skip
Processor(
    "scanner", "The virus scanner (clamd), a server of your own", Role.PROCESSOR, "security", ("content",),
    "where you run it", WITHIN, ("scanner_url",),
)  # fmt: skip
Processor(
    "sources", "Business APIs that indicators are fed from: Frankfurter, GitHub, Plausible", Role.CUSTOMERS, "service",
    ("content", "credentials"), "each API's own", "none of it is about a person; the organization chose what is asked",
    ("rates_api_base", "github_api_base", "plausible_api_base"),
)  # fmt: skip
Processor(
    "webhooks", "Addresses that an organization gave us to be told at", Role.CUSTOMERS, "service",
    ("content", "operations", "tenant"), "the customer's own", "the organization's instruction (GDPR Art. 28(3)(a))",
    ("webhook_sandbox_hosts",), ("*",),
)  # fmt: skip
Processor(
    "telemetry", "The collector of traces (OTLP)", Role.PROCESSOR, "security", ("operations",), "where you run it",
    WITHIN, ("otlp_endpoint",),
)  # fmt: skip


def outbound_hosts(settings: Settings) -> dict[str, frozenset[str]]:
    """Where each processor is reached with these settings; `*` stands for whatever a customer chose."""
    return {name: frozenset(_hosts(processor, settings)) for name, processor in PROCESSORS.items()}


def _hosts(processor: Processor, settings: Settings) -> set[str]:
    told: set[str] = set()
    # Further regions name stores and mail pools of their own, under the same names.
    for name, where in (
        (name, where) for name in processor.settings for where in (settings, *settings.regions.values())
    ):
        value = getattr(where, name, "")
        value = value.get_secret_value() if isinstance(value, SecretStr) else value
        told |= {host_of(each) for each in (value if isinstance(value, tuple) else (value,)) if host_of(each)}
    return told or set(processor.hosts)


def host_of(address: str) -> str:
    """The host in an address; empty for a directory and for nothing."""
    if address.startswith(("file:", "s3:")):
        return ""
    parts = urlsplit(address if "//" in address else f"//{address}" if ":" in address else "")
    return parts.hostname or ""


def agreements(said: tuple[str, ...]) -> dict[str, date]:
    """When the agreement with each processor was signed, from PROCESSOR_AGREEMENTS or PROCESSOR_BAAS."""
    found = (each.partition("=") for each in said)
    return {name: date.fromisoformat(day) for name, _, day in found}
