from service.features.billing.actions.customer import (
    plan_cancel_now,
    plan_cancellation,
    plan_change,
    plan_checkout,
    plan_end,
    plan_portal,
    plan_refund,
    plan_resumption,
    plan_seats,
)
from service.features.billing.actions.system import notify, set_entitlement

__all__ = [
    "notify",
    "plan_cancel_now",
    "plan_cancellation",
    "plan_change",
    "plan_checkout",
    "plan_end",
    "plan_portal",
    "plan_refund",
    "plan_resumption",
    "plan_seats",
    "set_entitlement",
]
