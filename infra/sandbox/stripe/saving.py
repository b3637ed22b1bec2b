"""Keep the account in a file: a database that outlives the stand-in would point at customers nobody knows.

Objects, time and what is due are kept; events, endpoints and idempotency keys are not.
"""

from __future__ import annotations

import json
from pathlib import Path

from infra.sandbox.errors import SandboxError
from infra.sandbox.stripe.store import Account, Obj


def save(account: Account, file: Path) -> None:
    """Written beside, then renamed: being killed here must not leave half a file."""
    with account.lock:
        text = json.dumps(
            {
                "kinds": account.store.kinds,
                "counter": account.store.counter,
                "ahead": account.clock.ahead,
                "due": account.clock.due,
                "checkouts": account.checkouts,
            }
        )
    fresh = file.with_suffix(".partial")
    fresh.write_text(text)
    fresh.rename(file)


def load(account: Account, file: Path) -> None:
    """Go on where the last run ended, if there was one. Raises SandboxError for a damaged file."""
    if not file.exists():
        return
    try:
        kept = json.loads(file.read_text())
        for objects in kept["kinds"].values():
            for obj in objects.values():
                account.store.add(obj)
        for moment, _, name, object_id in sorted(kept["due"]):
            account.clock.at(moment, name, object_id)
        account.store.counter, account.clock.ahead = kept["counter"], kept["ahead"]
        account.checkouts = kept["checkouts"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SandboxError(f"{file} is damaged; run `make reset` to start over") from None
    for subscription in account.store.of("subscription"):
        _share_prices(account, subscription["items"]["data"])
        _share_prices(account, (subscription["pending_update"] or {}).get("subscription_items") or [])


def _share_prices(account: Account, items: list[Obj]) -> None:
    """An item holds the price itself, not a copy: it shows the price as it is today."""
    for item in items:
        item["price"] = account.store.get("price", item["price"]["id"])
