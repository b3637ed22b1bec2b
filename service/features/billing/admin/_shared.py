"""What the staff's pages on billing have in common."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from service.core.errors import Conflict, Invalid
from service.core.schemas import Input, Line

router = APIRouter()

HOME, INBOX, DEAD, CUSTOMERS = (f"/staff/billing{rest}" for rest in ("", "/inbox", "/dead", "/customers"))
REFUSALS = (Conflict, Invalid)


class Why(Input):
    reason: Annotated[Line, StringConstraints(min_length=3, max_length=200)] = Field(
        title="Reason", description="It stands in the log beside your name."
    )
