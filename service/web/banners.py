"""What stands above every page while something is not as usual; empty when all is well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.core import clock
from service.core.context import Access, Entitlements
from service.core.crypto import BadSignature, sign, unsign
from service.core.settings import Settings
from service.guardrails import sessions
from service.guardrails.impersonation import LONGEST, Visit
from service.guardrails.switches import Switch

VISIT = "visit"
"""A cookie that says on pages without a login that a visit is on (guardrails.impersonation); it opens nothing."""


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


def remember_visit(response: Response, settings: Settings) -> None:
    ends_at = int((clock.now() + LONGEST).timestamp())
    sessions.put_cookie(response, settings, VISIT, sign(VISIT, str(ends_at).encode()), LONGEST)


def forget_visit(response: Response, settings: Settings) -> None:
    sessions.put_cookie(response, settings, VISIT, "", timedelta())


def visiting(request: Request, settings: Settings) -> Visit | None:
    """A visit without names, for pages that ask for no login and so cannot know whose account it is."""
    sent = request.cookies.get(sessions.cookie_name(settings, VISIT), "")
    try:
        ends_at = datetime.fromtimestamp(int(unsign(VISIT, sent)), UTC)
    except (BadSignature, ValueError):
        return None
    return Visit("", "", "", ends_at) if ends_at > clock.now() else None
