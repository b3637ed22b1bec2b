"""The two doors to the domain: `@action` for writes and `@query` for reads. The decorator line is the whole policy.

Protects from: a write without a permission check, without an audit row, without its events; a read nobody may see.
How to use:

    @action("indicators.archive", requires=Role.MEMBER)
    async def archive_indicator(ctx: Context, indicator_id: UUID) -> Indicator: ...

An action never commits and never talks to the network: what must happen outside is a job, enqueued in the same
transaction (`@on(archive_indicator)` in jobs.py). Limits: reads are permitted and traced, and audited in the hipaa
profile only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from service.core import telemetry
from service.core.context import Context
from service.core.database import Base
from service.guardrails import audit, entitlements, hipaa, impersonation, jobs, permissions, switches
from service.guardrails.jobs import Event
from service.guardrails.permissions import Requirement, Role

P = ParamSpec("P")
R = TypeVar("R")
Verb = Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the decorator line says; the list of permissions that people review is made from these."""

    name: str
    requires: Requirement
    writes: bool
    step_up: bool = False
    while_read_only: bool = False
    while_unpaid: bool = False
    while_impersonated: bool = False


RULES: dict[str, Rule] = {}


def action(
    name: str,
    *,
    requires: Requirement,
    step_up: bool = False,
    while_read_only: bool = False,
    while_unpaid: bool = False,
    while_impersonated: bool = False,
) -> Callable[[Verb[P, R]], Verb[P, R]]:
    """A write: permitted, traced, audited, announced; all in the caller's transaction.

    `step_up` asks for a recent password check. `while_read_only` marks the few acts that must work while changes are
    paused (logging in, ending the pause); `while_unpaid` those that an organization may do that owes us money: paying,
    deleting, leaving. What a person does for themselves never depends on an organization's bill. `while_impersonated`
    marks the few that our support may do in somebody's account: harmless, and never somebody's own decision.
    """
    rule = _register(Rule(name, requires, True, step_up, while_read_only, while_unpaid, while_impersonated))
    needs_paying = isinstance(requires, Role) and not while_unpaid

    def decorate(body: Verb[P, R]) -> Verb[P, R]:
        @wraps(body)
        async def run(ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            impersonation.refuse(ctx, name, marked=while_impersonated)
            permissions.demand(ctx, name, requires, step_up=step_up)
            if not while_read_only:
                await switches.refuse_while_read_only(ctx)
            if needs_paying:
                await entitlements.refuse_while_unpaid(ctx)
            with telemetry.span(f"action {name}"):
                outer, ctx.facts = ctx.facts, {}
                place = (ctx.work.tenant, ctx.work.user, ctx.organization_id, ctx.role)
                earlier = await audit.set_aside(ctx)
                try:
                    result = await body(ctx, *args, **kwargs)
                    about = result if isinstance(result, Base) else None
                    changes = await audit.flush_and_collect(ctx, about)
                    await audit.record(ctx, name, changes, ctx.facts)
                    happened = Event(name, changes.object_type, changes.object_id, ctx.facts)
                    await jobs.announce(ctx, run, happened)
                    audit.put_back(ctx, earlier)
                except BaseException:
                    # What the page reads to explain itself must be the asker's again, wherever the action had gone.
                    ctx.work.tenant, ctx.work.user, ctx.organization_id, ctx.role = place
                    await ctx.work.abandon()
                    raise
                finally:
                    ctx.facts = outer
            return result

        run.rule = rule  # type: ignore[attr-defined]
        return cast("Verb[P, R]", run)

    return decorate


def query(name: str, *, requires: Requirement, while_impersonated: bool = True) -> Callable[[Verb[P, R]], Verb[P, R]]:
    """A read: permitted and traced. `while_impersonated=False`: not for our support in somebody's account."""
    rule = _register(Rule(name, requires, writes=False, while_impersonated=while_impersonated))

    def decorate(body: Verb[P, R]) -> Verb[P, R]:
        taken = list(inspect.signature(body).parameters)[1:]

        @wraps(body)
        async def run(ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            impersonation.refuse(ctx, name, marked=while_impersonated)
            permissions.demand(ctx, name, requires, writes=False)
            with telemetry.span(f"query {name}"):
                found = await body(ctx, *args, **kwargs)
            hipaa.note_read(ctx, name, found, dict(zip(taken, args, strict=False)) | kwargs)
            return found

        run.rule = rule  # type: ignore[attr-defined]
        return cast("Verb[P, R]", run)

    return decorate


def may(ctx: Context, verb: Callable[..., Any]) -> bool:
    """Whether a page should offer this action; the action itself checks again."""
    rule: Rule = verb.rule  # type: ignore[attr-defined]
    return permissions.permits(ctx, rule.requires) and impersonation.permits(ctx, marked=rule.while_impersonated)


def allow(ctx: Context, verb: Callable[..., Any]) -> None:
    """Refuse now what the action or query would refuse later: for pages that show a form before they call it."""
    rule: Rule = verb.rule  # type: ignore[attr-defined]
    impersonation.refuse(ctx, rule.name, marked=rule.while_impersonated)
    permissions.demand(ctx, rule.name, rule.requires, step_up=rule.step_up, writes=rule.writes)


def _register(rule: Rule) -> Rule:
    if rule.name in RULES:
        raise ValueError(f"two actions are called {rule.name!r}; the name is the audit trail's key and must be unique")
    RULES[rule.name] = rule
    return rule
