"""The product. `FEATURES` is the one list to edit: a feature leaves by deleting its folder, its tests and its word."""

FEATURES = ("accounts", "organizations", "indicators", "audit_log", "admin", "status")
