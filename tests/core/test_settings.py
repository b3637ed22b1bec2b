"""Settings: typed, frozen, and in production picky by name without ever showing a value."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.core.settings import DEVELOPMENT_SECRET, Environment, InsecureSettings, Settings, insecurities

SECRET = "k" * 20 + "q" * 20
SAFE = {
    "environment": "production",
    "base_url": "https://app.acme.test",
    "allowed_hosts": "app.acme.test",
    "docs_enabled": False,
    "database_url": "postgresql://ballast_app:pw@db.acme.test/ballast?sslmode=verify-full",
    "redis_url": "rediss://:pw@redis.acme.test/0",
    "smtp_url": "smtps://user:pw@mail.acme.test",
    "mail_from": "Acme <hello@acme.test>",
    "secret_key": SECRET,
    "encryption_keys": f"1:{SECRET}",
    "audit_seal_key": SECRET + "s",
    "metrics_token": SECRET + "m",
}

INSECURE: dict[str, dict[str, object]] = {
    "SECRET_KEY": {"secret_key": DEVELOPMENT_SECRET},
    "ENCRYPTION_KEYS": {"encryption_keys": f"1:{DEVELOPMENT_SECRET}"},
    "AUDIT_SEAL_KEY": {"audit_seal_key": "short"},
    "METRICS_TOKEN": {"metrics_token": "development-metrics"},
    "DEBUG": {"debug": True},
    "DOCS_ENABLED": {"docs_enabled": True},
    "BASE_URL": {"base_url": "http://app.acme.test"},
    "ALLOWED_HOSTS": {"allowed_hosts": "*.acme.test"},
    "DATABASE_URL": {"database_url": "postgresql://ballast_app:pw@db.acme.test/ballast"},
    "DATABASE_OWNER_URL": {"database_owner_url": "postgresql://o:pw@127.0.0.1/ballast?sslmode=verify-full"},
    "REDIS_URL": {"redis_url": "redis://:pw@redis.acme.test/0"},
    "SMTP_URL": {"smtp_url": "smtp://127.0.0.1:1025"},
    "MAIL_FROM": {"mail_from": "Ballast <hello@ballast.example>"},
    "OIDC_ISSUER": {"oidc_issuer": "http://id.acme.test", "oidc_client_secret": SECRET},
    "OIDC_CLIENT_SECRET": {"oidc_issuer": "https://id.acme.test"},
    "DATABASE_POOL_SIZE": {"database_pool_size": 50, "database_processes": 10},
    "RATE_LIMIT_SCALE": {"rate_limit_scale": 1000},
}


def make(monkeypatch: pytest.MonkeyPatch, **values: object) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return Settings(**{**SAFE, **values})  # type: ignore[arg-type]


def test_safe_production_settings_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(monkeypatch).environment is Environment.PRODUCTION


@pytest.mark.parametrize("name", INSECURE)
def test_production_refuses_each_insecure_value_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InsecureSettings) as refused:
        make(monkeypatch, **INSECURE[name])
    text = str(refused.value)
    assert f"{name}: " in text
    for value in INSECURE[name].values():
        if isinstance(value, str) and len(value) > 8:
            assert value not in text, "the message shows a value; it ends up in logs"


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
