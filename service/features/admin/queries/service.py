"""Reads for staff: how the service is doing. No customer's data is among it."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_address
from uuid import UUID

from sqlalchemy import bindparam, literal_column, or_, select

from service.core.context import Context
from service.core.errors import Invalid
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.admin.schemas import (
    MEANING,
    DeclaredFlag,
    FlagRead,
    FlagsWanted,
    LimitsOf,
    LimitsSearch,
    SwitchRow,
    Turn,
)
from service.features.api_keys.models import ApiKey
from service.features.organizations.models import Organization
from service.guardrails import entitlements, limit_lookup
from service.guardrails.actions import query
from service.guardrails.addresses import region_of
from service.guardrails.api_keys import SHOWN
from service.guardrails.audit import AuditRow
from service.guardrails.entitlements import Feature
from service.guardrails.feature_flags import FLAGS, OrganizationFlag
from service.guardrails.jobs import dead
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Who
from service.guardrails.switches import SwitchState
from service.web.dead_letters import Letter, Lists, Sought
from service.web.staff_lists import InCode, OfOrganization

TURNS_SHOWN = 50
JOBS = Lists(dead.LETTERS, order=dead.ORDER, name=dead.QUEUE.c.entrypoint, identifier=dead.QUEUE.c.id)
SWITCHES = Prepared(select(SwitchState.name, SwitchState.is_on, SwitchState.reason, SwitchState.changed_at))
TURNS = Prepared(
    select(AuditRow.at, AuditRow.reason, AuditRow.facts, User.name.label("who"))
    .outerjoin(User, User.id == AuditRow.actor_id)
    .where(AuditRow.organization_id.is_(None), AuditRow.action == "admin.turn_switch", AuditRow.outcome == "done")
    .order_by(AuditRow.id.desc())
    .limit(literal_column(str(TURNS_SHOWN))),
    across_tenants=True,
    include_deleted=True,
)
"""What belongs to no organization's log; a policy shows it to staff alone."""
ACCOUNT = Prepared(
    select(User.id, User.email).where(or_(User.id == bindparam("id"), User.email == bindparam("email"))),
    include_deleted=True,
)
ORGANIZATION = Prepared(select(Organization.id).where(Organization.id == bindparam("id")))
KEYS = Prepared(
    select(ApiKey.id, ApiKey.secret_hash).where(ApiKey.prefix == bindparam("prefix")).limit(literal_column("20")),
    across_tenants=True,
)
_turned = select(
    OrganizationFlag.organization_id,
    OrganizationFlag.name.label("flag"),
    OrganizationFlag.is_on,
    OrganizationFlag.changed_at,
)
TURNED, TURNED_OF = (
    Keyset(each, order=(OrganizationFlag.organization_id.asc(), OrganizationFlag.name.asc()), across_tenants=True)
    for each in (_turned, _turned.where(OrganizationFlag.organization_id == bindparam("organization_id")))
)
DECLARED = InCode[DeclaredFlag]("flags", lambda one: one.flag)


@query("admin.list_switches", requires=Who.STAFF)
async def list_switches(ctx: Context) -> list[SwitchRow]:
    """Every switch there is, with who turned it and why."""
    turned = {row["name"]: row for row in await ctx.fetch(SWITCHES)}
    history: dict[str, list[Turn]] = defaultdict(list)
    for row in await ctx.fetch(TURNS):
        facts = row["facts"]
        turn = Turn(row["at"], row["who"] or "somebody who is gone", bool(facts.get("on", True)), row["reason"])
        history[facts["switch"]].append(turn)
    return [
        SwitchRow(
            switch=switch,
            title=title,
            meaning=meaning,
            is_on=row["is_on"] if (row := turned.get(switch)) else False,
            reason=row["reason"] if row else "",
            changed_at=row["changed_at"] if row else None,
            history=history[switch],
        )
        for switch, (title, meaning) in MEANING.items()
    ]


@query("admin.limits_of", requires=Who.STAFF)
async def limits_of(ctx: Context, wanted: LimitsSearch) -> LimitsOf:
    """Every bucket that the rate limits may keep for an address, an account, an organization or an API key.

    An e-mail that has no account has buckets, too: guessing at it is counted. Raises Invalid for what cannot be one.
    """
    sought, resources = wanted.q, ctx.resources
    if wanted.kind == "address":
        try:
            address = str(ip_address(sought))
        except ValueError:
            raise _nothing("This is no IP address.") from None
        return LimitsOf(f"address in {region_of(address)}", limit_lookup.of_address(resources, address))
    if wanted.kind == "account":
        row = await ctx.fetch_one(ACCOUNT, id=_uuid(sought), email=sought.lower())
        if row is None and "@" not in sought:
            raise _nothing("No account has this id; an e-mail may be looked up without one.")
        email = row["email"] if row else sought
        known = await limit_lookup.of_account(resources, row["id"] if row else None, email)
        return LimitsOf(
            f"account {row['id']}" if row else "an address without an account", known, row["id"] if row else None
        )
    if wanted.kind == "key":
        keys = await ctx.fetch(KEYS, prefix=sought)
        if not keys:
            raise _nothing(f"No API key begins like this. It takes the first {SHOWN} characters, blst_ included.")
        known = [one for key in keys for one in limit_lookup.of_key(resources, key["secret_hash"])]
        return LimitsOf(f"API key {' and '.join(str(key['id']) for key in keys)}", known)
    organization = _uuid(sought)
    await ctx.work.act_for(tenant=organization, user=ctx.user_id)
    found = await ctx.fetch_one(ORGANIZATION, id=organization)
    rate = (await entitlements.of(ctx)).limits[Feature.API_PER_MINUTE]
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    if organization is None or found is None:
        raise _nothing("No organization has this id.")
    return LimitsOf(f"organization {organization}", limit_lookup.of_organization(resources, organization, rate))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _nothing(sentence: str) -> Invalid:
    return Invalid(sentence, fields={"q": sentence})


@query("admin.list_flags", requires=Who.STAFF)
async def list_flags(ctx: Context, wanted: OfOrganization, page: Position) -> Page[FlagRead]:
    """Every organization that was turned one way or the other, or one, of every flag."""
    if wanted.organization_id is None:
        return await paginate(ctx, TURNED, page, FlagRead)
    return await paginate(ctx, TURNED_OF, page, FlagRead, organization_id=wanted.organization_id)


@query("admin.list_declared_flags", requires=Who.STAFF)
async def list_declared_flags(ctx: Context, wanted: FlagsWanted, page: Position) -> Page[DeclaredFlag]:
    """What each does, and until when; all, or those of which the words say something."""
    known = [
        DeclaredFlag(
            flag=flag.value,
            description=about.description,
            decides=about.owner,
            default="on" if about.default else "off",
            ends=str(about.ends_on),
        )
        for flag, about in FLAGS.items()
    ]
    words = wanted.q.lower()
    return DECLARED.page((one for one in known if words in f"{one.flag} {one.description}".lower()), page)


@query("admin.list_dead_jobs", requires=Who.STAFF)
async def list_dead_jobs(ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
    """Newest first, without what they carry."""
    return await JOBS.page(ctx, wanted, page)


@query("admin.count_dead_jobs", requires=Who.STAFF)
async def count_dead_jobs(ctx: Context) -> int:
    return await JOBS.count(ctx)
