"""Coming in and going out. Whether an address is known shows in no answer: not in its bytes, not in its time."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update

from service.core import clock
from service.core.context import Context
from service.core.errors import Invalid, NotAuthenticated
from service.features.accounts import queries
from service.features.accounts.actions import _shared as shared
from service.features.accounts.actions._shared import Browser, Entrance
from service.features.accounts.models import Purpose, RecoveryCode, User
from service.features.accounts.models.credentials import hash_recovery_code
from service.features.accounts.models.passwords import check_password, hash_password
from service.features.accounts.schemas import LogIn, SignUp
from service.guardrails import break_glass, sessions
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.guardrails.rate_limits import LOGIN, SECOND_FACTOR, SIGN_UP, refund, spend

WRONG = (
    "This address and password do not fit together. "
    "If you have just signed up, first open the link in the mail that we sent you."
)


@action("accounts.sign_up", requires=Who.ANYONE)
async def sign_up(ctx: Context, given: SignUp) -> None:
    """Ask for an account. It opens after its address was confirmed; a known address gets a mail that says so."""
    await shared.refuse_while_sign_ups_stopped(ctx)
    password = given.password.get_secret_value()
    shared.refuse_weak("password", password, given.email, given.name)
    await spend(ctx.resources, SIGN_UP)
    hashed = await hash_password(password)
    known = await ctx.fetch_one(queries.KNOWN, email=given.email)
    # One statement whether the address is new, waits for its confirmation (the latest sign-up counts) or is taken
    # (nothing happens): the same work each time, and of two sign-ups at once only one makes the row.
    account = await shared.register(
        ctx, email=given.email, name=given.name, password_hash=hashed, password_changed_at=clock.now()
    )
    wanted = await shared.may_mail(ctx, given.email)
    account = account or (known["id"] if known else None)
    shared.announce_mail(ctx, account if wanted else None)


@action("accounts.request_link", requires=Who.ANYONE)
async def request_link(ctx: Context, email: str, purpose: Purpose) -> None:
    """Mail a link: to confirm the address, to choose another password, to bring a deleted account back.

    Whether there is anybody to send it to is decided by the job; here nothing differs, and the answer never tells.
    """
    known = await ctx.fetch_one(queries.KNOWN, email=email)
    wanted = await shared.may_mail(ctx, email)
    shared.announce_mail(ctx, known["id"] if known and wanted else None)
    ctx.facts["purpose"] = purpose.value


@action("accounts.confirm_address", requires=Who.ANYONE)
async def confirm_address(ctx: Context, link: str, password: str, browser: Browser) -> Entrance:
    """Open the account with the mailed link AND the password of the sign-up, and log in.

    The link alone is not enough: somebody may have signed up with another person's address, hoping that they click.
    """
    token, user = await shared.open_link(ctx, link, Purpose.VERIFY)
    await _prove_password(ctx, user, user.email, password, browser)
    token.use()
    user.verify_email()
    return await shared.enter(ctx, user, ("password",), browser)


@action("accounts.log_in", requires=Who.ANYONE, while_read_only=True)
async def log_in(ctx: Context, given: LogIn, browser: Browser) -> Entrance:
    """Check address and password; an unconfirmed account answers like a wrong password, or it would tell who exists."""
    user = await shared.find_by_email(ctx, given.email)
    await _prove_password(ctx, user, given.email, given.password.get_secret_value(), browser, confirmed=True)
    assert user is not None  # noqa: S101 - nobody's password never matches
    return await shared.enter(ctx, user, ("password",), browser, remember=given.remember)


@action("accounts.log_in_with_code", requires=Who.ANYONE, while_read_only=True)
async def log_in_with_code(ctx: Context, waiting: Entrance, code: str, browser: Browser) -> Entrance:
    """The second step: a code from the app, or a recovery code. Each works once."""
    await spend(ctx.resources, SECOND_FACTOR, subject=str(waiting.user_id), address=ctx.caller.address)
    user = await ctx.db.scalar(select(User).where(User.id == waiting.user_id).with_for_update())
    if user is None or user.session_epoch != waiting.epoch:
        raise NotAuthenticated("This login has expired.", mend="Begin again.")
    method = "totp" if user.use_totp(code) else "recovery" if await _use_recovery_code(ctx, user.id, code) else None
    if method is None and await break_glass.use_code(ctx, user.id, hash_recovery_code(code)):
        method = break_glass.METHOD
    if method is None:
        ctx.note("accounts.log_in", "failed", account=str(user.id), step="code")
        raise Invalid("Wrong code.", fields={"code": "This code is wrong or was used before. Wait for the next one."})
    await refund(ctx.resources, SECOND_FACTOR, subject=str(waiting.user_id), address=ctx.caller.address)
    return await shared.enter(ctx, user, (*waiting.methods, method), browser, remember=waiting.remember)


@action("accounts.reset_password", requires=Who.ANYONE)
async def reset_password(ctx: Context, link: str, password: str) -> None:
    """Choose another password with the mailed link. Proves the address, too; the second factor is still asked."""
    token, user = await shared.open_link(ctx, link, Purpose.RESET)
    shared.refuse_weak("password", password, user.email, user.name)
    user.set_password(await hash_password(password))
    user.verify_email()
    token.use()
    shared.act_as(ctx, user)
    await shared.forget_sessions(ctx, user)
    shared.announce_mail(ctx, user.id)


@action("accounts.log_out", requires=Who.SIGNED_IN, while_read_only=True)
async def log_out(ctx: Context) -> None:
    await sessions.end(ctx.resources, shared.signed_in(ctx))


async def _prove_password(
    ctx: Context, user: User | None, email: str, password: str, browser: Browser, *, confirmed: bool = False
) -> None:
    """Count the attempt first and take it back on success, so that parallel guesses cannot outrun the count."""
    await spend(ctx.resources, LOGIN, subject=email, address=ctx.caller.address, device=browser.device)
    matches, renewed = await check_password(password, user.password_hash if user else None)
    if user is None or not matches or (confirmed and not user.is_verified):
        ctx.note("accounts.log_in", "failed", account=str(user.id) if user else None, step="password")
        raise Invalid(WRONG)
    await refund(ctx.resources, LOGIN, subject=email, address=ctx.caller.address, device=browser.device)
    if renewed:
        # Only over the hash that was checked: somebody may have changed the password while argon2 ran.
        same = update(User).where(User.id == user.id, User.password_hash == user.password_hash)
        await ctx.db.execute(same.values(password_hash=renewed), execution_options={"synchronize_session": False})
    shared.act_as(ctx, user)


async def _use_recovery_code(ctx: Context, user_id: UUID, code: str) -> bool:
    wanted = select(RecoveryCode).where(
        RecoveryCode.user_id == user_id,
        RecoveryCode.code_hash == hash_recovery_code(code),
        RecoveryCode.used_at.is_(None),
    )
    found = await ctx.db.scalar(wanted.with_for_update())
    if found is None:
        return False
    found.used_at = clock.now()
    return True
