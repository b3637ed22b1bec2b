"""The plan page and what leads away from it; the modules put their routes on one flat router."""

from service.features.billing.pages import changes, checkout, plan
from service.features.billing.pages._shared import router
from service.features.billing.pages.plan import NAV
from service.features.billing.pages.webhook import infrastructure

__all__ = ["NAV", "changes", "checkout", "infrastructure", "plan", "router"]
