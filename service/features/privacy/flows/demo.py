"""The copy in the demo: asked for when the organization is planted, so the worker's first act makes a real one."""

from __future__ import annotations

from uuid import UUID

from service.features.privacy.models import DataExport, Scope


def copy_for(user_id: UUID) -> DataExport:
    return DataExport(user_id=user_id, scope=Scope.PERSON)
