"""What stands above every page while something is not as usual; empty when all is well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.core import clock
from service.core.context import Access, Entitlements
from service.guardrails.switches import Switch


def paused(state: Mapping[str, Any]) -> str:
    switches = state.get("switches") or {}
    if Switch.READ_ONLY not in switches:
        return ""
    reason = switches[Switch.READ_ONLY]
    return f"Changes are paused{f': {reason}' if reason else ''}. Reading works as always."


def mail_late(state: Mapping[str, Any]) -> str:
    """Only where the request asked for it: guardrails.contexts does for admins, owners and staff."""
    if "mail_late" not in state:
        return ""
    if Switch.STOP_MAIL in (state.get("switches") or {}):
        return "Mail is stopped for the moment: invitations and links arrive later. Nothing is lost."
    late: datetime | None = state["mail_late"]
    if late is None:
        return ""
    return f"Mail is late: none has left since {late:%H:%M} UTC. It waits, and leaves by itself. Nothing is lost."


def due(state: Mapping[str, Any]) -> str:
    held: Entitlements | None = state.get("entitlements")
    if held is None or held.full_until is None:
        return ""
    if held.access(clock.now()) is Access.READ_ONLY:
        return "This organization is read-only, because a payment is due. Nothing is lost, and reading works as always."
    return f"A payment is due. Everything works until {held.full_until:%-d %B %Y}; after that, only reading does."
