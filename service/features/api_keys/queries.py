"""Reads: who is behind a key that a request shows, and the organization's keys."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, case, or_, select

from service.core import clock
from service.core.context import SAFE_METHODS, Context
from service.core.database import UnitOfWork
from service.core.errors import NotFound
from service.core.features import load
from service.core.statements import Prepared, PreparedText
from service.features import FEATURES
from service.features.accounts.models import User
from service.features.api_keys.models import ApiKey, why_ended
from service.features.api_keys.schemas import KeyListed, KeyRead
from service.features.organizations.models import Membership, Organization
from service.guardrails import entitlements
from service.guardrails.actions import RULES, query
from service.guardrails.api_keys import Key, KeyStore
from service.guardrails.entitlements import Entitlement
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who, scope_of
from service.web.staff_lists import Across, OfOrganization

IS_NEWEST = ApiKey.secret_hash == bindparam("digest")
HOLDER = case((IS_NEWEST, ApiKey.created_by), else_=ApiKey.previous_by)
MAKER = and_(Membership.organization_id == ApiKey.organization_id, Membership.user_id == ApiKey.created_by)
FIND = Prepared(
    select(
        ApiKey.id,
        ApiKey.role,
        ApiKey.scopes,
        ApiKey.expires_at,
        ApiKey.revoked_at,
        ApiKey.last_used_at,
        ApiKey.previous_until,
        IS_NEWEST.label("is_newest"),
        Membership.role.label("holder_role"),
        Organization.id.label("home"),
        *entitlements.COLUMNS,
    )
    .outerjoin(Organization, Organization.id == ApiKey.organization_id)
    .outerjoin(Membership, and_(Membership.organization_id == ApiKey.organization_id, Membership.user_id == HOLDER))
    .outerjoin(Entitlement, Entitlement.organization_id == ApiKey.organization_id)
    .where(or_(IS_NEWEST, ApiKey.previous_hash == bindparam("digest")))
)
# SKIP LOCKED: a request must not wait for another, or for a rotation, only to note that it happened.
NOTE_USE = PreparedText("""
    UPDATE api_keys SET last_used_at = :now WHERE organization_id = :context_tenant AND id = (
        SELECT id FROM api_keys WHERE organization_id = :context_tenant AND id = :key FOR UPDATE SKIP LOCKED
    )
""")
NOTED_EVERY = timedelta(minutes=1)
ROLES = {role.label: role for role in Role}

_columns = (
    ApiKey.id,
    ApiKey.name,
    ApiKey.role,
    ApiKey.scopes,
    ApiKey.prefix,
    ApiKey.created_at,
    ApiKey.expires_at,
    ApiKey.revoked_at,
    ApiKey.previous_until,
    ApiKey.last_used_at,
    User.name.label("creator"),
    Membership.role.label("maker_role"),
)
_listed = select(*_columns).outerjoin(User, User.id == ApiKey.created_by).outerjoin(Membership, MAKER)
LIST = Keyset(_listed, order=(ApiKey.id.desc(),))
ONE = Prepared(_listed.where(ApiKey.id == bindparam("id")))


async def _find(work: UnitOfWork, digest: bytes) -> Key | None:
    """The key of this hash in the organization that the transaction acts for, in one statement."""
    row = await work.fetch_one(FIND, digest=digest)
    if row is None:
        return None
    until = None if row["is_newest"] else row["previous_until"]
    problem = why_ended(row["revoked_at"], row["expires_at"], until)
    if row["home"] is None:
        problem = "The organization of this API key was deleted."
    used = row["last_used_at"]
    unused = used is None or used <= clock.now() - NOTED_EVERY
    # Who was an admin and is one no more must not go on as one through a secret that they hold, renewed or not.
    role = min(ROLES[row["role"]], ROLES[row["holder_role"] or row["role"]])
    return Key(row["id"], role, frozenset(row["scopes"]), problem, unused, row)


async def _note_use(work: UnitOfWork, key_id: UUID) -> None:
    await work.fetch(NOTE_USE, key=key_id, now=clock.now())


KEY_STORE = KeyStore(_find, _note_use)

LISTED = Across(ApiKey, KeyListed)


@query("api_keys.list", requires=Role.ADMIN)
async def list_keys(ctx: Context, page: PageRequest) -> Page[KeyRead]:
    """Newest first; those that were ended stay, because the audit log speaks of them."""
    return await paginate(ctx, LIST, page, KeyRead)


@query("api_keys.read", requires=Role.ADMIN)
async def get_key(ctx: Context, key_id: UUID) -> KeyRead:
    row = await ctx.fetch_one(ONE, id=key_id)
    if row is None:
        raise NotFound("There is no such API key.")
    return KeyRead.model_validate(dict(row))


def offered(role: Role) -> list[str]:
    """The scopes that a person of this role may give to a key: what the API can do and they can do themselves."""
    return [scope for scope, needs in _scopes().items() if role >= needs]


@lru_cache(maxsize=1)
def _scopes() -> dict[str, Role]:
    """Scope -> the lowest role that gets anything out of it. A feature without an api.py has none; nor has it
    `:write` when its API only reads."""
    found: dict[str, Role] = {}
    for feature, module in load(FEATURES, "api"):
        methods = {method for route in module.router.routes for method in route.methods}
        for writes in (False, True):
            if not (methods - SAFE_METHODS if writes else methods & SAFE_METHODS):
                continue
            scope = scope_of(f"{feature}.", writes=writes)
            rules: list[Any] = [
                rule.requires for name, rule in RULES.items() if scope_of(name, writes=rule.writes) == scope
            ]
            if roles := [requires for requires in rules if isinstance(requires, Role)]:
                found[scope] = min(roles)
    return found


@query("api_keys.list_for_staff", requires=Who.STAFF)
async def list_keys_for_staff(ctx: Context, wanted: OfOrganization, page: Position) -> Page[KeyListed]:
    """Of all organizations or of one, newest first."""
    return await LISTED.page(ctx, wanted, page)
