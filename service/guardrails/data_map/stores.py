"""Everything that holds data and is not a column: what is in it, for how long, and what an erasure does about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.guardrails.personal_data import CATEGORIES, LAW, PURPOSES, Basis, Erasure, Residency


class Kind(StrEnum):
    REDIS = "redis"
    """`name` is the word after the namespace: ballast:NAME:..."""
    OBJECTS = "objects"
    """`name` is the first part of the key in the object store."""
    COOKIE = "cookie"
    TABLE = "table"
    """Tables of a library, which no model describes."""
    STREAM = "stream"
    """What leaves the service line by line: logs, traces, metrics."""
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Store:
    kind: Kind
    name: str
    holds: str
    categories: tuple[str, ...]
    purpose: str
    retention: str
    erasure: Erasure
    how: str
    """What erasing a person does here, or the reason why it does nothing."""
    withheld: str = ""
    """Why a personal export leaves it out; empty: it is in there."""
    residency: Residency = Residency.GLOBAL

    def __post_init__(self) -> None:
        if unknown := set(self.categories) - set(CATEGORIES):
            raise ValueError(f"{self.name}: {unknown} are not in CATEGORIES")
        if self.erasure is Erasure.KEEP and not LAW.search(self.how):
            raise ValueError(f"{self.name} outlives its person and cites no law")
        if (self.kind, self.name) in STORES:
            raise ValueError(f"the {self.kind} {self.name!r} is declared twice")
        STORES[self.kind, self.name] = self

    @property
    def is_personal(self) -> bool:
        return any(CATEGORIES[one].is_personal for one in self.categories)

    @property
    def basis(self) -> Basis:
        return PURPOSES[self.purpose].basis if self.is_personal else Basis.NONE


STORES: dict[tuple[Kind, str], Store] = {}


def of_kind(kind: Kind) -> dict[str, Store]:
    return {name: store for (each, name), store in STORES.items() if each is kind}


NO_COPY = "passing state of the service; what it is about is in the tables"
IN_BROWSER = "in the person's own browser"
BY_ITSELF = "ends by itself within the time it is kept"


def passing(
    kind: Kind,
    name: str,
    holds: str,
    categories: tuple[str, ...],
    purpose: str,
    retention: str,
    withheld: str = NO_COPY,
) -> None:
    """What an erasure need not touch, because it is over so soon."""
    Store(kind, name, holds, categories, purpose, retention, Erasure.DELETE, BY_ITSELF, withheld)


def about_nobody(kind: Kind, name: str, holds: str, purpose: str, retention: str) -> None:
    how = "about nobody (GDPR recital 26)"
    Store(kind, name, holds, ("operations",), purpose, retention, Erasure.KEEP, how, NO_COPY)


# Redis: all under REDIS_NAMESPACE.
Store(
    Kind.REDIS, "s", "a session: whose, since when, by which proofs, browser in two words, network of the address",
    ("subject", "tenant", "device", "address"), "security", "30 minutes idle, 12 hours in all; 30 days when remembered",
    Erasure.DELETE, "all sessions of the person are ended",
)  # fmt: skip
Store(
    Kind.REDIS, "us", "which sessions a person has", ("subject",), "security", "as long as the newest of them",
    Erasure.DELETE, "emptied with the sessions", withheld=NO_COPY,
)  # fmt: skip
Store(
    Kind.REDIS, "active", "how many sessions there are: their keys, by when they end", ("operations",), "security",
    "until each ends", Erasure.DELETE, "emptied with the sessions", withheld=NO_COPY,
)  # fmt: skip
passing(
    Kind.REDIS, "p", "half a login: that the password was right, what another provider said",
    ("subject", "contact.email", "name", "external.identifier"), "security", "10 minutes",
)  # fmt: skip
passing(
    Kind.REDIS, "l", "rate limits: how much was asked lately, by person, organization, whole address or hashed e-mail",
    ("subject", "tenant", "address", "pseudonym"), "security", "the window of the limit, a day at most",
)  # fmt: skip
passing(Kind.REDIS, "rate", "the API rate of an organization's plan", ("tenant",), "service", "7 days")
passing(Kind.REDIS, "key", "whose an API key is, by a keyed hash of it", ("tenant", "pseudonym"), "service", "7 days")
passing(
    Kind.REDIS, "why", "why staff see somebody's personal data, as they typed it", ("subject", "content"), "security",
    "15 minutes",
)  # fmt: skip
passing(Kind.REDIS, "process", "what a process runs, what its breakers say", ("operations",), "service", "30 seconds")
passing(Kind.REDIS, "processes", "which processes live", ("operations",), "service", "30 seconds")

# The object store.
Store(
    Kind.OBJECTS, "t", "files that people uploaded into their organization's workspace, under its number",
    ("content", "tenant"), "service", "30 days after the file was deleted", Erasure.KEEP,
    "the organization's record (GDPR Art. 28); it can delete the file",
    withheld="the organization's; its owners export it", residency=Residency.TENANT_REGION,
)  # fmt: skip
Store(
    Kind.OBJECTS, "imports", "uploaded tables of readings, while they are read", ("content",), "service",
    "until the import has ended", Erasure.KEEP, "the organization's record (GDPR Art. 28); gone within hours",
    withheld="the organization's; what was read from it is in its export", residency=Residency.TENANT_REGION,
)  # fmt: skip

Store(
    Kind.OBJECTS, "erasures", "who was erased: a random number and a keyed hash of the address",
    ("subject", "pseudonym"), "erasure", "100 days: longer than any backup is kept", Erasure.KEEP,
    "a restored backup must not bring the person back (GDPR Art. 17, 32)", withheld="nobody is left to ask",
)  # fmt: skip
Store(
    Kind.OBJECTS, "exports", "copies of a person's or an organization's data that they asked for",
    ("content", "name", "contact.email", "message", "external.identifier", "subject", "device", "address"), "service",
    "24 hours", Erasure.DELETE, "all copies that the person asked for are removed",
    withheld="a copy of what the tables hold", residency=Residency.TENANT_REGION,
)  # fmt: skip

# Cookies, each with the prefix __Host- over https.
Store(
    Kind.COOKIE, "sid", "a random number that opens the session", ("credentials",), "security",
    "until the browser closes; 30 days when remembered", Erasure.DELETE, "opens nothing any more",
    withheld="it opens a door",
)  # fmt: skip
Store(
    Kind.COOKIE, "device", "that this browser has logged in to an account, as a keyed hash", ("pseudonym",), "security",
    "180 days", Erasure.DELETE, "in the person's own browser; stands for nobody once the account is gone",
    IN_BROWSER,
)  # fmt: skip
Store(
    Kind.COOKIE, "csrf", "a random number for forms before a login", ("operations",), "security",
    "until the browser closes", Erasure.DELETE, IN_BROWSER, IN_BROWSER,
)  # fmt: skip
passing(Kind.COOKIE, "flash", "sentences that the next page shows", ("message",), "service", "one minute", IN_BROWSER)
passing(
    Kind.COOKIE, "second-factor", "a random number: half a login waits for its second factor", ("credentials",),
    "security", "10 minutes", IN_BROWSER,
)  # fmt: skip
passing(
    Kind.COOKIE, "provider", "a random number: on the way to or from another provider", ("credentials",), "security",
    "10 minutes", IN_BROWSER,
)  # fmt: skip
passing(
    Kind.COOKIE, "visit", "until when our staff is in this account, signed; for the page that says it is over",
    ("operations",), "security", "15 minutes", withheld="in the staff's own browser",
)  # fmt: skip

# Tables that come with a library.
passing(
    Kind.TABLE, "pgqueuer", "jobs that wait: their name, ids as arguments, who set them in motion",
    ("operations", "subject", "tenant"), "service", "until done; one that failed for good 90 days",
)  # fmt: skip
passing(Kind.TABLE, "pgqueuer_log", "which job took which step when", ("operations",), "service", "7 days")
about_nobody(Kind.TABLE, "pgqueuer_statistics", "how many jobs of a kind took how long", "service", "90 days")
about_nobody(Kind.TABLE, "pgqueuer_schedules", "when what runs by the clock ran last", "service", "overwritten")
about_nobody(Kind.TABLE, "alembic_version", "which schema this is", "service", "overwritten")

# What leaves line by line.
Store(
    Kind.STREAM, "logs", "one line per request and event; people and organizations as random numbers; nothing that a "
    "column classifies as personal, content or secret", ("operations", "subject", "tenant"), "security",
    "30 days, set where logs are collected", Erasure.KEEP,
    "random numbers that stand for nobody once the account is gone (GDPR recital 26)", withheld=NO_COPY,
)  # fmt: skip
about_nobody(
    Kind.STREAM, "traces", "names and times of steps; statements without their values", "security",
    "7 days, set where traces are collected",
)  # fmt: skip
about_nobody(
    Kind.STREAM, "metrics", "counts and times by route, job and policy", "security",
    "15 days, set where metrics are collected",
)  # fmt: skip

# Copies.
Store(
    Kind.COPY, "backups", "all tables and objects", tuple(CATEGORIES), "security", "35 days", Erasure.KEEP,
    "not rewritten; whoever was erased is erased again after a restore, before anybody is served (GDPR Art. 17, 32)",
    withheld="a copy of what the tables hold",
)  # fmt: skip

LOG_FIELDS: dict[str, str] = dict.fromkeys(
    (
        "alarm", "attempt", "check", "column", "count", "customer", "dead", "delivery", "details", "drift",
        "duration_ms", "error", "event", "event_id", "examples", "exception", "export", "file", "import_id",
        "invariant", "jobs", "kind",
        "level", "livemode", "logger", "measure", "message", "message_id", "method", "ms", "number", "operation",
        "outcome", "pause_seconds", "people", "problem",
        "purpose", "request_id", "route", "rows", "seal", "sentence", "settled", "source",
        "state", "status", "stream", "system", "table", "task", "template", "timestamp", "trace_id", "under", "waiting",
        "where", "why", "worker", "written",
    ),
    "operations",
) | {"actor": "subject", "organization": "tenant", "action": "operations"}  # fmt: skip
"""Every word that a line of the log may have, and what stands behind it: never more than ids, counts and sentences."""
