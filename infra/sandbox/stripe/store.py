"""One Stripe account: its objects by id, its clock, its faults, and the lock that every change is made under."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING, Any

from infra.sandbox.stripe.clock import Clock
from infra.sandbox.stripe.delivery import Courier
from infra.sandbox.stripe.records import Endpoint, EventLog

if TYPE_CHECKING:
    from infra.sandbox.stripe.idempotency import Kept
    from infra.sandbox.stripe.knobs import StripeKnobs

Obj = dict[str, Any]
LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
# Fields that never change and that storms look things up by; everything else is found by looking at all of a kind.
OWNER = {"subscription": "customer", "invoice": "customer", "invoiceitem": "customer", "charge": "customer"} | {
    "invoice_payment": "invoice"
}


class StripeError(Exception):
    """An answer other than 200, in Stripe's words (docs.stripe.com/api/errors)."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        given = {"code": code, "param": param, **more}
        self.body = {"error": {"type": kind, "message": message} | {k: v for k, v in given.items() if v}}


def missing(kind: str, object_id: object, param: str = "id") -> StripeError:
    """A 404 for the path's own id, a 400 for one that a parameter names."""
    text = f"No such {kind.replace('_', ' ').replace('checkout.', 'checkout ')}: '{object_id}'"
    return StripeError(text, status=404 if param == "id" else 400, code="resource_missing", param=param)


class Store:
    """Every object of the account, in order of creation."""

    def __init__(self, random: Random) -> None:
        self.kinds: dict[str, dict[str, Obj]] = {}
        self.kind_of: dict[str, str] = {}
        self._owned: dict[tuple[str, str], dict[str, Obj]] = {}
        self.counter = 0
        self._random = random

    def new_id(self, prefix: str) -> str:
        """Readable and repeatable: a running number, then letters from the account's seed."""
        self.counter += 1
        return f"{prefix}_{self.counter:05d}{''.join(self._random.choices(LETTERS, k=12))}"

    def add(self, obj: Obj) -> Obj:
        self.kinds.setdefault(obj["object"], {})[obj["id"]] = obj
        self.kind_of[obj["id"]] = obj["object"]
        if owner := OWNER.get(obj["object"]):
            self._owned.setdefault((obj["object"], obj[owner]), {})[obj["id"]] = obj
        return obj

    def remove(self, obj: Obj) -> None:
        del self.kinds[obj["object"]][obj["id"]]
        del self.kind_of[obj["id"]]
        if owner := OWNER.get(obj["object"]):
            del self._owned[obj["object"], obj[owner]][obj["id"]]

    def find(self, object_id: object) -> Obj | None:
        """Any object by its id, or None."""
        kind = self.kind_of.get(object_id) if isinstance(object_id, str) else None
        return self.kinds[kind][str(object_id)] if kind else None

    def get(self, kind: str, object_id: object, param: str = "id") -> Obj:
        """Raises Stripe's `resource_missing`."""
        found = self.kinds.get(kind, {}).get(str(object_id))
        if found is None:
            raise missing(kind, object_id, param)
        return found

    def of(self, kind: str, **fields: object) -> list[Obj]:
        """Newest first, where all the named fields have the named values."""
        owner = OWNER.get(kind, "")
        found = self._owned.get((kind, str(fields[owner]))) if owner in fields else self.kinds.get(kind)
        every = reversed(list((found or {}).values()))
        return [one for one in every if all(one.get(name) == value for name, value in fields.items())]


class Account:
    """What routes and pages are given. Take `lock` around a change and around a read of more than one thing."""

    def __init__(self, address: str, secret_key: str, knobs: StripeKnobs, seed: int) -> None:
        self.address = address
        self.secret_key = secret_key
        self.knobs = knobs
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.lock = threading.RLock()
        self.store = Store(self.random)
        self.clock = Clock(self)
        self.kept_answers: dict[str, Kept] = {}
        # What a Checkout session was made with and has led to, by its id: more than the object shows.
        self.checkouts: dict[str, Obj] = {}
        self.events = EventLog()
        self.endpoints: dict[str, Endpoint] = {}
        self.courier = Courier(self)
        # The request that is being answered, which its events mention.
        self.request: Obj = {"id": None, "idempotency_key": None}

    def now(self) -> int:
        """Seconds since 1970, as the account sees it."""
        return self.clock.now()

    def new_id(self, prefix: str) -> str:
        return self.store.new_id(prefix)
