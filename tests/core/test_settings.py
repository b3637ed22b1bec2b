"""Settings: typed, frozen, and in production picky by name without ever showing a value."""

from __future__ import annotations

import base64
import inspect
import re
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from infra.sandbox.sendgrid import PUBLIC_KEY
from service.core import insecurities as rules
from service.core.insecurities import SANDBOX_HOSTS, SANDBOX_SENDGRID_KEY, insecurities
from service.core.settings import DEVELOPMENT_SECRET, Environment, InsecureSettings, Settings, misspelt
from service.doctor import examine

SECRET = "k" * 20 + "q" * 20
SAFE = {
    "environment": "production",
    "base_url": "https://app.acme.test",
    "allowed_hosts": "app.acme.test",
    "database_url": "postgresql://ballast_app:pw@db.acme.test/ballast?sslmode=verify-full",
    "redis_url": "rediss://:pw@redis.acme.test/0",
    "mail_through": "smtp",
    "smtp_url": "smtps://user:pw@mail.acme.test",
    "mail_from": "Acme <hello@acme.test>",
    "secret_key": SECRET,
    "lookup_key": SECRET + "l",
    "encryption_keys": f"1:{SECRET}",
    "audit_seal_key": SECRET + "s",
    "metrics_token": SECRET + "m",
    "stripe_secret_key": "sk_live_" + SECRET,
    "stripe_webhook_secrets": "whsec_" + SECRET,
    "stripe_livemode": True,
    "storage_url": "file:/srv/files",
    "scanner_url": "none",
}
CURVE_KEY = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()
SENDGRID: dict[str, object] = {
    "mail_through": "sendgrid",
    "sendgrid_api_key": f"SG.{SECRET}",
    "sendgrid_webhook_keys": CURVE_KEY,
}

US: dict[str, object] = {
    "storage_url": "s3://files-us",
    "storage_region": "us-east-1",
    "storage_access_key": SECRET,
    "storage_secret_key": SECRET,
    "mail_through": "smtp",
    "smtp_url": "smtps://user:pw@mail-us.acme.test",
}
"""A further region; tests/core/test_regions.py tries what each of its settings may be."""

KEYS: dict[str, object] = {"storage_access_key": SECRET, "storage_secret_key": SECRET}
TLS = "?sslmode=verify-full"
INSECURE: list[tuple[str, dict[str, object]]] = [
    ("SECRET_KEY", {"secret_key": DEVELOPMENT_SECRET}),
    ("SECRET_KEY", {"secret_key": SECRET[:31]}),
    ("LOOKUP_KEY", {"lookup_key": None}),
    ("LOOKUP_KEY", {"lookup_key": DEVELOPMENT_SECRET}),
    ("LOOKUP_KEY", {"lookup_key": SECRET[:31]}),
    ("ENCRYPTION_KEYS", {"encryption_keys": f"1:{DEVELOPMENT_SECRET}"}),
    ("ENCRYPTION_KEYS", {"encryption_keys": f"1:{SECRET[:29]}"}),
    ("AUDIT_SEAL_KEY", {"audit_seal_key": f"seal-{DEVELOPMENT_SECRET}"}),
    ("AUDIT_SEAL_KEY", {"audit_seal_key": SECRET[:31]}),
    ("METRICS_TOKEN", {"metrics_token": f"development-{SECRET}"}),
    ("METRICS_TOKEN", {"metrics_token": SECRET[:31]}),
    ("DEBUG", {"debug": True}),
    ("BASE_URL", {"base_url": "http://app.acme.test"}),
    ("BASE_URL", {"base_url": "https://127.0.0.1:8000"}),
    ("ALLOWED_HOSTS", {"allowed_hosts": "*.acme.test"}),
    ("ALLOWED_HOSTS", {"allowed_hosts": "127.0.0.1,[::1],localhost"}),
    ("ALLOWED_HOSTS", {"allowed_hosts": ","}),
    ("DATABASE_URL", {"database_url": "postgresql://ballast_app:pw@db.acme.test/ballast"}),
    ("DATABASE_URL", {"database_url": f"postgresql://ballast_app:pw@127.0.0.1:5433/ballast{TLS}"}),
    ("DATABASE_URL", {"database_url": None}),
    ("DATABASE_OWNER_URL", {"database_owner_url": "postgresql://o:pw@db.acme.test/ballast"}),
    ("DATABASE_OWNER_URL", {"database_owner_url": f"postgresql://o:pw@127.0.0.1/ballast{TLS}"}),
    ("DATABASE_MAINTENANCE_URL", {"database_maintenance_url": "postgresql://m:pw@db.acme.test/ballast"}),
    ("DATABASE_MAINTENANCE_URL", {"database_maintenance_url": f"postgresql://m:pw@localhost/ballast{TLS}"}),
    ("REDIS_URL", {"redis_url": "redis://:pw@redis.acme.test/0"}),
    ("REDIS_URL", {"redis_url": "rediss://redis.acme.test/0"}),
    ("REDIS_URL", {"redis_url": "rediss://:pw@[::1]:6380/0"}),
    ("SMTP_URL", {"smtp_url": "smtp://127.0.0.1:1025"}),
    ("SMTP_URL", {"smtp_url": "smtp://mail:1025"}),
    ("SMTP_URL", {"smtp_url": ""}),
    ("MAIL_THROUGH", {"mail_through": None}),
    ("SENDGRID_API_KEY", SENDGRID | {"sendgrid_api_key": "SG.ballast_sandbox"}),
    ("SENDGRID_API_KEY", SENDGRID | {"sendgrid_api_key": SECRET}),
    ("SENDGRID_API_BASE", SENDGRID | {"sendgrid_api_base": "http://127.0.0.1:8092"}),
    ("SENDGRID_WEBHOOK_KEYS", SENDGRID | {"sendgrid_webhook_keys": None}),
    ("SENDGRID_WEBHOOK_KEYS", SENDGRID | {"sendgrid_webhook_keys": f"{CURVE_KEY},{SANDBOX_SENDGRID_KEY}"}),
    # Its webhook answers whatever the carrier is.
    ("SENDGRID_WEBHOOK_KEYS", {"mail_through": "smtp", "sendgrid_webhook_keys": SANDBOX_SENDGRID_KEY}),
    ("MAIL_FROM", {"mail_from": "Ballast <hello@ballast.example>"}),
    ("OIDC_ISSUER", {"oidc_issuer": "http://id.acme.test", "oidc_client_secret": SECRET}),
    ("OIDC_ISSUER", {"oidc_issuer": "https://oidc.localhost:8090", "oidc_client_secret": SECRET}),
    ("OIDC_CLIENT_SECRET", {"oidc_issuer": "https://id.acme.test"}),
    ("DATABASE_POOL_SIZE", {"database_pool_size": 50, "database_processes": 10}),
    # 4 x (10 + 3) would fit into 85; the connections of the inbox do not.
    ("DATABASE_POOL_SIZE", {"inbox_pool_size": 9}),
    ("STRIPE_SECRET_KEY", {"stripe_secret_key": "sk_test_ballast_sandbox", "stripe_livemode": False}),
    ("STRIPE_SECRET_KEY", {"stripe_secret_key": "pk_live_" + SECRET}),
    ("STRIPE_LIVEMODE", {"stripe_livemode": False}),
    ("STRIPE_LIVEMODE", {"stripe_secret_key": "sk_test_" + SECRET}),
    ("STRIPE_LIVEMODE", {"stripe_secret_key": "rk_live_" + SECRET, "stripe_livemode": False}),
    ("STRIPE_WEBHOOK_SECRETS", {"stripe_webhook_secrets": None}),
    ("STRIPE_WEBHOOK_SECRETS", {"stripe_webhook_secrets": f"whsec_{SECRET},whsec_ballast_sandbox_secret"}),
    ("STRIPE_WEBHOOK_SECRETS", {"stripe_webhook_secrets": " , "}),
    ("STRIPE_API_BASE", {"stripe_api_base": "http://127.0.0.1:8030"}),
    ("STRIPE_API_BASE", {"stripe_api_base": "https://api.stripe.com.evil.test"}),
    ("STORAGE_URL", {"storage_url": None}),
    ("SCANNER_URL", {"scanner_url": None}),
    ("STORAGE_URL", {"storage_url": "file:files"}),
    ("STORAGE_ENDPOINT", {"storage_endpoint": "http://s3.acme.test"}),
    ("STORAGE_ENDPOINT", {"storage_endpoint": "https://127.0.0.1:9000"}),
    ("STORAGE_ACCESS_KEY", {"storage_url": "s3://files", "storage_secret_key": SECRET}),
    ("STORAGE_SECRET_KEY", {"storage_url": "s3://files", "storage_access_key": SECRET}),
    ("STORAGE_REGION", {"storage_url": "s3://files", "storage_region": "", **KEYS}),
    ("HOME_REGION", {"home_region": "us", "regions": {"eu": US}}),
    ("REGIONS", {"home_region": "us", "regions": {"us": US}}),
    ("OTLP_ENDPOINT", {"compliance_profile": "hipaa", "otlp_endpoint": "http://collector.acme.test:4318"}),
    ("SCANNER_URL", {"compliance_profile": "hipaa", "scanner_url": "tcp://clamd.acme.test:3310"}),
    ("SMTP_URL", {"compliance_profile": "hipaa", "smtp_url": "smtp://user:pw@mail.acme.test"}),
    ("RATES_API_BASE", {"rates_api_base": "http://rates.acme.test"}),
    ("GITHUB_API_BASE", {"github_api_base": "http://api.github.com"}),
    ("PLAUSIBLE_API_BASE", {"plausible_api_base": "https://127.0.0.1:8094"}),
    # 8 x 10 would fit into 85; what each process opens beside it does not.
    ("DATABASE_POOL_SIZE", {"database_processes": 8}),
    ("RATE_LIMIT_SCALE", {"rate_limit_scale": 1000}),
    ("WEBHOOK_SANDBOX_HOSTS", {"webhook_sandbox_hosts": "127.0.0.1"}),
]
HERE = [
    "127.0.0.2", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST", "app.localhost", "mail",
    "oidc", "oidc.localhost", "testserver",
]  # fmt: skip
PLATFORM = (
    "DATABASE_USER", "DATABASE_HOST", "DATABASE_PORT", "DATABASE_PRIVATE_URL", "REDIS_TLS_URL", "REDIS_PORT_6379_TCP",
    "REDIS_SERVICE_HOST", "SECRET_KEY_BASE", "MAIL_FROM_NAME", "SMTP_USER", "RUST_LOG_LEVEL", "NODE_ENV", "HOSTNAME",
    "PGSSLROOTCERT", "PORT", "VERSION", "BALLAST_APP_PASSWORD", "POSTGRES_PASSWORD", "OTEL_EXPORTER_OTLP_ENDPOINT",
)  # fmt: skip
"""What a platform, a shell or infra/compose.yaml sets beside ours."""


def make(monkeypatch: pytest.MonkeyPatch, **values: object) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    given = {name: value for name, value in {**SAFE, **values}.items() if value is not None}
    return Settings(**given)  # type: ignore[arg-type]


def test_safe_production_settings_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(monkeypatch).environment is Environment.PRODUCTION


@pytest.mark.parametrize(("name", "values"), INSECURE, ids=lambda value: value if isinstance(value, str) else "")
def test_production_refuses_each_insecure_value_by_name(
    name: str, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InsecureSettings) as refused:
        make(monkeypatch, **values)
    _, *problems = str(refused.value).splitlines()
    assert [line.partition(":")[0].strip() for line in problems] == [name], "for this reason and no other"
    for value in values.values():
        if isinstance(value, str) and len(value) > 8:
            assert value not in str(refused.value), "the message shows a value; it ends up in logs"


def test_the_stand_ins_key_is_the_one_that_production_refuses() -> None:
    assert PUBLIC_KEY == SANDBOX_SENDGRID_KEY


@pytest.mark.parametrize("key", ["no key", base64.b64encode(b"no key").decode(), CURVE_KEY[:-8]])
def test_what_is_no_public_key_is_refused_at_the_start(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="sendgrid_webhook_keys"):
        make(monkeypatch, **SENDGRID | {"sendgrid_webhook_keys": key})


def test_every_refusal_is_tried() -> None:
    """One case for each sentence that the code can say."""
    assert len(INSECURE) >= 44
    source = inspect.getsource(rules)
    assert {name for name, _ in INSECURE} >= set(re.findall(r'"(?:\{prefix\})?([A-Z_]{4,})"', source))


@pytest.mark.parametrize("host", HERE)
@pytest.mark.parametrize(
    ("name", "url"),
    [("redis_url", "rediss://:pw@{}:6379/0"), ("smtp_url", "smtps://{}"), ("base_url", "https://{}:8000")],
)
def test_production_knows_this_machine_and_the_sandbox_under_every_name(
    host: str, name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InsecureSettings, match=name.upper()):
        make(monkeypatch, **{name: url.format(host)})


def test_the_sandbox_of_compose_is_known_by_its_names() -> None:
    compose = yaml.safe_load((Path(__file__).parents[2] / "infra" / "compose.yaml").read_text())
    names = {name for name, service in compose["services"].items() if "sandbox" in service.get("profiles", ())}
    assert len(names) >= 2
    assert names <= SANDBOX_HOSTS


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("DATABASE_POOLSIZE", "DATABASE_POOL_SIZE"),
        ("SECRETKEY", "SECRET_KEY"),
        ("ENVIROMENT", "ENVIRONMENT"),
        ("REDIS_URI", "REDIS_URL"),
        ("allowed_host", "ALLOWED_HOSTS"),
    ],
)
def test_a_misspelt_setting_is_named_with_what_was_meant(
    written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would silently be its default."""
    monkeypatch.setenv(written, "a-value-nobody-sees")
    with pytest.raises(InsecureSettings) as refused:
        make(monkeypatch)
    assert f"{written}: is no setting; {meant} was probably meant" in str(refused.value)
    assert "a-value-nobody-sees" not in str(refused.value)


async def test_the_doctor_names_a_misspelt_setting_in_development(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIROMENT", "production")
    [finding] = [finding for finding in await examine(settings) if finding.what == "spelling"]
    assert not finding.ok
    assert "ENVIRONMENT" in finding.detail
    monkeypatch.delenv("ENVIROMENT")
    assert [finding.ok for finding in await examine(settings) if finding.what == "spelling"] == [True]


def test_what_platforms_set_is_no_misspelling() -> None:
    assert misspelt(PLATFORM) == []
    assert misspelt(name.upper() for name in Settings.model_fields) == []


def test_web_needs_no_owner_and_no_maintenance_password(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch)
    assert [name for name, _ in insecurities(made) if "OWNER" in name or "MAINTENANCE" in name] == []


def test_development_defaults_would_be_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch, environment="development", secret_key=DEVELOPMENT_SECRET)
    assert "SECRET_KEY" in [name for name, _ in insecurities(made)]


def test_settings_are_frozen_and_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch)
    with pytest.raises(ValidationError):
        made.debug = True  # type: ignore[misc]
    assert SECRET not in repr(made)


def test_a_wrong_value_names_the_setting_and_not_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as wrong:
        make(monkeypatch, database_pool_size="many-secrets")
    assert "database_pool_size" in str(wrong.value)
    assert "many-secrets" not in str(wrong.value)


def test_lists_come_from_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch, allowed_hosts="a.test, b.test", trusted_proxies="10.0.0.0/8")
    assert made.allowed_hosts == ("a.test", "b.test")
    assert str(made.trusted_networks()[0]) == "10.0.0.0/8"


def test_production_without_a_stripe_key_sells_nothing_and_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may want everything but the billing; half of it would be worse than none."""
    nothing = {"stripe_secret_key": None, "stripe_webhook_secrets": None, "stripe_livemode": None}
    assert not make(monkeypatch, **nothing).billing_enabled
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS"):
        monkeypatch.setenv(name, "")  # as compose passes what nobody filled in
    assert not Settings(**{name: value for name, value in SAFE.items() if name not in nothing}).billing_enabled  # type: ignore[arg-type]
    assert make(monkeypatch).billing_enabled
    assert make(monkeypatch, environment="development", **nothing).billing_enabled


def test_scenario_21_whitespace_of_a_copied_secret_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trailing newline, and no signature would ever match."""
    copied = " whsec_new_0001 ,\n whsec_old_0001\n,"
    made = make(monkeypatch, stripe_webhook_secrets=copied, stripe_secret_key=f"sk_live_{SECRET}\n")
    assert made.stripe_webhook_secrets.get_secret_value() == "whsec_new_0001,whsec_old_0001"
    assert made.stripe_secret_key.get_secret_value() == f"sk_live_{SECRET}"


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("wrong_one", [f"sk_live_{SECRET}", "whsec_", "whsec_short"])
def test_scenario_21_what_is_no_webhook_secret_is_named_and_not_shown(
    environment: str, wrong_one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after its beginning, anybody could sign with it."""
    with pytest.raises(ValidationError, match="stripe_webhook_secrets") as wrong:
        make(monkeypatch, environment=environment, stripe_webhook_secrets=f"whsec_{SECRET},{wrong_one}")
    assert SECRET not in str(wrong.value)
