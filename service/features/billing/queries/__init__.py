from service.features.billing.queries.customer import find_customer, get_billing, get_operation, list_invoices
from service.features.billing.queries.dead import (
    count_dead_customers,
    count_unmatched,
    list_dead_customers,
    list_facts,
    list_unmatched,
)
from service.features.billing.queries.staff import (
    find_customers,
    get_message,
    get_overview,
    get_workbench,
    is_own_charge,
    list_messages,
    list_subscriptions,
    visit,
)

__all__ = [
    "count_dead_customers", "count_unmatched", "find_customer", "find_customers", "get_billing", "get_message",
    "get_operation", "get_overview", "get_workbench", "is_own_charge", "list_dead_customers", "list_facts",
    "list_invoices", "list_messages", "list_subscriptions", "list_unmatched", "visit",
]  # fmt: skip
