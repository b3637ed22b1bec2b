"""The staff's pages on billing: how far we are behind, every message, one customer beside Stripe, and what to do."""

from service.features.billing.admin import customers
from service.features.billing.admin._shared import router
from service.features.billing.admin.dead import DEAD_LETTERS, STAFF_PAGES, SYSTEM_FACTS
from service.features.billing.admin.listing import STAFF

__all__ = ["DEAD_LETTERS", "STAFF", "STAFF_PAGES", "SYSTEM_FACTS", "customers", "router"]
