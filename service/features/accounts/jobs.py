"""What happens after the answer: mails, and forgetting sign-ups that nobody confirmed.

The queue holds ids only. The address is read when the mail is sent, and the link is made then, under an id that the
action chose: a job that runs twice sends the same working link twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select

from service.core import clock
from service.core.context import Context
from service.features.accounts import actions
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.features.accounts.models.user import UNCONFIRMED_LIFETIME
from service.guardrails import switches
from service.guardrails.jobs import Event, Retry, on, periodic
from service.guardrails.switches import Switch
from service.integrations.mail import Mail, Mailer, MailFailed
from service.web.mail import compose

PATIENT = Retry(attempts=24, first=timedelta(seconds=5))
"""Most of a day: as long as a mail server's bad day, or an operator's stop of all mail, may last."""

PATHS = {
    Purpose.VERIFY: "/verify",
    Purpose.RESET: "/reset",
    Purpose.CHANGE_EMAIL: "/change-email",
    Purpose.UNDO_DELETION: "/recover",
}

NOTICES = {
    actions.reset_password: "Your password was changed with a link that we had sent to this address.",
    actions.change_password: "Your password was changed.",
    actions.confirm_totp: "Codes from an app are now asked at every login.",
    actions.remove_totp: "Codes from an app are no longer asked when you log in.",
    actions.renew_recovery_codes: "New recovery codes were made; the old ones no longer work.",
    actions.connect_identity: "A login at another provider was connected to your account.",
    actions.disconnect_identity: "A login at another provider was disconnected from your account.",
    actions.undo_deletion: "Your account was brought back. It works as before; log in as ever.",
}


@on(actions.sign_up, retry=PATIENT)
async def mail_after_sign_up(ctx: Context, event: Event) -> None:
    """To the new person the link; to whoever has the address already the news that somebody tried."""
    user = await _person(ctx, event)
    if user is None:
        return
    if user.deleted_at is not None:
        await _mail_link(ctx, event, user, Purpose.UNDO_DELETION, "recover")
    elif user.is_verified:
        await _mail(ctx, event, user.email, "known-address")
    else:
        await _mail_link(ctx, event, user, Purpose.VERIFY, "verify")


@on(actions.request_link, retry=PATIENT)
async def mail_verification(ctx: Context, event: Event) -> None:
    user = await _person(ctx, event)
    if user is not None and not user.is_verified:
        await _mail_link(ctx, event, user, Purpose.VERIFY, "verify")


@on(actions.request_reset, retry=PATIENT)
async def mail_reset(ctx: Context, event: Event) -> None:
    user = await _person(ctx, event)
    if user is not None and user.deleted_at is None:
        await _mail_link(ctx, event, user, Purpose.RESET, "reset")


@on(actions.request_new_email, retry=PATIENT)
async def mail_new_address(ctx: Context, event: Event) -> None:
    """To the new address the link, unless it has an account: then its owner learns that somebody tried."""
    user, token = await _person(ctx, event), await _token(ctx, event)
    if user is None or token is None or token.other_email is None or not token.opens(user, Purpose.CHANGE_EMAIL):
        return
    taken = select(User.id).where(User.email == token.other_email)
    if await ctx.db.scalar(taken, execution_options={"include_deleted": True}) is not None:
        await _mail(ctx, event, token.other_email, "known-address")
    else:
        link = _address(ctx, PATHS[Purpose.CHANGE_EMAIL], token.link)
        await _mail(ctx, event, token.other_email, "new-address", link=link)


@on(actions.request_new_email, retry=PATIENT)
async def warn_present_address(ctx: Context, event: Event) -> None:
    user = await _person(ctx, event)
    if user is not None and "token_id" in event.facts:
        await _mail(
            ctx, event, user.email, "notice", what="Somebody asked to change the e-mail address of your account."
        )


@on(actions.confirm_new_email, retry=PATIENT)
async def tell_former_address(ctx: Context, event: Event) -> None:
    token = await _token(ctx, event)
    if token is not None and token.other_email is not None:
        what = "Your account has another e-mail address now. Mails no longer come here."
        await _mail(ctx, event, token.other_email, "notice", what=what)


@on(actions.delete_account, retry=PATIENT)
async def mail_way_back(ctx: Context, event: Event) -> None:
    user = await _person(ctx, event)
    if user is not None and user.deleted_at is not None:
        await _mail_link(ctx, event, user, Purpose.UNDO_DELETION, "recover")


@on(actions.request_recovery, retry=PATIENT)
async def mail_way_back_again(ctx: Context, event: Event) -> None:
    await mail_way_back(ctx, event)


def _tell(verb: Any, what: str) -> None:
    """Register one job per security-relevant act: the owner of a stolen session's account must hear of it."""

    async def tell(ctx: Context, event: Event) -> None:
        user = await _person(ctx, event)
        if user is not None:
            await _mail(ctx, event, user.email, "notice", what=what)

    tell.__name__ = tell.__qualname__ = f"tell_of_{verb.__name__}"
    on(verb, retry=PATIENT)(tell)


for _verb, _what in NOTICES.items():
    _tell(_verb, _what)


@periodic("20 3 * * *")
async def forget_unconfirmed(ctx: Context) -> None:
    """Sign-ups that nobody confirmed within a week were typing errors or somebody else's address."""
    old = User.created_at < clock.now() - UNCONFIRMED_LIFETIME
    await ctx.db.execute(delete(User).where(User.email_verified_at.is_(None), old))


async def _person(ctx: Context, event: Event) -> User | None:
    """Whom the action was about, deleted or not; None when it was about an address nobody has."""
    account = event.facts.get("account")
    if account is None:
        return None
    wanted = select(User).where(User.id == UUID(account))
    found: User | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    return found


async def _token(ctx: Context, event: Event) -> OneTimeToken | None:
    token_id = event.facts.get("token_id")
    wanted = select(OneTimeToken).where(OneTimeToken.id == (UUID(token_id) if token_id else None))
    found: OneTimeToken | None = await ctx.db.scalar(wanted)
    return found


async def _mail_link(ctx: Context, event: Event, user: User, purpose: Purpose, template: str) -> None:
    if clock.now() - datetime.fromisoformat(event.facts["asked_at"]) > purpose.lifetime:
        # Nobody waits for a link that was asked for so long ago; it would look like a fraud.
        return
    token = OneTimeToken.for_user(user, purpose, token_id=UUID(event.facts["mail_id"]))
    await _mail(ctx, event, user.email, template, link=_address(ctx, PATHS[purpose], token.link))
    # Stored after sending: the foreign key locks the person's row, and a mail server that hangs would keep it locked.
    ctx.add(token)


async def _mail(ctx: Context, event: Event, to: str, template: str, **values: str) -> None:
    """Send, or fail and be tried again later; also while an operator has stopped all mail."""
    if await switches.is_on(ctx, Switch.STOP_MAIL):
        raise MailFailed("an operator has stopped all mail")
    subject, text, html = compose(f"accounts/mail/{template}", base_url=ctx.settings.base_url.rstrip("/"), **values)
    reference = f"{template}.{event.facts['mail_id']}"
    await ctx.resources.get(Mailer).send(Mail(to, subject, text, html, reference))


def _address(ctx: Context, *parts: str) -> str:
    """From the settings, never from a request's Host header."""
    return ctx.settings.base_url.rstrip("/") + "/".join(parts)
