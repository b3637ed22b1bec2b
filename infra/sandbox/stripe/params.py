"""Reading decoded parameters: everything arrives as text, and an empty text clears a field."""

from __future__ import annotations

from infra.sandbox.stripe.store import Obj, StripeError


class InvalidParameter(StripeError):
    """Refused before anything began: not an answer that an idempotency key keeps."""


def take(obj: Obj, params: Obj, *names: str) -> None:
    """Copy plain text fields that were given."""
    for name in names:
        if name in params:
            obj[name] = params[name] or None


def merge_metadata(obj: Obj, params: Obj) -> None:
    """Keys are added and changed; an empty value removes one, and empty metadata removes all."""
    if "metadata" not in params:
        return
    given = params["metadata"]
    kept = {} if given == "" else obj["metadata"] | {key: str(value) for key, value in given.items()}
    obj["metadata"] = {key: value for key, value in kept.items() if value != ""}


def integer(params: Obj, name: str, default: int | None = None) -> int | None:
    """A whole number, None where an empty text clears it. Raises InvalidParameter for anything else."""
    if name not in params:
        return default
    if params[name] == "":
        return None
    try:
        return int(params[name])
    except (TypeError, ValueError):
        raise InvalidParameter(f"Invalid integer: {params[name]}", param=name) from None


def boolean(params: Obj, name: str, *, default: bool = False) -> bool:
    if name not in params:
        return default
    if str(params[name]).lower() not in ("true", "false"):
        raise InvalidParameter(f"Invalid boolean: {params[name]}", param=name)
    return str(params[name]).lower() == "true"


def required(params: Obj, *names: str) -> None:
    """Raises InvalidParameter for the first that is missing."""
    for name in names:
        if params.get(name) in (None, ""):
            raise InvalidParameter(f"Missing required param: {name}.", code="parameter_missing", param=name)


def one_of(params: Obj, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = str(params.get(name) or default)
    if value not in allowed:
        raise InvalidParameter(f"Invalid {name}: must be one of {', '.join(allowed)}", param=name)
    return value
