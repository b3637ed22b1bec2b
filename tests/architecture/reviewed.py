"""Lists a person has looked at. Changing one is a decision: say in the commit why it is safe."""

from __future__ import annotations

PUBLIC_ROUTES: frozenset[str] = frozenset()

INFRASTRUCTURE_ROUTES: frozenset[str] = frozenset()

NO_IDEMPOTENCY_KEY: frozenset[str] = frozenset()

GLOBAL_TABLES: dict[str, str] = {
    "users": "a person belongs to several organizations",
}
"""Tables without a tenant, each with the reason."""
