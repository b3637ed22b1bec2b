"""What happens after the commit: the mail with the link, and a standing check that nobody is left without an owner."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import bindparam
from sqlalchemy.orm import aliased

from service.core.context import Context
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.organizations import actions, queries
from service.features.organizations.models import Invitation, make_token, why_closed
from service.guardrails.invariants import invariant
from service.guardrails.jobs import Event, on
from service.guardrails.mailing import Reach
from service.web.mail import PATIENT, deliver, letter

LONGEST_NAME = 60
letter(
    "organizations/mail/invitation",
    Reach.NOTICE,
    organization="Northwind Traders",
    inviter="Olivia Owner",
    role="member",
    link="https://app.example/invitations/7Yt0sample",
)

invited = aliased(User)
TO_SEND = Prepared(
    queries.INVITATION.add_columns(User.name.label("inviter"), invited.id.label("person"))
    .outerjoin(User, User.id == Invitation.invited_by)
    .outerjoin(invited, invited.email == Invitation.email)
    .where(Invitation.id == bindparam("id"))
)
OWNERLESS = """
    SELECT id FROM organizations WHERE deleted_at IS NULL AND NOT EXISTS (
        SELECT FROM memberships JOIN users ON users.id = memberships.user_id
        WHERE memberships.organization_id = organizations.id AND memberships.role = 'owner' AND users.deleted_at IS NULL
    ) LIMIT 20
"""


@on(actions.invite, key="object_id", retry=PATIENT)
async def mail_invitation(ctx: Context, event: Event) -> None:
    await _send(ctx, event)


@on(actions.resend_invitation, key="object_id", retry=PATIENT)
async def mail_invitation_again(ctx: Context, event: Event) -> None:
    await _send(ctx, event)


async def _send(ctx: Context, event: Event) -> None:
    """The link as it is now: an invitation that was revoked or renewed in between sends nothing stale."""
    row = await ctx.fetch_one(TO_SEND, id=event.object_id)
    if row is None or why_closed(row["accepted_at"], row["revoked_at"], row["expires_at"]):
        return
    await deliver(
        ctx,
        row["email"],
        "organizations/mail/invitation",
        f"invitation.{row['id']}.{row['sendings']}",
        row["person"],
        organization=_harmless(row["organization"]),
        inviter=_harmless(row["inviter"] or "Somebody"),
        role=row["role"],
        link=f"{ctx.settings.base_url.rstrip('/')}/invitations/{make_token(row['id'], row['sendings'])}",
    )


def _harmless(name: str) -> str:
    """A name as it may stand in a mail to a stranger: no address in it that a mailbox would turn into a link.

    Free sign-up and free choice of a name would otherwise make us a sender of other people's advertising.
    """
    return " ".join(re.sub(r"[^\w&'()-]", " ", name).split())[:LONGEST_NAME]


@invariant("organizations_have_an_owner", "Every organization that is not deleted has an owner who can log in.")
async def find_ownerless(ctx: Context) -> Sequence[object]:
    return [str(row["id"]) for row in await ctx.work.raw.fetch(OWNERLESS)]
