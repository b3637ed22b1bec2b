"""Name and address. A new address counts after its owner has confirmed it; the old one is told."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.accounts.actions._shared import DEAD_LINK, act_as, announce_mail, lock_person, may_mail, open_link
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.guardrails.actions import action
from service.guardrails.permissions import Who


@action("accounts.change_name", requires=Who.SIGNED_IN)
async def change_name(ctx: Context, name: str) -> User:
    user = await lock_person(ctx)
    user.name = name
    return user


@action("accounts.request_new_email", requires=Who.SIGNED_IN, step_up=True)
async def request_new_email(ctx: Context, email: str) -> None:
    """Send a link to the new address; the answer is the same when another account has it, whose owner is told."""
    user = await lock_person(ctx)
    if email == user.email:
        raise Invalid("Nothing to change.", fields={"email": "This is your address already."})
    if await may_mail(ctx, email):
        token = OneTimeToken.for_user(user, Purpose.CHANGE_EMAIL, other_email=email)
        ctx.add(token)
        announce_mail(ctx, user.id)
        ctx.facts["token_id"] = str(token.id)


@action("accounts.confirm_new_email", requires=Who.ANYONE)
async def confirm_new_email(ctx: Context, link: str) -> User:
    """The new address becomes the address; by the link alone, whoever reads that mailbox is its owner."""
    token, user = await open_link(ctx, link, Purpose.CHANGE_EMAIL)
    if token.other_email is None:
        raise Invalid(DEAD_LINK)
    user.email, token.other_email = token.other_email, user.email
    user.verify_email()
    token.use()
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        raise Conflict("Another account has this address by now.", mend="Log in to that one instead.") from error
    act_as(ctx, user)
    announce_mail(ctx, user.id)
    ctx.facts["token_id"] = str(token.id)
    return user
