"""The staff's own pages: home, switches, dead letters."""

from service.features.admin.pages import dead_letters, home, limits, reasons, switches, system
from service.features.admin.pages._shared import NAV, router
from service.features.admin.pages.dead_letters import DEAD_LETTERS

__all__ = ["DEAD_LETTERS", "NAV", "dead_letters", "home", "limits", "reasons", "router", "switches", "system"]
