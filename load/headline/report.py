"""The numbers of one run as a table, and the page docs/headline.md around it."""

from __future__ import annotations

import os
import platform

from load.headline.storms import UPGRADES_PER_SECOND, Outcome
from load.headline.world import WORKERS

HEAD = (
    "| storm | events | deliveries | naive wrong | ours wrong | fetches per event | API calls per event |"
    " lag p50 / p99 s | seconds |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)

PAGE = """# The headline run

{customers} customers on Team upgrade to Business in the moment in which their billing cycle closes: about {burst:.0f}
events each, within 200 ms. The same events go, over HTTP and signed, to two endpoints: the webhook that is usually
written (`load/headline/naive.py`; every test that sends it one event after the other passes) and ours. When all is
quiet, each customer's plan, status, period end and cancellation are compared with Stripe's.

![Wrong customers in each storm, the naive handler and ours](headline.svg)

{table}

{machine}. Repeat it with

    {command}

The seed repeats what customers do and what goes wrong on the way; how the processes are scheduled it cannot repeat, so
the naive handler's figures differ from run to run. Ours must be 0 in every storm, or the command fails. `make headline`
draws a new seed.

- **serial**: one delivery at a time, in order. The naive handler is right, which is why nobody notices.
- **concurrent**: up to 16 at once, as a web server takes them.
- **reordered**: each delivery waits up to 200 ms, so neighbours overtake each other.
- **duplicates, 10 % lost**: the same; a fifth arrives twice, a tenth never.
- **Stripe API errors**: deliveries as in *concurrent*; of our questions to Stripe a tenth is answered 500, a tenth
  429, and each takes up to 0.3 s longer. The naive handler asks nothing.

{rate} customers a second. Half upgrade just before the close and half just after, a third take back a cancellation
first; the hour for which Stripe leaves the renewal's invoice a draft is skipped. The naive app is sent only the events
that it handles; its "mail" is a pause of 10 ms. Ours is one web process and {workers} workers with PostgreSQL and
Redis, and hears of everything. After each storm its hourly comparison with Stripe runs at once; differences found
and mended: {drift}. Mostly the rest of a burst makes up for an event that is lost.

A *fetch* is one reading of one customer, *API calls* are all calls to Stripe, those of sweeps too. *Lag* is the time
from a change at Stripe to our copy saying the same, looked at every 50 ms. Stripe is the stand-in of `infra/sandbox`.
"""


def row(outcome: Outcome) -> str:
    naive, ours = (len(one) for one in (outcome.naive_wrong, outcome.ours_wrong))
    return (
        f"| {outcome.storm} | {outcome.events:,} | {outcome.deliveries:,} "
        f"| {naive} of {outcome.customers} | **{ours}** of {outcome.customers} "
        f"| {outcome.fetches:.2f} | {outcome.calls:.2f} "
        f"| {outcome.lag[0]:.2f} / {outcome.lag[1]:.2f} | {outcome.seconds:.0f} |"
    )


def chapter(outcomes: list[Outcome], command: str, busy: float) -> str:
    """The whole page; `busy` is the machine's load average before the run: what others were doing on it."""
    customers = outcomes[0].customers
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return PAGE.format(
        customers=customers,
        burst=sum(one.events for one in outcomes) / sum(one.customers for one in outcomes),
        table="\n".join([HEAD, *map(row, outcomes)]),
        machine=f"{machine}, load average {busy:.1f} before the run (neighbours lengthen the lag)",
        command=command,
        rate=UPGRADES_PER_SECOND,
        workers=WORKERS,
        drift=sum(one.drift for one in outcomes),
    )
