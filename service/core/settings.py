"""Every setting of the service in one typed, frozen place; production refuses insecure values by name.

`python -m service settings` prints this as `.env.example` (env_example.py); a test keeps the two equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.core.insecurities import SANDBOX_SENDGRID, SANDBOX_STRIPE, WORKER_EXTRA, insecurities
from service.core.regions import NAME, FurtherRegions, MailThrough, Place
from service.core.setting_types import CommaSeparated, Copied, Networks, PublicKeys, SignedOn, SigningSecrets

DEVELOPMENT_SECRET = "development-only-secret-change-me-please-0123456789"
MISSPELT = 0.885
"""How alike a name must be to count as a misspelt setting: above DATABASE_USER, below REDIS_URI."""


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Profile(StrEnum):
    NONE = "none"
    HIPAA = "hipaa"


class InsecureSettings(Exception):
    """Production was asked to start with values that are only fit for a laptop; names them, never shows them."""


class Settings(BaseSettings):
    """Read once at start from the environment (12-factor), then frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, env_nested_delimiter="__"
    )

    # Where we are
    environment: Environment = Field(Environment.DEVELOPMENT, description="development or production")
    base_url: str = Field("http://127.0.0.1:8000", description="Public address, used in mails and redirects")
    allowed_hosts: CommaSeparated = Field(
        ("127.0.0.1", "localhost"), description="Host names we answer to, comma separated; no wildcard in production"
    )
    trusted_proxies: Networks = Field(
        (), description="Networks (CIDR) whose X-Forwarded-For we believe, comma separated; empty trusts nobody"
    )
    debug: bool = Field(False, description="Readable console logs; refused in production")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    revision: str = Field("unknown", description="Which build this is; the image sets it from the commit")

    # PostgreSQL
    database_url: SecretStr = Field(
        SecretStr("postgresql://ballast_app:ballast_app@127.0.0.1:5433/ballast"),
        description="Role ballast_app: owns nothing, cannot bypass row-level security",
    )
    database_owner_url: SecretStr = Field(
        SecretStr("postgresql://ballast_owner:ballast_owner@127.0.0.1:5433/ballast"),
        description="Role ballast_owner: migrations only; give it to the migrate command, not to web or worker",
    )
    database_maintenance_url: SecretStr = Field(
        SecretStr("postgresql://ballast_maintenance:ballast_maintenance@127.0.0.1:5433/ballast"),
        description="Role ballast_maintenance: purge, sealing, invariants; give it to the worker, not to web",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections per process; nothing overflows")
    inbox_pool_size: int = Field(
        4, ge=1, le=50, description="Connections per process that only take in webhooks: nothing else can starve them"
    )
    database_pool_timeout_seconds: float = Field(2.0, gt=0, description="Wait for a connection, then answer 503")
    database_statement_timeout_ms: int = Field(5_000, ge=1, description="PostgreSQL ends a longer statement")
    database_lock_timeout_ms: int = Field(2_000, ge=1, description="PostgreSQL gives up waiting for a lock")
    database_idle_in_transaction_timeout_ms: int = Field(
        10_000, ge=1, description="PostgreSQL ends a session that holds a transaction open and idle"
    )
    database_processes: int = Field(
        4, ge=1, description="Web and worker processes that run at once, for the connection arithmetic"
    )
    database_max_connections: int = Field(100, ge=1, description="max_connections of the server")
    database_reserved_connections: int = Field(15, ge=1, description="Kept for people, migrations and backups")

    # Redis
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6380/0"), description="Sessions, limits")
    redis_timeout_ms: int = Field(250, ge=10, description="Connect and read timeout; a hung Redis costs this much")
    redis_namespace: str = Field("ballast", pattern=r"^[a-z0-9_-]+$", description="Prefix of every key")

    # Secrets
    secret_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Root of derived keys (sessions, cursors, tokens); another one ends them all; 32+ characters",
    )
    lookup_key: SecretStr = Field(
        SecretStr(""),
        description="Root of the hashes that things are found by for years: API keys, recovery codes, addresses that"
        " objected or were erased. Never change it. Empty is SECRET_KEY; an installation older than this setting puts"
        " here the SECRET_KEY that it has, before it changes that one; 32+ characters",
    )
    encryption_keys: SecretStr = Field(
        SecretStr(f"1:{DEVELOPMENT_SECRET}"),
        description="Keyring id:secret, comma separated, newest first; encrypts columns such as TOTP secrets",
    )
    audit_seal_key: SecretStr = Field(
        SecretStr(f"seal-{DEVELOPMENT_SECRET}"), description="Signs audit segments; for the worker only"
    )
    runbooks_url: str = Field(
        "", description="Where the pages of ops/runbooks can be read; the staff's pages link there"
    )
    metrics_token: SecretStr = Field(SecretStr("development-metrics"), description="Bearer token of /metrics")

    # Sessions
    session_idle_minutes: int = Field(30, ge=1, description="A session unused this long ends")
    session_absolute_hours: int = Field(12, ge=1, description="A session this old ends")
    session_remember_days: int = Field(14, ge=1, description="Idle limit when 'keep me signed in' was ticked")
    step_up_minutes: int = Field(10, ge=1, description="How long a password check counts for dangerous acts")

    # Requests
    rate_limit_scale: int = Field(1, ge=1, description="Multiplies every rate limit, for load tests; 1 in production")
    max_body_bytes: int = Field(1_048_576, ge=1_024, description="Larger bodies get 413")
    body_timeout_seconds: float = Field(15.0, gt=0, description="A body that takes longer gets 408")
    request_timeout_seconds: float = Field(30.0, gt=0, description="A request that takes longer gets 503")
    graceful_timeout_seconds: int = Field(20, ge=1, description="Time to finish what runs after SIGTERM")
    password_hash_concurrency: int = Field(2, ge=1, description="argon2 hashes at once; each takes 19 MiB")

    # Mail
    mail_through: MailThrough = Field(MailThrough.SMTP, description="Who carries our mail: smtp or sendgrid")
    mail_from: str = Field("Ballast <hello@ballast.example>", description="Sender of transactional mail")
    smtp_url: SecretStr = Field(SecretStr("smtp://127.0.0.1:1025"), description="smtp:// or smtps://, user:password@")
    sendgrid_api_key: Copied = Field(
        SecretStr(f"SG.{SANDBOX_SENDGRID}"), description="API key with the right to send mail and to mend suppressions"
    )
    sendgrid_api_base: str = Field(
        "",
        description="Where SendGrid's API is; empty is https://api.sendgrid.com, for the EU https://api.eu.sendgrid.com",
    )
    sendgrid_webhook_keys: PublicKeys = Field(
        (),
        description="Public keys of SendGrid's signed event webhook, comma separated; two during a change",
    )

    # Log in with another provider (OpenID Connect)
    oidc_name: str = Field("Demo ID", description="Label of the button")
    oidc_issuer: str = Field("", description="Issuer address; empty hides the button")
    oidc_client_id: str = Field("ballast", description="Client id at the provider")
    oidc_client_secret: SecretStr = Field(SecretStr("ballast-secret"), description="Client secret at the provider")

    # Billing (Stripe); production without a key sells nothing
    stripe_secret_key: Copied = Field(
        SecretStr(f"sk_test_{SANDBOX_STRIPE}"), description="Secret or restricted key of the account"
    )
    stripe_webhook_secrets: SigningSecrets = Field(
        SecretStr(f"whsec_{SANDBOX_STRIPE}_secret"),
        description="Signing secrets of the webhook endpoints, comma separated, newest first; two during a roll",
    )
    stripe_api_base: str = Field("", description="Where Stripe's API is; empty is https://api.stripe.com")
    stripe_livemode: bool = Field(False, description="Real money; must match the key, events of the other mode wait")
    stripe_tolerance_seconds: int = Field(
        300, ge=1, le=3600, description="How far a webhook's time may be from ours, into the past and the future"
    )
    grace_days: int = Field(7, ge=0, le=90, description="How long an unpaid renewal leaves a plan in place")

    # Files
    storage_url: str = Field("file:.ballast/files", description="file:/directory that all share, or s3://bucket/prefix")
    storage_endpoint: str = Field("", description="Address of an S3-compatible server; empty is Amazon's own")
    storage_region: str = Field("eu-central-1", description="Region of the bucket")
    storage_access_key: SecretStr = Field(SecretStr(""), description="Access key of the bucket; reading and writing it")
    storage_secret_key: SecretStr = Field(SecretStr(""), description="Its secret")

    # Residency: what is above (mail and files) is the home region's, and so is the database
    home_region: str = Field("eu", pattern=f"^{NAME.pattern}$", description="Name of the region of the settings above")
    regions: FurtherRegions = Field(
        {},
        description="Further regions that organizations may choose, each with its own store and mail pool:"
        " REGIONS__US__STORAGE_URL and so on, as for home; none is one region",
    )

    # Business APIs that indicators are fed from
    rates_api_base: str = Field("https://api.frankfurter.dev", description="Exchange rates (Frankfurter, API v1)")
    github_api_base: str = Field("https://api.github.com", description="Statistics of repositories (GitHub, REST)")
    plausible_api_base: str = Field("https://plausible.io", description="Web traffic (Plausible, Stats API v2)")
    scanner_url: str = Field("tcp://127.0.0.1:3310", description="clamd; none serves files that nobody scanned")

    # Webhooks that customers receive
    webhook_timeout_seconds: float = Field(10.0, gt=0, le=30, description="One attempt, name look-up included")
    webhook_sandbox_hosts: CommaSeparated = Field(
        (), description="Private hosts that webhooks may reach over http, comma separated; the sandbox's receiver"
    )

    # Who answers for personal data (the record of processing and the privacy notice name them)
    controller_name: str = Field("The operator of this service", description="Company that runs the service, with seat")
    privacy_contact: str = Field(
        "privacy@ballast.example", description="Address for questions about personal data; the protection officer's"
    )
    processor_agreements: SignedOn = Field(
        (),
        description="Processors (python -m service privacy record names them) with the day their agreement was signed: "
        "stripe=2026-01-31, comma separated",
    )

    compliance_profile: Profile = Field(
        Profile.NONE,
        description="none or hipaa: 15 minutes to automatic logoff, a second factor for everybody, reads recorded",
    )
    processor_baas: SignedOn = Field(
        (), description="hipaa: processors with the day of their business associate agreement, as above"
    )

    # Telemetry
    otlp_endpoint: str = Field("", description="OTLP/HTTP collector address; empty exports no spans")
    trace_sample_ratio: float = Field(0.1, ge=0, le=1, description="Share of requests traced")

    @model_validator(mode="after")
    def refuse_insecure_production(self) -> Settings:
        if not self.is_production:
            return self
        wrong = [(name, f"is no setting; {meant} was probably meant") for name, meant in misspelt(os.environ)]
        if problems := [*insecurities(self), *wrong]:
            lines = "\n".join(f"  {name}: {problem}" for name, problem in problems)
            raise InsecureSettings(f"production refuses to start with insecure settings:\n{lines}")
        return self

    @property
    def places(self) -> dict[str, Place]:
        """Each region with its store and its mail pool, home first."""
        return {self.home_region: self, **self.regions}

    @property
    def database_demand(self) -> int:
        """Connections at most: any of the processes may be a worker."""
        return self.database_processes * (self.database_pool_size + self.inbox_pool_size + WORKER_EXTRA)

    @property
    def is_production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def billing_enabled(self) -> bool:
        """Production that was given no key sells nothing, and then nothing about Stripe needs to be set."""
        return not self.is_production or "stripe_secret_key" in self.model_fields_set

    def root_key(self, *, lasting: bool) -> SecretStr:
        """What keys are derived from (core.crypto)."""
        return self.lookup_key if lasting and self.lookup_key.get_secret_value() else self.secret_key

    @property
    def cookies_are_secure(self) -> bool:
        return self.base_url.startswith("https://")

    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(network) for network in self.trusted_proxies)


def insist_on(settings: Settings, *names: str) -> None:
    """Raise InsecureSettings in production when a setting that only this command needs was left to its default."""
    missing = [name.upper() for name in names if name not in settings.model_fields_set]
    if settings.is_production and missing:
        raise InsecureSettings(f"production refuses to start this command without {', '.join(missing)}")


def misspelt(variables: Iterable[str]) -> list[tuple[str, str]]:
    """Variables that are no setting but look like one, each with the setting that was probably meant."""
    known = [name.upper() for name in Settings.model_fields]
    unknown = [name for name in variables if name.upper() not in known]
    near = [(name, get_close_matches(name.upper(), known, 1, MISSPELT)) for name in unknown]
    return [(name, found[0]) for name, found in near if found]


@lru_cache
def get_settings() -> Settings:
    """The process's settings; parsed once."""
    return Settings()
