"""What production refuses, setting by setting: each with the sentence that says how to mend it, never the value."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.core.regions import Place, store_address

if TYPE_CHECKING:
    from service.core.settings import Settings

Refuse = Callable[[bool, str, str], None]

SANDBOX_HOSTS = frozenset({"mail", "sendgrid", "oidc", "testserver"})
"""What the stand-ins are called in infra/compose.yaml, and the name that test clients use."""
MINIMUM_SECRET_LENGTH = 32
WORKER_EXTRA = 3
"""What a worker opens beside its pools: two connections as the maintenance role, one that listens."""
STRIPE = "https://api.stripe.com"
SANDBOX_STRIPE = "ballast_sandbox"
"""Part of the Stripe key and of the webhook secret that the stand-in knows."""
SENDGRID = ("https://api.sendgrid.com", "https://api.eu.sendgrid.com")
SANDBOX_SENDGRID = "ballast_sandbox"
"""Part of the SendGrid key that the stand-in knows, and what its signing key is made from."""
SANDBOX_SENDGRID_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6DaVDJqaFeEmP74h5FaPB9KVfIVzgOEeA3ds0giuQS+baUOG0DM0hdh71xtCUjBx1p6oT4AZhd24uHi8"
    "Onic+Q=="
)
"""The public half of it: known to everybody, so no production may believe it."""


def insecurities(settings: Settings) -> list[tuple[str, str]]:
    """Each setting that production refuses, with what to do about it; never the value."""
    problems: list[tuple[str, str]] = []

    def refuse(condition: bool, name: str, problem: str) -> None:
        if condition:
            problems.append((name, problem))

    for name in ("secret_key", "lookup_key", "encryption_keys", "audit_seal_key", "metrics_token"):
        if name == "audit_seal_key" and name not in settings.model_fields_set:
            continue  # web must not hold it: who can write the log must not be able to seal it
        value = getattr(settings, name).get_secret_value()
        if name == "lookup_key" and not value:
            refuse(
                True, name.upper(), "is not set: put the SECRET_KEY here that runs now; a new installation makes one"
            )
            continue
        refuse("development" in value, name.upper(), "is the development default; generate your own")
        refuse(len(value) < MINIMUM_SECRET_LENGTH, name.upper(), f"is shorter than {MINIMUM_SECRET_LENGTH} characters")
    refuse(settings.debug, "DEBUG", "must be off")
    refuse(not settings.base_url.startswith("https://"), "BASE_URL", "must start with https://")
    refuse(_points_here(settings.base_url), "BASE_URL", "points at this machine")
    refuse(any("*" in host for host in settings.allowed_hosts), "ALLOWED_HOSTS", "must not contain a wildcard")
    refuse(
        all(_is_here(host) for host in settings.allowed_hosts),
        "ALLOWED_HOSTS",
        "names only this machine; list the public names",
    )
    for name in ("database_url", "database_owner_url", "database_maintenance_url"):
        if name not in settings.model_fields_set:
            # Web has no use for the owner's and the maintenance role's passwords: leaving them out is right.
            refuse(name == "database_url", name.upper(), "is not set")
            continue
        url = getattr(settings, name).get_secret_value()
        refuse("sslmode=verify-full" not in url, name.upper(), "must ask for TLS with ?sslmode=verify-full")
        refuse(_points_here(url), name.upper(), "points at the sandbox on this machine")
    redis = settings.redis_url.get_secret_value()
    refuse(not redis.startswith("rediss://"), "REDIS_URL", "must use TLS (rediss://)")
    refuse(urlsplit(redis).password is None, "REDIS_URL", "must carry a password")
    refuse(_points_here(redis), "REDIS_URL", "points at the sandbox on this machine")
    known = settings.sendgrid_webhook_keys
    # Whatever carries the mail: the webhook answers as soon as there is a key.
    refuse(SANDBOX_SENDGRID_KEY in known, "SENDGRID_WEBHOOK_KEYS", "is the sandbox's, whose other half everybody has")
    through_sendgrid = any(place.mail_through == "sendgrid" for place in settings.places.values())
    refuse(
        through_sendgrid and not known,
        "SENDGRID_WEBHOOK_KEYS",
        "is empty: nobody would learn which addresses bounce or complain",
    )
    for region, place in settings.places.items():
        prefix = "" if place is settings else f"REGIONS__{region.upper()}__"
        _judge_mail(place, prefix, refuse)
        _judge_storage(place, prefix, refuse)
    _judge_regions(settings, refuse)
    if settings.oidc_issuer:
        refuse(not settings.oidc_issuer.startswith("https://"), "OIDC_ISSUER", "must start with https://")
        refuse(_points_here(settings.oidc_issuer), "OIDC_ISSUER", "points at the sandbox on this machine")
        refuse(
            settings.oidc_client_secret.get_secret_value() == "ballast-secret",
            "OIDC_CLIENT_SECRET",
            "is the sandbox's; use the provider's",
        )
    for name in ("rates_api_base", "github_api_base", "plausible_api_base"):
        url = getattr(settings, name)
        refuse(not url.startswith("https://"), name.upper(), "must start with https://: keys are sent there")
        refuse(_points_here(url), name.upper(), "points at the sandbox on this machine")
    refuse(settings.rate_limit_scale != 1, "RATE_LIMIT_SCALE", "must be 1: more lets guessing through")
    refuse("ballast.example" in settings.mail_from, "MAIL_FROM", "is the example sender")
    _judge_billing(settings, refuse)
    said = settings.model_fields_set
    refuse("scanner_url" not in said, "SCANNER_URL", "is not set; name a clamd, or say none: nobody scans files then")
    refuse(bool(settings.webhook_sandbox_hosts), "WEBHOOK_SANDBOX_HOSTS", "must be empty: it opens our own network")
    if settings.compliance_profile == "hipaa":
        _judge_hipaa(settings, refuse)
    demand = settings.database_demand
    room = settings.database_max_connections - settings.database_reserved_connections
    refuse(
        demand > room,
        "DATABASE_POOL_SIZE",
        f"processes x (pool + inbox + {WORKER_EXTRA}) = {demand} exceeds max_connections - reserve = {room};"
        " PostgreSQL would refuse connections",
    )
    return problems


def _judge_mail(place: Place, prefix: str, refuse: Refuse) -> None:
    """One carrier, chosen by name: what the other one needs is not asked for."""
    refuse("mail_through" not in place.model_fields_set, f"{prefix}MAIL_THROUGH", "is not set: say smtp or sendgrid")
    if place.mail_through == "smtp":
        url = place.smtp_url.get_secret_value()
        refuse(not url, f"{prefix}SMTP_URL", "is not set")
        refuse(_points_here(url), f"{prefix}SMTP_URL", "points at the sandbox on this machine")
        return
    key, base = place.sendgrid_api_key.get_secret_value(), place.sendgrid_api_base
    refuse(SANDBOX_SENDGRID in key, f"{prefix}SENDGRID_API_KEY", "is the sandbox's; use your account's")
    refuse(not key.startswith("SG."), f"{prefix}SENDGRID_API_KEY", "does not look like an API key (SG.)")
    allowed = SENDGRID if prefix else ("", *SENDGRID)
    refuse(base not in allowed, f"{prefix}SENDGRID_API_BASE", f"must be one of {', '.join(SENDGRID)}")


def _judge_hipaa(settings: Settings, refuse: Refuse) -> None:
    """In transit everything is encrypted, also what production lets pass on a network of one's own."""
    for region, place in settings.places.items():
        prefix, url = "" if place is settings else f"REGIONS__{region.upper()}__", place.smtp_url.get_secret_value()
        plain = place.mail_through == "smtp" and not url.startswith("smtps://")
        refuse(plain, f"{prefix}SMTP_URL", "must start with smtps:// in the hipaa profile")
    traces = settings.otlp_endpoint
    refuse(
        bool(traces) and not traces.startswith("https://"), "OTLP_ENDPOINT", "must start with https:// in that profile"
    )
    scanner = settings.scanner_url
    refuse(
        scanner.startswith("tcp:") and not _points_here(scanner),
        "SCANNER_URL",
        "must be on this machine in the hipaa profile: clamd has no TLS, and files would cross the network in clear",
    )


def _judge_billing(settings: Settings, refuse: Refuse) -> None:
    """A key that was left out means that nothing is sold; one that is there must be whole and fit its mode."""
    refuse(settings.stripe_api_base not in ("", STRIPE), "STRIPE_API_BASE", f"must be empty or {STRIPE}")
    if not settings.billing_enabled:
        return
    key, secrets = settings.stripe_secret_key.get_secret_value(), settings.stripe_webhook_secrets.get_secret_value()
    live = key.startswith(("sk_live_", "rk_live_"))
    known = live or key.startswith(("sk_test_", "rk_test_"))
    refuse(SANDBOX_STRIPE in key, "STRIPE_SECRET_KEY", "is the sandbox's; use your account's")
    refuse(
        not known, "STRIPE_SECRET_KEY", "does not look like a secret or restricted key (sk_live_, rk_live_, sk_test_)"
    )
    refuse(
        known and live != settings.stripe_livemode, "STRIPE_LIVEMODE", "does not match the mode of STRIPE_SECRET_KEY"
    )
    refuse(SANDBOX_STRIPE in secrets, "STRIPE_WEBHOOK_SECRETS", "is the sandbox's; use the endpoint's own")
    refuse(not secrets, "STRIPE_WEBHOOK_SECRETS", "is empty; nobody could tell Stripe's events from forged ones")


def _judge_storage(place: Place, prefix: str, refuse: Refuse) -> None:
    """A directory is a choice that must be said: a second machine, or a new container, would not see its files."""
    kind, _, path = place.storage_url.partition(":")
    unfit = "storage_url" not in place.model_fields_set or (kind == "file" and not path.startswith("/"))
    refuse(unfit, f"{prefix}STORAGE_URL", "must name a bucket (s3://...) or the whole path of a shared directory")
    endpoint, name = place.storage_endpoint, f"{prefix}STORAGE_ENDPOINT"
    refuse(bool(endpoint) and not endpoint.startswith("https://"), name, "must start with https://")
    refuse(bool(endpoint) and _points_here(endpoint), name, "points at this machine")
    if kind == "s3":
        refuse(
            not place.storage_region, f"{prefix}STORAGE_REGION", "is not set: it decides on which continent files lie"
        )
        for field in ("storage_access_key", "storage_secret_key"):
            refuse(not getattr(place, field).get_secret_value(), f"{prefix}{field.upper()}", "is not set")


def _judge_regions(settings: Settings, refuse: Refuse) -> None:
    """Two regions that share what should keep them apart are one region with two names."""
    refuse(
        settings.home_region in settings.regions, "REGIONS", "repeats the home region, whose settings have no prefix"
    )
    # The rows are at home: an EU organization's would be in America whatever its files did.
    refuse("eu" in settings.regions, "HOME_REGION", "must be eu when there is a region eu: the database is at home")
    directories: dict[object, str] = {}
    hosts: dict[str, str] = {}
    pools: dict[object, str] = {}
    for region, place in settings.places.items():
        prefix = "" if place is settings else f"REGIONS__{region.upper()}__"
        smtp = urlsplit(place.smtp_url.get_secret_value())
        pool = (smtp.hostname, smtp.port) if place.mail_through == "smtp" else place.sendgrid_api_base or SENDGRID[0]
        directory = place.storage_url if place.storage_url.startswith("file:") else region
        for what, taken, name in ((directory, directories, "STORAGE_URL"), (pool, pools, _pool_setting(place))):
            other = taken.setdefault(what, region)
            refuse(other != region, f"{prefix}{name}", f"is also what region {other} uses; each needs its own")
        host = (urlsplit(store_address(place)).hostname or "").rstrip(".")
        for known, other in hosts.items():
            # A redirect is followed to the store's own host and beneath it.
            near = bool(host) and (f".{host}".endswith(f".{known}") or f".{known}".endswith(f".{host}"))
            name = "STORAGE_ENDPOINT" if place.storage_endpoint else "STORAGE_REGION"
            refuse(near, f"{prefix}{name}", f"leads to the host of region {other}, or beneath it; each needs its own")
        if host:
            hosts[host] = region


def _pool_setting(place: Place) -> str:
    return "SMTP_URL" if place.mail_through == "smtp" else "SENDGRID_API_BASE"


def _points_here(url: str) -> bool:
    return _is_here(urlsplit(url).hostname or "")


def _is_here(host: str) -> bool:
    """This machine or its sandbox, under whatever name."""
    if host in SANDBOX_HOSTS or host.rpartition(".")[2] == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
