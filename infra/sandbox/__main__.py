"""Run the stand-ins for the outside world, without databases, until SIGTERM or Ctrl-C: `python -m infra.sandbox`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from infra.sandbox.errors import SandboxError
from infra.sandbox.mail import MailSink
from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.ports import HOST

ENDINGS = {signal.SIGINT, signal.SIGTERM}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.sandbox", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--inbox-port", type=int, default=8025, help="mail as web pages")
    parser.add_argument("--smtp-port", type=int, default=1025, help="mail as SMTP")
    parser.add_argument("--oidc-port", type=int, default=8090, help="OpenID Connect provider")
    parser.add_argument(
        "--issuer", default="", help="the provider's public address, where it differs from host and port"
    )
    parser.add_argument("--identities", type=Path, help="file of demo logins that the provider offers")
    arguments = parser.parse_args()
    # Blocked before any thread starts, so that the signal waits for sigwait below instead of ending a thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        with (
            MailSink(arguments.inbox_port, arguments.smtp_port, arguments.host) as mail,
            OIDCProvider(
                arguments.oidc_port, arguments.host, issuer=arguments.issuer, identities=arguments.identities
            ) as provider,
        ):
            print(f"inbox {mail.address}, mail {mail.smtp_url}, OpenID Connect {provider.issuer}", flush=True)
            signal.sigwait(ENDINGS)
    except SandboxError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
