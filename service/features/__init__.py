"""The product. `FEATURES` is the one list to edit: a feature leaves by deleting its folder, its tests and its word.

Routes are searched in this order, so what is asked most often comes first.
"""

FEATURES = ("indicators", "organizations", "accounts", "audit_log", "admin", "status")
