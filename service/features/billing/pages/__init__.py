"""The plan page and what leads away from it; the modules put their routes on one flat router."""

from service.features.billing.pages import changes, checkout, plan, webhook
from service.features.billing.pages._shared import router
from service.features.billing.pages.plan import NAV

__all__ = ["NAV", "changes", "checkout", "plan", "router", "webhook"]
