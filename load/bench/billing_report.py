"""The billing tables of docs/performance.md."""

from __future__ import annotations

from statistics import median

from load.bench.acknowledge import CONNECTIONS, FRESH, PACE, PACED, REPEATED, Runs
from load.bench.generator import Measured
from load.bench.plans import ACKNOWLEDGED_PER_SECOND, CHANGES_PER_SECOND, Plans
from load.bench.report import ratio

SLOWEST_MS = 150


def render(runs: Runs, plans: Plans, machine: str) -> str:
    """Both tables, with what each was measured under."""
    many = len(runs.of(FRESH, "service"))
    lines = [
        f"{machine}. Medians over {many} rounds; ratios pair by pair. {CONNECTIONS} connections, bodies of 6.5 KB.",
        "",
        "| case | floor /s | service /s | floor p50 / p99 ms | p50 / p99 ms | server CPU us/request | of the floor |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for case in (FRESH, REPEATED, PACED):
        floor, ours = runs.of(case, "floor"), runs.of(case, "service")
        cpu, floor_cpu = (median(each.cpu_us for each in one) for one in (ours, floor))
        lines.append(
            f"| {case} | {_rate(floor)} | {_rate(ours)} | {_times(floor)} | {_times(ours)} "
            f"| {cpu:,.0f} (floor {floor_cpu:,.0f}) | {ratio(ours, floor):.2f} |"
        )
    burst, most = plans.typical(), max(one.readings for one in plans.bursts)
    lines += [
        "",
        "One web process, two workers, PostgreSQL, Redis and the stand-in for Stripe on the same cores.",
        "",
        "| what | p50 | p99 | target |",
        "|---|--:|--:|---|",
        f"| change at Stripe until the entitlement says so, one at a time ({len(plans.alone)}) | {_waits(plans.alone)} "
        "| p50 1 s, p99 10 s |",
        f"| the same, {CHANGES_PER_SECOND} changes a second ({len(plans.busy)}) | {_waits(plans.busy)} "
        "| p50 1 s, p99 10 s |",
        f"| {ACKNOWLEDGED_PER_SECOND} webhooks a second, Stripe's API healthy | {_pair(plans.healthy)} | |",
        f"| {ACKNOWLEDGED_PER_SECOND} webhooks a second, each call of Stripe's API hangs for 10 s "
        f"| {_pair(plans.hanging)} | as when healthy |",
        "",
        f"An upgrade while the cycle closes, median of {len(plans.bursts)}: {burst.events} events, "
        f"{burst.readings} readings of the customer (most: {most}; target: 4), {burst.calls} calls of Stripe's API, "
        f"{sum(one.calls for one in plans.bursts) / sum(one.events for one in plans.bursts):.2f} calls per event.",
    ]
    floor, ours = runs.of(PACED, "floor"), runs.of(PACED, "service")
    if (possible := median(each.rate for each in floor)) < PACE * 0.95:
        lines += [
            "",
            f"At {PACE} a second the floor answered {possible:,.0f}: the machine was busy with something else.",
        ]
    elif (slow := _percentiles(ours)[1]) > SLOWEST_MS:
        lines += ["", f"**Missed in this run: p99 under {SLOWEST_MS} ms at {PACE} a second ({slow:.0f} ms).**"]
    return "\n".join(lines)


def _rate(runs: list[Measured]) -> str:
    return f"{median(each.rate for each in runs):,.0f}"


def _percentiles(runs: list[Measured]) -> list[float]:
    return [median(each.percentile(share) for each in runs) for share in (0.5, 0.99)]


def _times(runs: list[Measured]) -> str:
    return " / ".join(f"{each:.1f}" for each in _percentiles(runs))


def _pair(runs: list[Measured]) -> str:
    return " | ".join(f"{each:.1f} ms" for each in _percentiles(runs))


def _waits(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return " | ".join(f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.2f} s" for share in (0.5, 0.99))
