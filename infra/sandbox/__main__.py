"""Every stand-in for the outside world in one process, without databases: `python -m infra.sandbox`."""

from __future__ import annotations

import argparse
from pathlib import Path

from infra.sandbox.clamd import Clamd
from infra.sandbox.mail import MailSink
from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.ports import HOST
from infra.sandbox.proxies import forget_proxies
from infra.sandbox.receiver import Receiver
from infra.sandbox.sendgrid import SendGridStandIn
from infra.sandbox.sources.github import GitHubApi
from infra.sandbox.sources.plausible import PlausibleApi
from infra.sandbox.sources.rates import RatesApi
from infra.sandbox.standin import run_until_told
from infra.sandbox.stripe.server import StripeStandIn


def main() -> None:
    forget_proxies()
    parser = argparse.ArgumentParser(prog="python -m infra.sandbox", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--inbox-port", type=int, default=8025, help="mail as web pages")
    parser.add_argument("--smtp-port", type=int, default=1025, help="mail as SMTP")
    parser.add_argument("--inbox-us-port", type=int, default=8026, help="the other region's mail as web pages")
    parser.add_argument("--smtp-us-port", type=int, default=1026, help="the other region's mail as SMTP")
    parser.add_argument("--oidc-port", type=int, default=8090, help="OpenID Connect provider")
    parser.add_argument("--stripe-port", type=int, default=8091, help="Stripe's API, pages and event console")
    parser.add_argument("--scanner-port", type=int, default=8097, help="the virus scanner's faults")
    parser.add_argument("--clamd-port", type=int, default=3310, help="the virus scanner, as clamd")
    parser.add_argument("--stripe-webhook-url", default="", help="where Stripe's events go")
    parser.add_argument("--stripe-state", type=Path, help="file that keeps Stripe's objects from one run to the next")
    parser.add_argument("--rates-port", type=int, default=8092, help="exchange rates (Frankfurter)")
    parser.add_argument("--github-port", type=int, default=8093, help="statistics of repositories (GitHub)")
    parser.add_argument("--plausible-port", type=int, default=8094, help="web traffic (Plausible)")
    parser.add_argument("--receiver-port", type=int, default=8095, help="a customer's server that takes our webhooks")
    parser.add_argument("--receiver-secrets", type=Path, help="file of the signing secrets that it knows")
    parser.add_argument("--identities", type=Path, help="file of demo logins that the provider offers")
    parser.add_argument("--sendgrid-port", type=int, default=8096, help="SendGrid's API; shows mail in the inbox")
    parser.add_argument("--sendgrid-webhook-url", default="", help="where SendGrid's events go")
    given = parser.parse_args()
    inbox = MailSink(given.inbox_port, given.smtp_port, given.host)
    run_until_told(
        lambda: (
            inbox,
            MailSink(given.inbox_us_port, given.smtp_us_port, given.host),
            SendGridStandIn(inbox, given.sendgrid_port, given.host, webhook_url=given.sendgrid_webhook_url),
            Clamd(given.scanner_port, given.clamd_port, given.host),
            OIDCProvider(given.oidc_port, given.host, identities=given.identities),
            StripeStandIn(
                given.stripe_port, given.host, webhook_url=given.stripe_webhook_url, state=given.stripe_state
            ),
            RatesApi(given.rates_port, given.host),
            GitHubApi(given.github_port, given.host),
            PlausibleApi(given.plausible_port, given.host),
            Receiver(given.receiver_port, given.host, secrets=given.receiver_secrets),
        )
    )


if __name__ == "__main__":
    main()
