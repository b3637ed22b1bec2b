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
from service.features.billing.actions.staff import (
    discard,
    discard_unmatched,
    link,
    open_customer,
    override_plan,
    read_body,
    replay,
    replay_one,
    replay_unmatched,
    resync,
    resync_all,
    resync_dead,
)
from service.features.billing.actions.system import notify, set_entitlement, settle_up

__all__ = [
    "discard", "discard_unmatched", "link", "notify", "open_customer", "override_plan", "plan_cancel_now",
    "plan_cancellation", "plan_change", "plan_checkout", "plan_end", "plan_portal", "plan_refund", "plan_resumption",
    "plan_seats", "read_body", "replay", "replay_one", "replay_unmatched",
    "resync", "resync_all", "resync_dead", "set_entitlement", "settle_up",
]  # fmt: skip
