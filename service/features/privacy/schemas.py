"""What pages show."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from service.core import clock
from service.core.schemas import Output
from service.features.privacy.models import Scope, State


class ExportRead(Output):
    id: UUID
    scope: Scope
    state: State
    asked_at: datetime
    done: int
    parts: int
    rows: int
    size: int
    missing: list[str]
    remark: str
    expires_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.state in (State.WAITING, State.BUILDING)

    @property
    def is_ready(self) -> bool:
        """Also when the worker has not yet noticed that its time is over."""
        return self.state is State.READY and self.expires_at is not None and self.expires_at > clock.now()

    @property
    def word(self) -> str:
        return State.EXPIRED.value if self.state is State.READY and not self.is_ready else self.state.value

    @property
    def share(self) -> int:
        return round(100 * self.done / self.parts) if self.parts else 0
