from service.features.billing.queries.customer import find_customer, get_billing, get_operation, list_invoices

__all__ = ["find_customer", "get_billing", "get_operation", "list_invoices"]
