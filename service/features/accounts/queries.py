"""Reads: the acting person's own account. Nothing here answers about anybody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, func, select

from service.core.context import Context
from service.core.errors import Conflict, NotAuthenticated
from service.core.ids import uuid_in
from service.core.statements import Prepared, context_user, prefix
from service.features.accounts.models import ExternalIdentity, OneTimeToken, Purpose, RecoveryCode, User, totp
from service.features.accounts.schemas import PeopleWanted, PersonListed
from service.guardrails import sessions
from service.guardrails.actions import query
from service.guardrails.mailing import Cause, MailSuppression, hash_of
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Who, demand
from service.guardrails.sessions import Device

KNOWN = Prepared(
    select(User.id, User.email_verified_at, User.deleted_at).where(User.email == bindparam("email")),
    include_deleted=True,
)
"""For actions that must do the same for unknown addresses: one cheap statement, with or without an answer."""

ACCOUNT = Prepared(
    select(
        User.name,
        User.email,
        User.password_hash.is_not(None).label("has_password"),
        User.totp_confirmed_at.is_not(None).label("has_totp"),
        select(func.count())
        .select_from(RecoveryCode)
        .where(RecoveryCode.user_id == User.id, RecoveryCode.used_at.is_(None))
        .scalar_subquery()
        .label("codes_left"),
        ExternalIdentity.id.label("identity_id"),
    )
    .outerjoin(ExternalIdentity, ExternalIdentity.user_id == User.id)
    .where(User.id == context_user())
    .limit(1)
)


_listed = select(
    User.id, User.email, User.name, User.email_verified_at, User.deleted_at, User.is_staff, User.created_at
)
PEOPLE = Keyset(_listed, order=(User.id.desc(),), include_deleted=True)
PERSON = Keyset(_listed.where(User.id == bindparam("id")), order=(User.id.desc(),), include_deleted=True)
# Between the beginning and what comes after all that begins so: the index on the address serves it.
BY_ADDRESS = Keyset(
    _listed.where(User.email >= bindparam("low"), User.email < bindparam("high")),
    order=(User.email.asc(),),
    include_deleted=True,
)

PROBLEMS = Prepared(
    select(MailSuppression.cause, MailSuppression.code, MailSuppression.seen_at)
    .where(MailSuppression.address_hash == bindparam("address_hash"), MailSuppression.lifted_at.is_(None))
    .order_by(MailSuppression.seen_at.desc())
)


@dataclass(frozen=True, slots=True)
class MailProblem:
    """Why mail does not reach the asking person's address, and since when."""

    cause: Cause
    code: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class AccountView:
    name: str
    email: str
    has_password: bool
    has_totp: bool
    codes_left: int
    identity_id: UUID | None
    mail_problems: list[MailProblem]


@dataclass(frozen=True, slots=True)
class TotpOffer:
    """What the person scans or types into the app."""

    uri: str
    picture: str
    secret: str


@query("accounts.get", requires=Who.SIGNED_IN)
async def get_account(ctx: Context) -> AccountView:
    row = await ctx.fetch_one(ACCOUNT)
    if row is None:
        raise NotAuthenticated("This session has ended.")
    problems = await ctx.fetch(PROBLEMS, address_hash=hash_of(row["email"]))
    why = [MailProblem(Cause(one["cause"]), one["code"], one["seen_at"]) for one in problems]
    return AccountView(**row, mail_problems=why)


@query("accounts.get_totp_offer", requires=Who.SIGNED_IN, while_impersonated=False)
async def get_totp_offer(ctx: Context) -> TotpOffer:
    """The secret that waits for its confirmation, after a fresh proof; once confirmed it is never shown again."""
    demand(ctx, "accounts.get_totp_offer", Who.SIGNED_IN, step_up=True)
    user = await ctx.get(User, ctx.user_id, lock=False)
    if user.totp_secret is None or user.has_totp:
        raise Conflict("There is nothing to set up.", mend="Begin on the security page.")
    secret = user.shown_totp_secret()
    uri = totp.provisioning_uri(secret, account=user.email)
    text = secret.decode()
    return TotpOffer(uri, totp.qr_code(uri), " ".join(text[start : start + 4] for start in range(0, len(text), 4)))


@query("accounts.list_devices", requires=Who.SIGNED_IN, while_impersonated=False)
async def list_devices(ctx: Context) -> list[Device]:
    if ctx.login is None:
        raise NotAuthenticated("This needs a login.")
    return await sessions.devices(ctx.resources, ctx.login)


@query("accounts.list_people", requires=Who.STAFF)
async def list_people(ctx: Context, wanted: PeopleWanted, page: Position) -> Page[PersonListed]:
    """Everybody, newest first; or by id, or by the beginning of an address."""
    if not wanted.q:
        return await paginate(ctx, PEOPLE, page, PersonListed)
    if (known := uuid_in(wanted.q)) is not None:
        return await paginate(ctx, PERSON, page, PersonListed, id=known)
    return await paginate(ctx, BY_ADDRESS, page, PersonListed, **prefix(wanted.q.lower()))


@query("accounts.get_link_owner", requires=Who.ANYONE)
async def get_link_owner(ctx: Context, link: str, purpose: Purpose) -> str | None:
    """The address of whoever a mailed link would still work for, to tell early when it does not; uses nothing up."""
    token_id = OneTimeToken.id_in(link)
    if token_id is None:
        return None
    wanted = select(OneTimeToken, User).join(User, User.id == OneTimeToken.user_id).where(OneTimeToken.id == token_id)
    found = (await ctx.db.execute(wanted, execution_options={"include_deleted": True})).one_or_none()
    if found is None:
        return None
    token, user = found
    gone = user.deleted_at is not None and purpose is not Purpose.UNDO_DELETION
    return user.email if token.opens(user, purpose) and not gone else None
