"""The compose deployment: each service hardened, each secret given only to who needs it, the pools adding up."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.core.insecurities import WORKER_EXTRA, insecurities
from service.core.settings import Settings
from service.integrations.scanner import MOST_BYTES

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
COMPOSE = ROOT / "infra" / "compose"
STACK = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ONE_SHOT = {"migrate", "certificates"}
OURS = {"app", "worker", "migrate"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
EXACT = re.compile(r":(v?\d+\.\d+[\w.-]*|\$\{VERSION:-local\})$")
each_service = pytest.mark.parametrize("name", SERVICES)


def generate_env() -> dict[str, str]:
    """What make-env.sh prints, as compose would read it."""
    done = subprocess.run(["sh", COMPOSE / "make-env.sh"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    pairs = (line.split("=", 1) for line in lines)
    return {name: value.strip('"') for name, value in pairs}


def resolve(value: str, env: Mapping[str, str]) -> str:
    """Compose's interpolation, as far as the file uses it."""

    def replace(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        found = env.get(name, "")
        assert found or kind != "?", f"compose would refuse: {name} is required"
        return found or (default or "" if kind == "-" else "")

    return VARIABLE.sub(replace, value)


def environment(name: str, env: Mapping[str, str]) -> dict[str, str]:
    return {key: resolve(str(value), env) for key, value in SERVICES[name]["environment"].items()}


def settings_from(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    return Settings()


def test_the_scan_sees_the_services() -> None:
    assert {"app", "worker", "migrate", "certificates", "postgres", "redis"} <= set(SERVICES)
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"mail", "oidc", "prometheus"}


def test_it_follows_the_compose_specification() -> None:
    done = subprocess.run(
        [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "infra" / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@each_service
def test_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"], "one leak must not take the machine"
    assert service["pids_limit"] <= 256
    assert service["logging"]["options"]["max-size"], "Docker keeps logs for ever by default"
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert all("docker.sock" not in volume for volume in service.get("volumes", ()))
    for mount in service.get("tmpfs", ()):
        assert "size=" in mount, "a tmpfs without a size may take half the machine's memory"
    if name == "certificates":
        assert (service["user"], service["cap_add"]) == ("0:0", ["CHOWN"])
        assert service["network_mode"] == "none"
    else:
        assert int(service["user"].split(":")[0]) > 0
        assert "cap_add" not in service


@each_service
def test_service_is_pinned_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert EXACT.search(service["image"]), f"{service['image']} is not an exact version"
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])


def test_only_the_web_port_is_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {name for name in published if "profiles" not in SERVICES[name]} == {"app"}
    for ports in published.values():
        assert all(str(port).startswith("127.0.0.1:") for port in ports)
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["data"]
    assert STACK["networks"]["data"]["internal"] is True


def test_order_of_start() -> None:
    for name in ("app", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace > Settings.model_fields["graceful_timeout_seconds"].default


def test_no_secret_stands_in_the_file() -> None:
    seen = 0
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|TOKEN|AUTH", key):
                assert VARIABLE.fullmatch(value), f"{name}: {key} must come from the env file"
                seen += 1
            if password := re.search(r"://[^:/]*:([^@]*)@", str(value)):
                assert VARIABLE.fullmatch(password[1]), f"{name}: {key} carries a password"
                seen += 1
    assert seen >= 15


def test_each_database_password_is_known_only_to_who_needs_it() -> None:
    def holders(variable: str) -> set[str]:
        return {name for name, service in SERVICES.items() if variable in str(service.get("environment"))}

    assert holders("BALLAST_OWNER_PASSWORD") == {"migrate", "postgres"}
    assert holders("BALLAST_MAINTENANCE_PASSWORD") == {"worker", "postgres"}
    assert holders("POSTGRES_PASSWORD") == {"postgres"}
    assert holders("AUDIT_SEAL_KEY") == {"worker"}


def test_env_file_names_exactly_what_compose_asks_for() -> None:
    asked = set(VARIABLE.findall((ROOT / "infra" / "compose.yaml").read_text()))
    names = {name for name, _, _ in asked} - {"VERSION"}
    required = {name for name, kind, _ in asked if kind == "?"}
    offered = set(generate_env())
    assert len(required) >= 12
    assert not required - offered
    assert offered == names, "a name in .env.example that nothing reads, or one that is missing there"


def test_made_secrets_are_long_random_and_different() -> None:
    first, second = generate_env(), generate_env()
    secrets = [key for key in first if re.search(r"_PASSWORD$|_KEYS?$|_TOKEN$", key)]
    others = {
        "STRIPE_SECRET_KEY",
        "STORAGE_ACCESS_KEY",
        "STORAGE_SECRET_KEY",
        "SENDGRID_API_KEY",
        "SENDGRID_WEBHOOK_KEYS",
    }
    assert {first[key] for key in others} == {""}, "a key that Stripe or the bucket does not know is worse than none"
    secrets = [key for key in secrets if key not in others]
    assert len(secrets) == 10
    assert len({first[key] for key in secrets} | {second[key] for key in secrets}) == 20
    assert all(re.fullmatch(r"(1:)?[0-9a-f]{64}", first[key]) for key in secrets)


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_a_setting(name: str) -> None:
    unknown = {key for key in SERVICES[name]["environment"] if key.lower() not in Settings.model_fields}
    assert unknown == {"PGSSLROOTCERT"}, "settings ignore what they do not know: a typo here would change nothing"


@pytest.mark.parametrize("name", sorted(OURS))
def test_production_accepts_it_and_only_once_it_is_addressed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = generate_env()
    public = {
        "ENVIRONMENT": "production",
        "BASE_URL": "https://app.company.test",
        "ALLOWED_HOSTS": "app.company.test",
        "SMTP_URL": "smtps://user:password@mail.company.test:465",
        "MAIL_FROM": "Company <hello@company.test>",
    }
    settings = settings_from(environment(name, made | public), monkeypatch)
    assert insecurities(settings) == []
    unsafe = settings_from(environment(name, made), monkeypatch)
    named = {setting for setting, _ in insecurities(unsafe)}
    assert {"BASE_URL", "MAIL_FROM"} <= named
    # Everything inside the deployment itself is safe as made.
    assert not named & {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "METRICS_TOKEN"}


def test_connections_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_from(environment("app", generate_env()), monkeypatch)
    flags = SERVICES["postgres"]["command"]
    assert f"max_connections={settings.database_max_connections}" in flags
    room = settings.database_max_connections - settings.database_reserved_connections
    assert settings.database_demand <= room
    text = (ROOT / "infra" / "compose.yaml").read_text()
    each = f"({settings.database_pool_size} + {settings.inbox_pool_size} + {WORKER_EXTRA})"
    written = f"{settings.database_processes} x {each} = {settings.database_demand}"
    assert written in text, f"the comment must say {written}"
    limits = f"{settings.database_max_connections} - {settings.database_reserved_connections} = {room}"
    assert limits in text, f"the comment must say {limits}"


def test_the_scanner_takes_as_much_as_the_service_sends() -> None:
    lines = dict(line.split() for line in (COMPOSE / "clamd.conf").read_text().splitlines() if line and line[0] != "#")
    assert int(lines["StreamMaxLength"].removesuffix("M")) * 1024 * 1024 == MOST_BYTES
    assert lines["AlertExceedsMax"] == "yes", "a bomb that is not unpacked to its end would count as clean"
    assert generate_env()["SCANNER_URL"] == f"tcp://scanner:{lines['TCPSocket']}"
    assert SERVICES["scanner"]["networks"] == ["edge"], "whoever breaks into it must not reach the databases"


def test_proxy_that_is_trusted_is_the_networks_gateway() -> None:
    gateway = STACK["networks"]["edge"]["ipam"]["config"][0]["gateway"]
    assert generate_env()["TRUSTED_PROXIES"] == f"{gateway}/32"


def test_redis_never_evicts_and_survives_a_restart() -> None:
    lines = (COMPOSE / "redis.conf").read_text().splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction", "port 0"} <= set(lines)
    limit = int(SERVICES["redis"]["mem_limit"].removesuffix("m"))
    used = next(int(line.split()[1].removesuffix("mb")) for line in lines if line.startswith("maxmemory "))
    assert used <= limit * 0.75, "rewriting the append-only file needs room beside the data"


def test_postgres_admits_nobody_without_tls() -> None:
    rules = [line.split() for line in (COMPOSE / "pg_hba.conf").read_text().splitlines() if line and line[0] != "#"]
    assert rules == [["local", "all", "postgres", "peer"], ["hostssl", "all", "all", "all", "scram-sha-256"]]
    assert "ssl=on" in SERVICES["postgres"]["command"]
    assert "hba_file=/etc/ballast/pg_hba.conf" in SERVICES["postgres"]["command"]


def test_mounted_files_exist() -> None:
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    paths = [mount for mount in mounts if mount.startswith(".")]
    assert len(paths) >= 7
    for path in paths:
        assert (ROOT / "infra" / path).exists(), path
    named = {mount for mount in mounts if not mount.startswith(".")}
    assert named == set(STACK["volumes"])


def test_make_env_needs_nothing_but_a_shell() -> None:
    used = (COMPOSE / "make-env.sh").read_text()
    assert "openssl" not in used
    assert shutil.which("od")
