"""The product. `FEATURES` is the one list to edit: a feature leaves by deleting its folder, its tests
and its word, and what its neighbours' tests then name. The sample is also what service/seed plants, what load/bench
measures, what the screenshots show and where people begin (HOME in service/web/responses.py).

Routes are searched in this order, so what is asked most often comes first.
"""

FEATURES = (
    "indicators",
    "imports",
    "organizations",
    "accounts",
    "billing",
    "webhooks",
    "notifications",
    "consents",
    "erasure",
    "api_keys",
    "sources",
    "files",
    "audit_log",
    "privacy",
    "developers",
    "admin",
    "support",
    "status",
)
