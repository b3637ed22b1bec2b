from service.features.billing.models.customer import INBOX, BillingCustomer, BillingSweep
from service.features.billing.models.mirror import Effect, Invoice, LedgerEntry, Subscription
from service.features.billing.models.operation import Kind, Operation, PlanOverride, Status

__all__ = [
    "INBOX", "BillingCustomer", "BillingSweep", "Effect", "Invoice", "Kind", "LedgerEntry", "Operation", "PlanOverride",
    "Status", "Subscription",
]  # fmt: skip
