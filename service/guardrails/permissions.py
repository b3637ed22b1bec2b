"""Who may do what: one rule per action or query, checked in one place, denials recorded.

Protects from: a route that forgets its check, a rule retyped in each handler and forgotten in one (broken access
control, OWASP A01; ASVS 8.2.1). How to use: `requires=` on `@action` and `@query`. An API key needs the scope of the
rule besides: `indicators:write` for the actions named `indicators.*`, `indicators:read` for the queries. Limits: it
decides by role and scope, not by row; whether a row is the acting organization's is tenancy's business.
"""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum, StrEnum

from service.core import clock
from service.core.context import ActorKind, Context
from service.core.errors import Forbidden, NotAuthenticated, StepUpRequired


class Role(IntEnum):
    """A person's place in an organization; a higher one may do all that a lower one may."""

    VIEWER = 10
    MEMBER = 20
    ADMIN = 30
    OWNER = 40

    @property
    def label(self) -> str:
        return self.name.lower()


class Who(StrEnum):
    """Requirements that do not depend on an organization."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    STAFF = "staff"
    SYSTEM = "system"


Requirement = Role | Who


def permits(ctx: Context, requirement: Requirement) -> bool:
    """Whether the acting person, key or job meets the requirement. The system acts only where it is named."""
    if isinstance(requirement, Role):
        return ctx.organization_id is not None and ctx.role is not None and ctx.role >= requirement
    match requirement:
        case Who.ANYONE:
            return True
        case Who.SIGNED_IN:
            return ctx.actor.kind in (ActorKind.USER, ActorKind.STAFF)
        case Who.STAFF:
            return ctx.actor.kind is ActorKind.STAFF
        case Who.SYSTEM:
            return ctx.actor.kind is ActorKind.SYSTEM


def scope_of(name: str, *, writes: bool) -> str:
    """What an API key needs for the action or query of this name."""
    return f"{name.partition('.')[0]}:{'write' if writes else 'read'}"


def demand(ctx: Context, name: str, requirement: Requirement, *, step_up: bool = False, writes: bool = True) -> None:
    """Raise NotAuthenticated, Forbidden or StepUpRequired unless the context meets the rule."""
    if ctx.actor.kind is ActorKind.API_KEY and (scope := scope_of(name, writes=writes)) not in ctx.scopes:
        ctx.deny(name)
        raise Forbidden(f"This API key lacks the scope {scope}.", mend="Use a key that has it; admins make one.")
    if not permits(ctx, requirement):
        if ctx.actor.kind is ActorKind.ANONYMOUS:
            raise NotAuthenticated("This needs a login.")
        ctx.deny(name)
        if isinstance(requirement, Role):
            raise Forbidden(f"This needs the role {requirement.label} or higher in this organization.")
        raise Forbidden(f"This is only for {requirement}.", mend="Nothing to mend: it is not meant for this account.")
    if step_up and ctx.actor.kind is ActorKind.API_KEY:
        ctx.deny(name)
        raise Forbidden("This asks for a person who proves again who they are.", mend="Do it on the pages.")
    if step_up and not is_fresh(ctx):
        raise StepUpRequired("This is a dangerous act and your last password check was a while ago.")


def is_fresh(ctx: Context) -> bool:
    """Whether the person proved who they are recently enough for a dangerous act (ASVS 7.5.3)."""
    if ctx.login is None:
        return ctx.actor.kind is ActorKind.SYSTEM
    if ctx.login.support is not None:
        return False
    return clock.now() - ctx.login.authenticated_at <= timedelta(minutes=ctx.settings.step_up_minutes)
