"""What the demo knows of help from our side: a visit of last week, and emergency rights that a colleague reviewed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from service.core import clock
from service.features.accounts.models.credentials import hash_recovery_code, new_recovery_code
from service.features.support.models import SupportVisit
from service.guardrails.break_glass import BreakGlassGrant


def visit_of(staff_id: UUID, person_id: UUID) -> SupportVisit:
    """Over for days; the organization's owner sees it under support access."""
    began = clock.now() - timedelta(days=6)
    return SupportVisit(
        person_id=person_id, staff_id=staff_id, reason="Ticket 4702: the import reads the wrong column",
        began_at=began, ends_at=began + timedelta(minutes=15), ended_at=began + timedelta(minutes=9),
    )  # fmt: skip


def grant_of(user_id: UUID, reviewer_id: UUID) -> BreakGlassGrant:
    """Closed, noted from a shell and confirmed: an open one would page somebody, one that waits would ask for it."""
    opened = clock.now() - timedelta(days=20)
    return BreakGlassGrant(
        user_id=user_id, reason="Staff cannot log in while the provider of telephones is away", opened_at=opened,
        ends_at=opened + timedelta(hours=1), closed_at=opened + timedelta(minutes=25),
        code_hash=hash_recovery_code(new_recovery_code()), recorded_at=opened + timedelta(hours=2),
        reviewed_at=opened + timedelta(hours=20), reviewed_by=reviewer_id,
        review="Looked at two organizations on the system page, entered none. As agreed.",
    )  # fmt: skip
