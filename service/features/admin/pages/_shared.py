"""What the staff's own pages have in common."""

from __future__ import annotations

from fastapi import APIRouter

from service.core.errors import Conflict, Invalid
from service.guardrails.permissions import Who
from service.web.templating import NavItem

router = APIRouter()

NAV = [NavItem("Staff", "/staff", "settings", order=200, requires=Who.STAFF, group="Operations")]
HOME = "/staff"
REFUSALS = (Conflict, Invalid)
