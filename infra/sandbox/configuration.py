"""What `make run` works with: directory, ports and the environment its children get."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.errors import PortBusy, SandboxError
from infra.sandbox.ports import is_free, next_free
from infra.sandbox.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
DATABASE_URLS = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_MAINTENANCE_URL")
DEFAULT_PORTS = {
    "app": 8000,
    "inbox": 8025,
    "smtp": 1025,
    "inbox-us": 8026,
    "smtp-us": 1026,
    "oidc": 8090,
    "stripe": 8091,
    "rates": 8092,
    "github": 8093,
    "plausible": 8094,
    "receiver": 8095,
    "sendgrid": 8096,
    "scanner": 8097,
    "clamd": 3310,
    "postgres": 5433,
    "redis": 6380,
}


@dataclass(frozen=True)
class Home:
    """The directory that holds everything `make run` keeps; `make reset` empties it."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def webhook_secrets(self) -> Path:
        """What the demo's own webhook receiver verifies with."""
        return self.path / "webhook-secrets.json"

    @property
    def logins(self) -> Path:
        """Demo logins as the seed printed them."""
        return self.path / "logins.json"


def home() -> Home:
    """`.ballast` in this clone, or BALLAST_HOME."""
    return Home(Path(os.environ.get("BALLAST_HOME", ROOT / ".ballast")).resolve())


def choose_port(name: str, environment: Mapping[str, str], taken: set[int], patience: float = 0) -> tuple[int, str]:
    """The port for one service and, when it is not the usual one, a remark.

    A port somebody asked for (BALLAST_APP_PORT and so on) is used or refused; a default gives way to the next free one;
    both after `patience` seconds. Raises PortBusy, or SandboxError for something that is not a port.
    """
    variable = f"BALLAST_{name.upper()}_PORT"
    asked = environment.get(variable)
    if asked:
        if not asked.isdecimal() or not 0 < int(asked) < 65_536:
            raise SandboxError(f"{variable} must be a port number between 1 and 65535")
        if not wait_until(lambda: is_free(int(asked)), timeout=patience):
            raise PortBusy(f"port {asked} is in use by another program: stop it, or set {variable} to a free port")
        return int(asked), ""
    usual = DEFAULT_PORTS[name]
    wait_until(lambda: is_free(usual), timeout=patience)
    port = next_free(usual)
    while port in taken:
        port = next_free(port + 1)
    return port, "" if port == usual else f"(port {usual} is in use; set {variable} to choose)"


def uses_embedded_postgres(environment: Mapping[str, str]) -> bool:
    """False when the person brings a PostgreSQL. Raises SandboxError when only some of its addresses are set."""
    given = [name for name in DATABASE_URLS if environment.get(name)]
    if given and (missing := [name for name in DATABASE_URLS if name not in given]):
        raise SandboxError(
            f"Of the three addresses of your PostgreSQL, {' and '.join(missing)} must be set too "
            "(three roles: see infra/postgres/roles.sql); or unset all three to use the embedded one"
        )
    return not given


def development_secrets(directory: Path) -> dict[str, str]:
    """Random secrets, the same at every start: people stay logged in and encrypted columns stay readable."""
    file = directory / "secrets.json"
    kept: dict[str, str] = {}
    if file.exists():
        try:
            kept = json.loads(file.read_text())
        except ValueError:
            raise SandboxError(f"{file} is damaged; run `make reset` to start over") from None
    names = ("SECRET_KEY", "LOOKUP_KEY", "AUDIT_SEAL_KEY", "METRICS_TOKEN")
    wanted = {name: secrets.token_urlsafe(32) for name in names}
    wanted["ENCRYPTION_KEYS"] = f"1:{secrets.token_urlsafe(32)}"
    if "SECRET_KEY" in kept:
        wanted["LOOKUP_KEY"] = kept["SECRET_KEY"]  # made before there was one: what it found stays found
    complete = wanted | kept
    if complete != kept:
        # Written beside, then renamed: a start interrupted here must not leave half a file.
        fresh = file.with_suffix(".partial")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(complete, indent=2))
        fresh.rename(file)
    return complete
