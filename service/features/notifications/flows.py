"""`notify`: the one way to tell people something, for every feature.

    IMPORT_FINISHED = Kind("import_finished", "An import of yours is done")     # once, in models.py or jobs.py
    await notify(ctx, IMPORT_FINISHED, "412 readings were imported.", href=f"/files/{file.id}", user_ids=[file.owner])

Call it in a job, or in an action: it writes in the caller's transaction and is taken back with it. Only members of the
acting organization are told, and nobody who switched the kind off.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from service.core import clock
from service.core.context import Context
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.notifications.models import Kind
from service.guardrails.permissions import Role

TOLD = PreparedText("""
    WITH told AS (
        SELECT memberships.user_id, coalesce(choice.channel, :usual) AS channel
        FROM memberships
        JOIN users ON users.id = memberships.user_id AND users.deleted_at IS NULL
        LEFT JOIN notification_choices AS choice ON choice.user_id = memberships.user_id AND choice.kind = :kind
        WHERE memberships.organization_id = :context_tenant
            AND (memberships.role = ANY(CAST(:roles AS text[])) OR memberships.user_id = ANY(CAST(:people AS uuid[])))
            AND coalesce(choice.channel, :usual) <> 'off'

    ), added AS (
        INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)
        SELECT gen_random_uuid(), :context_tenant, user_id, :kind, :text, :href, :key, :now FROM told
        ON CONFLICT (organization_id, user_id, kind, key) DO NOTHING
        RETURNING id, user_id
    )
    SELECT added.id, added.user_id, told.channel FROM added JOIN told USING (user_id)
""")


async def notify(
    ctx: Context,
    kind: Kind,
    text: str,
    *,
    href: str,
    user_ids: Sequence[UUID] = (),
    role: Role | None = None,
    key: str = "",
) -> int:
    """Tell these people, and everybody from `role` on; how many had not heard of it.

    `href` is the page of ours where they see more. With a `key` the same news is told to a person once, ever: a job
    that runs twice, or a source that goes on failing, says it once.
    """
    told = await ctx.fetch(
        TOLD,
        usual=kind.usual.value,
        kind=kind.name,
        roles=[each.label for each in Role if role is not None and each >= role],
        people=list(user_ids),
        text=text[:300],
        href=href,
        key=key or str(new_id()),
        now=clock.now(),
    )
    return len(told)
