"""What happens after the answer: mails, and forgetting sign-ups that nobody confirmed.

Two steps, so that a link is stored before it is sent: the action's own job decides who gets what and makes the link,
`send_mail` sends it, again and again until the server has taken it. The queue holds ids only; the address is read when
the mail is sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import delete, select

from service.core import clock
from service.core.context import Context
from service.core.ids import new_id
from service.features.accounts import actions
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.features.accounts.models.user import UNCONFIRMED_LIFETIME
from service.features.accounts.queries import KNOWN
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on, periodic
from service.guardrails.mailing import Reach
from service.web.mail import PATIENT, deliver, letter

LINKS = {
    Purpose.VERIFY: ("verify", "/verify"),
    Purpose.RESET: ("reset", "/reset"),
    Purpose.CHANGE_EMAIL: ("new-address", "/change-email"),
    Purpose.UNDO_DELETION: ("recover", "/recover"),
}
"""Template and path of each kind of link."""
TEMPLATES_WITH_LINK = {template for template, _ in LINKS.values()}
M = TypeVar("M", User, OneTimeToken)

NOTICES = {
    "accounts.reset_password": "Your password was changed with a link that we had sent to this address.",
    "accounts.change_password": "Your password was changed.",
    "accounts.confirm_totp": "Codes from an app are now asked at every login.",
    "accounts.remove_totp": "Codes from an app are no longer asked when you log in.",
    "accounts.renew_recovery_codes": "New recovery codes were made; the old ones no longer work.",
    "accounts.connect_identity": "A login at another provider was connected to your account.",
    "accounts.disconnect_identity": "A login at another provider was disconnected from your account.",
    "accounts.undo_deletion": "Your account was brought back. It works as before; log in as ever.",
    "accounts.request_new_email": "Somebody asked to change the e-mail address of your account.",
    "accounts.end_session_of": "Our support logged you out on one of your devices.",
    "accounts.end_sessions_of": "Our support logged you out everywhere.",
    "accounts.reset_totp_of": "Our support switched off codes from an app, because somebody said that they were lost. "
    "If that was not you, write to us at once.",
    "accounts.confirm_address_of": "Our support confirmed that this address is yours. You can log in now.",
    "accounts.lock": "Our support locked your account: nobody can log in to it. Write to us to learn why.",
    "accounts.unlock": "Our support unlocked your account. Log in as ever.",
    "accounts.recover": "Our support brought your deleted account back. It works as before; log in as ever.",
    "accounts.confirm_new_email": "Your account has another e-mail address now. Mails no longer come here.",
}
APP = "https://app.example"
for _name, _path in LINKS.values():
    letter(f"accounts/mail/{_name}", Reach.ASKED, base_url=APP, link=f"{APP}{_path}/7Yt0sample", what="")
letter("accounts/mail/known-address", Reach.ASKED, base_url=APP, link="", what="")
letter("accounts/mail/notice", Reach.MUST, base_url=APP, link="", what=NOTICES["accounts.change_password"])


@job(retry=PATIENT)
async def send_mail(
    ctx: Context, template: str, mail_id: UUID, user_id: UUID, token_id: UUID | None = None, what: str = ""
) -> None:
    """Send one mail, or fail and be tried again later; also while an operator has stopped all mail.

    Goes to the person, but to the other address of the token where that has one. `mail_id` names the mail itself, so
    that a mailbox can tell a repetition.
    """
    user, token = await _get(ctx, User, user_id), await _get(ctx, OneTimeToken, token_id)
    if user is None or (token is not None and template in TEMPLATES_WITH_LINK and token.is_over):
        # Purged in the meantime, or so late that nobody waits for it: a dead link would only look like a fraud.
        return
    base_url = ctx.settings.base_url.rstrip("/")
    link = f"{base_url}{LINKS[token.purpose][1]}/{token.link}" if token is not None else ""
    to = token.other_email if token is not None and token.other_email else user.email
    values = {"base_url": base_url, "link": link, "what": NOTICES.get(what, "")}
    await deliver(ctx, to, f"accounts/mail/{template}", f"{template}.{mail_id}", **values)


@on(actions.sign_up)
async def answer_sign_up(ctx: Context, event: Event) -> None:
    """To the new person the link; to whoever has the address already the news that somebody tried."""
    user = await _person(ctx, event)
    if user is None:
        return
    if user.is_verified and user.deleted_at is None:
        await _send(ctx, "known-address", user)
    else:
        await _send_link(ctx, event, user, Purpose.UNDO_DELETION if user.deleted_at else Purpose.VERIFY)


@on(actions.request_link)
async def send_requested_link(ctx: Context, event: Event) -> None:
    """Only what fits the account as it is now: nothing to confirm, nobody deleted, nobody there: no mail."""
    user, purpose = await _person(ctx, event), Purpose(event.facts["purpose"])
    if user is None or (purpose is Purpose.UNDO_DELETION) != (user.deleted_at is not None):
        return
    if purpose is not Purpose.VERIFY or not user.is_verified:
        await _send_link(ctx, event, user, purpose)


@on(actions.send_reset_link)
async def send_reset_link(ctx: Context, event: Event) -> None:
    """Asked for by staff; the link goes to the account's address all the same."""
    user = await _person(ctx, event)
    if user is not None and user.deleted_at is None:
        await _send_link(ctx, event, user, Purpose.RESET)


@on(actions.delete_account)
async def send_way_back(ctx: Context, event: Event) -> None:
    user = await _person(ctx, event)
    if user is not None and user.deleted_at is not None:
        await _send_link(ctx, event, user, Purpose.UNDO_DELETION)


@on(actions.request_new_email)
async def ask_new_address(ctx: Context, event: Event) -> None:
    """The link to the new address, unless it has an account: then its owner learns that somebody tried."""
    user, token = await _person(ctx, event), await _get(ctx, OneTimeToken, event.facts.get("token_id"))
    if user is None or token is None:
        return
    known = await ctx.fetch_one(KNOWN, email=token.other_email)
    taken = known is not None and (known["email_verified_at"] or known["deleted_at"])
    await _send(ctx, "known-address" if taken else "new-address", user, token)
    await _send(ctx, "notice", user, what=event.action)


@on(actions.confirm_new_email)
async def tell_former_address(ctx: Context, event: Event) -> None:
    user, token = await _person(ctx, event), await _get(ctx, OneTimeToken, event.facts.get("token_id"))
    if user is not None:
        await _send(ctx, "notice", user, token, what=event.action)


def _tell_of(verb: Any) -> None:
    """Register one job per security-relevant act: the owner of a stolen session's account must hear of it."""

    async def tell(ctx: Context, event: Event) -> None:
        user = await _person(ctx, event)
        if user is not None:
            await _send(ctx, "notice", user, what=event.action)

    tell.__name__ = tell.__qualname__ = f"tell_of_{verb.__name__}"
    on(verb)(tell)


for _verb in (
    actions.reset_password,
    actions.change_password,
    actions.confirm_totp,
    actions.remove_totp,
    actions.renew_recovery_codes,
    actions.connect_identity,
    actions.disconnect_identity,
    actions.undo_deletion,
    actions.end_session_of,
    actions.end_sessions_of,
    actions.reset_totp_of,
    actions.confirm_address_of,
    actions.lock,
    actions.unlock,
    actions.recover,
):
    _tell_of(_verb)


@periodic("20 3 * * *")
async def forget_unconfirmed(ctx: Context) -> None:
    """Sign-ups that nobody confirmed within a week were typing errors or somebody else's address."""
    old = User.created_at < clock.now() - UNCONFIRMED_LIFETIME
    await ctx.db.execute(delete(User).where(User.email_verified_at.is_(None), old))


async def _person(ctx: Context, event: Event) -> User | None:
    """Whom the action was about, deleted or not; None when it was about an address nobody has."""
    return await _get(ctx, User, event.facts.get("account"))


async def _get(ctx: Context, model: type[M], identifier: Any) -> M | None:
    if identifier is None:
        return None
    wanted = select(model).where(model.id == UUID(str(identifier)))
    found: M | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    return found


async def _send_link(ctx: Context, event: Event, user: User, purpose: Purpose) -> None:
    if clock.now() - datetime.fromisoformat(event.facts["asked_at"]) > purpose.lifetime:
        # The worker was away for so long that nobody waits any more.
        return
    token = OneTimeToken.for_user(user, purpose)
    ctx.add(token)
    await ctx.db.flush()
    await _send(ctx, LINKS[purpose][0], user, token)


async def _send(ctx: Context, template: str, user: User, token: OneTimeToken | None = None, *, what: str = "") -> None:
    token_id = token.id if token is not None else None
    await jobs.enqueue(
        ctx, send_mail, template=template, mail_id=new_id(), user_id=user.id, token_id=token_id, what=what
    )
