"""The product and what it needs, started in order and stopped in reverse."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack

from infra.sandbox.children import Child, Running, wait_until_answers, why_it_died
from infra.sandbox.configuration import ROOT, Home, choose_port, development_secrets, uses_embedded_postgres
from infra.sandbox.console import Console
from infra.sandbox.errors import SandboxError
from infra.sandbox.ports import HOST, is_free
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.redis import EmbeddedRedis
from infra.sandbox.sendgrid import PUBLIC_KEY

DATABASE = "ballast"
LEFTOVER_SECONDS = 6.0
SOURCES = {"RATES_API_BASE": "rates", "GITHUB_API_BASE": "github", "PLAUSIBLE_API_BASE": "plausible"}
"""Setting -> the stand-in that it leads to."""


class Product:
    """PostgreSQL, Redis, the stand-ins, web and worker; what a person brings along in the environment wins."""

    def __init__(self, home: Home, console: Console, started: ExitStack, *, was_cut_off: bool = False) -> None:
        self.home = home
        self.console = console
        self.environment = {"PYTHONUNBUFFERED": "1", **os.environ}
        self.ports: dict[str, int] = {}
        self.logins: list[dict[str, str]] = []
        self._remarks: dict[str, str] = {}
        # What a killed launcher had started needs a moment to notice; until then our own ports look like a stranger's.
        self._patient_until = time.monotonic() + LEFTOVER_SECONDS if was_cut_off else 0.0
        self._started = started
        self._running: list[Running] = []

    def start(self) -> None:
        """Every step up to a service that answers. Raises SandboxError with one sentence."""
        if self.environment.get("ENVIRONMENT", "development") != "development":
            raise SandboxError("make run is for development, and ENVIRONMENT says otherwise; unset it and try again")
        embedded = uses_embedded_postgres(self.environment)
        self._choose_address()
        self._default(
            **development_secrets(self.home.path),
            # A laptop's last request is over in no time; nobody waits 20 s for Ctrl-C.
            GRACEFUL_TIMEOUT_SECONDS="3",
            STORAGE_URL=f"file:{self.home.path / 'files'}",
        )
        stand_ins = self._launch_stand_ins()
        if embedded:
            self._start_postgres()
        else:
            self._bring("PostgreSQL", "DATABASE_URL")
        if not self.environment.get("REDIS_URL"):
            self._start_redis()
        else:
            self._bring("Redis", "REDIS_URL")
        if stand_ins:
            with self.console.step("Outside systems") as step:
                wait_until_answers(f"http://{HOST}:{self.ports['stripe']}/", stand_ins)
                step.detail = self._where(
                    "inbox", "smtp", "inbox-us", "oidc", "stripe", "sendgrid", "receiver", "scanner", *SOURCES.values()
                )
        # Beside the migrations, and before the worker: the first thing it does is compare what is sold with Stripe.
        prices = self._begin("prices", "seed", "--prices") if stand_ins else None
        with self.console.step("Migrations") as step:
            step.detail = self._command("migrate").strip().splitlines()[-1]
            if prices:
                prices.finish()
        if not is_free(self.ports["app"]):
            self._choose_address()  # somebody was faster while we migrated
        # Beside the seed, not after it: on two cores each half of the time is spent importing.
        worker = self._child("worker", "service", "worker")
        web = self._child("web", "service", "serve", "--host", HOST, "--port", str(self.ports["app"]))
        self._seed()
        with self.console.step("Web and worker") as step:
            wait_until_answers(f"http://{HOST}:{self.ports['app']}/readyz", web)
            if not worker.is_running:
                raise SandboxError(why_it_died(worker))
            step.detail = self._where("app")

    def watch(self) -> None:
        """Wait for ever. Raises SandboxError when a part dies."""
        while all(part.is_running for part in self._running):
            time.sleep(0.2)
        raise SandboxError(next(why_it_died(part) for part in self._running if not part.is_running))

    def _launch_stand_ins(self) -> Child | None:
        """Started first, because they need nothing and take a second; waited for when the databases are up."""
        brought_stripe = self.environment.get("STRIPE_SECRET_KEY")
        own_mail = self.environment.get("SMTP_URL") or self.environment.get("MAIL_THROUGH")
        own = [own_mail, *(self.environment.get(name) for name in ("OIDC_ISSUER", "SCANNER_URL", *SOURCES))]
        if all(own) and brought_stripe:
            return None
        names = (
            "inbox", "smtp", "inbox-us", "smtp-us", "oidc", "stripe", "sendgrid", "receiver", "scanner", "clamd",
            *SOURCES.values(),
        )  # fmt: skip
        self._choose_ports(*names)
        flags = [word for name in names for word in (f"--{name}-port", str(self.ports[name]))]
        flags += ["--stripe-webhook-url", f"{self.environment['BASE_URL']}/webhooks/stripe"]
        flags += ["--sendgrid-webhook-url", f"{self.environment['BASE_URL']}/webhooks/sendgrid"]
        # The database is kept from one run to the next, so the customers it names must be as well.
        flags += ["--stripe-state", str(self.home.path / "stripe.json")]
        flags += ["--receiver-secrets", str(self.home.webhook_secrets)]
        self._default(WEBHOOK_SANDBOX_HOSTS=HOST)
        self._default(SMTP_URL=f"smtp://{HOST}:{self.ports['smtp']}", OIDC_ISSUER=f"http://{HOST}:{self.ports['oidc']}")
        self._default(**{name: f"http://{HOST}:{self.ports[one]}" for name, one in SOURCES.items()})
        self._default(SCANNER_URL=f"tcp://{HOST}:{self.ports['clamd']}")
        if not own_mail:
            # SendGrid rather than SMTP: it says what became of a mail, so that bounces and complaints can be tried out.
            self._default(
                MAIL_THROUGH="sendgrid",
                SENDGRID_API_BASE=f"http://{HOST}:{self.ports['sendgrid']}",
                SENDGRID_WEBHOOK_KEYS=PUBLIC_KEY,
            )
            # A second region, so that an organization can be somewhere else than at home.
            self._default(
                REGIONS__US__STORAGE_URL=f"file:{self.home.path / 'files-us'}",
                REGIONS__US__MAIL_THROUGH="smtp",
                REGIONS__US__SMTP_URL=f"smtp://{HOST}:{self.ports['smtp-us']}",
            )
        if not brought_stripe:
            # The keys that go with it are the ones that development knows anyway.
            self._default(STRIPE_API_BASE=f"http://{HOST}:{self.ports['stripe']}")
        return self._child("stand-ins", "infra.sandbox", *flags, "--identities", str(self.home.logins))

    def _start_postgres(self) -> None:
        with self.console.step("PostgreSQL") as step:
            server = EmbeddedPostgres(self.home.path / "postgres", log=self.home.logs / "postgres.log")
            # Claimed first: what an interrupted start left running would make the port look like somebody else's.
            server.claim().port = self._choose_ports("postgres")
            self._keep(server.start())
            server.create_database(DATABASE)
            self._default(
                DATABASE_URL=server.url("ballast_app", DATABASE),
                DATABASE_OWNER_URL=server.url("ballast_owner", DATABASE),
                DATABASE_MAINTENANCE_URL=server.url("ballast_maintenance", DATABASE),
            )
            step.detail = self._where("postgres")

    def _start_redis(self) -> None:
        with self.console.step("Redis") as step:
            server = EmbeddedRedis(self.home.path / "redis", log=self.home.logs / "redis.log")
            server.claim().port = self._choose_ports("redis")
            self._keep(server.start())
            self._default(REDIS_URL=server.url())
            step.detail = self._where("redis")

    def _bring(self, name: str, variable: str) -> None:
        """Say that the person's own is used, but not where: an address may hold a password."""
        with self.console.step(name) as step:
            step.detail = f"your own, from {variable}"

    def _seed(self) -> None:
        with self.console.step("Demo data") as step:
            more = (
                ["--webhook-url", f"http://{HOST}:{self.ports['receiver']}/hooks"] if "receiver" in self.ports else []
            )
            lines = self._command("seed", *more).strip().splitlines()
            printed = json.loads(lines[-1])
            self.logins = printed["logins"]
            self.home.webhook_secrets.write_text(json.dumps(printed["webhook_secrets"]))
            self.home.logins.write_text(lines[-1])
            step.detail = f"{len(self.logins)} logins, shown below"

    def _choose_address(self) -> None:
        port = self._choose_ports("app")
        self.environment["BASE_URL"] = os.environ.get("BASE_URL") or f"http://{HOST}:{port}"

    def _choose_ports(self, *names: str) -> int:
        """Pick the ports of these services; answers the last one."""
        for name in names:
            patience = max(0.0, self._patient_until - time.monotonic())
            port, self._remarks[name] = choose_port(name, self.environment, {*self.ports.values()}, patience)
            self.ports[name] = port
        return port

    def _where(self, *names: str) -> str:
        label = "port" if len(names) == 1 else ""
        return ", ".join(f"{label or name} {self.ports[name]} {self._remarks[name]}".strip() for name in names)

    def _default(self, **values: str) -> None:
        """Set what the person has not set."""
        self.environment |= {name: value for name, value in values.items() if not self.environment.get(name)}

    def _command(self, name: str, *more: str) -> str:
        return self._begin(name, name, *more).finish()

    def _begin(self, name: str, *command: str) -> Child:
        """A command of the service that ends by itself."""
        log = self.home.logs / f"{name}.log"
        return Child(name, ["service", *command], log=log, env=self.environment, cwd=ROOT)

    def _child(self, name: str, *arguments: str) -> Child:
        log = self.home.logs / f"{name}.log"
        child = Child(name, arguments, log=log, env=self.environment, cwd=ROOT)
        self._keep(child)
        return child

    def _keep(self, part: Running) -> None:
        """Watch this part, and stop it when everything stops."""

        def stop() -> None:
            began = time.monotonic()
            part.stop()
            self.console.say(f"  stopped  {time.monotonic() - began:4.1f} s  {part.name}")

        self._running.append(part)
        self._started.callback(stop)
