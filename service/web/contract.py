"""The public contract of /api/v1: what /openapi.json says, made from the routes and from what guards every one of them.

A route declares only what is its own; errors, the key, its scope, limits and examples are the same rule everywhere and
come from here (OpenAPI 3.1). tests/architecture/test_contract.py refuses a route that leaves a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.core import errors
from service.core.context import SAFE_METHODS
from service.core.errors import ServiceError
from service.guardrails.permissions import scope_of
from service.web.errors import BY_STATUS, type_of

KEY = "apiKey"
PROBLEM = "Problem"
ALWAYS = (401, 403, 429, 503)
JSON = "application/json"
MOMENT, IDENTIFIER = "2026-03-31T14:30:00Z", "01963f6e-9d3c-7c1b-8f0e-2a4b6c8d0e1f"
BY_FORMAT = {"date-time": MOMENT, "date": "2026-03-31", "uuid": IDENTIFIER, "email": "ann@example.com"}
BY_TYPE: dict[str, Any] = {"integer": 1, "number": 12.5, "boolean": False, "null": None}
LIMITS = {
    "X-RateLimit-Limit": "How many requests the limit allows.",
    "X-RateLimit-Remaining": "How many of them are left.",
    "X-RateLimit-Reset": "When all of them are back, in seconds since 1970.",
}
ABOUT = """Indicators are named series of readings; whatever the pages show, this API reads and writes.

Make a key on the page API keys and send it as `Authorization: Bearer blst_...`. Lists come in pages: send `next_cursor`
back as `cursor`. Repeat a POST whose answer was lost with the same `Idempotency-Key`. What is refused is answered with
problem details (RFC 9457), whose `type` leads to a page that says how to mend it. Within `v1` fields are added, and
never removed or given another meaning: ignore the ones you do not know.
"""


def contract(app: FastAPI) -> dict[str, Any]:
    """The document, complete: every operation with its errors, headers, scope and examples."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=ABOUT)
    parts = made["components"]
    schemas: dict[str, Any] = parts["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape, which we never answer
        schemas.pop(name, None)
    schemas[PROBLEM] = _problem_schema()
    parts["securitySchemes"] = {
        KEY: {"type": "http", "scheme": "bearer", "description": "An API key. Each operation names the scope it needs."}
    }
    parts["headers"] = {name: _header(text, {"type": "integer"}, 60) for name, text in LIMITS.items()}
    parts["headers"]["ETag"] = _header("The version, for `If-Match`.", {"type": "string"}, '"64e5d1c0a7b3f"')
    parts["responses"] = {f"Problem{status}": _problem_answer(kind) for status, kind in BY_STATUS.items()}
    for method, path, operation in operations(made):
        _complete(operation, method, path, schemas)
    _name_versions(made)
    return made


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _complete(operation: dict[str, Any], method: str, path: str, schemas: dict[str, Any]) -> None:
    operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
    feature = path.removeprefix("/api/v1/").partition("/")[0]
    scope = scope_of(feature, writes=method not in SAFE_METHODS)
    operation["security"] = [{KEY: [scope]}]
    operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".strip()
    parameters = {one["name"]: one for one in operation.get("parameters", ())}
    for one in parameters.values():
        one["schema"] = _without_null(one["schema"])
        one["example"] = example(one["schema"], schemas)
    if "idempotency-key" in parameters:
        parameters["idempotency-key"] |= {"required": True, "name": "Idempotency-Key"}
    if "if-match" in parameters:
        parameters["if-match"]["name"] = "If-Match"
    bodies = operation.get("requestBody", {}).get("content", {})
    for body in bodies.values():
        body["example"] = example(body["schema"], schemas)
    answers: dict[str, Any] = operation["responses"]
    answers.pop("422", None)
    for answer in answers.values():
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in LIMITS}
        for content in answer.get("content", {}).values():
            content["example"] = example(content["schema"], schemas)
    said = {status: answers.pop(status) for status in list(answers) if status >= "400"}
    for status in sorted({*_refusals(method, path, parameters, bool(bodies)), *map(int, said)}):
        answers[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out: no request can send null in its query or headers."""
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return {**{name: part for name, part in schema.items() if name != "anyOf"}, **options[0]} if options else schema


def _name_versions(document: dict[str, Any]) -> None:
    """What If-Match can guard is answered with its ETag, whichever operation shows it."""
    shown = [
        (operation, answer, content["schema"].get("$ref"))
        for _, _, operation in operations(document)
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
    ]
    guarded = {
        kind
        for operation, _, kind in shown
        if any(one["name"] == "If-Match" for one in operation.get("parameters", ()))
    }
    for _, answer, kind in shown:
        if kind in guarded:
            answer["headers"]["ETag"] = {"$ref": "#/components/headers/ETag"}


def _refusals(method: str, path: str, parameters: Mapping[str, Any], has_body: bool) -> set[int]:
    found = {*ALWAYS}
    found |= {404} if "{" in path else set()
    found |= {422} if parameters or has_body else set()
    found |= {400, 408, 413, 415} if has_body else set()
    found |= {409} if method not in SAFE_METHODS else set()
    found |= {400} if "idempotency-key" in parameters else set()
    found |= {412} if "if-match" in parameters else set()
    return found


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that fits: the schema's own example where it has one, else one made from its parts."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for known in ("examples", "enum"):
        if schema.get(known):
            return schema[known][0]
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    if options := schema.get("anyOf") or schema.get("allOf"):
        return example(options[0], schemas)
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)]
    if schema.get("type") == "object":
        return {name: example(part, schemas) for name, part in schema.get("properties", {}).items()}
    return BY_FORMAT.get(schema.get("format", "")) or BY_TYPE.get(schema.get("type", ""), "text")


def _header(text: str, schema: dict[str, Any], value: Any) -> dict[str, Any]:
    return {"description": text, "schema": schema, "example": value}


def _problem_answer(kind: type[ServiceError]) -> dict[str, Any]:
    about = f"{kind.meaning}\n\nPage: {type_of(kind)}"
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in LIMITS}
    if kind.status in (429, 503):
        headers["Retry-After"] = _header("Seconds to wait.", {"type": "integer"}, 5)
    shown = {"type": type_of(kind), "title": kind.title, "status": kind.status, "detail": kind.title + "."}
    shown |= {"mend": kind.default_mend, "code": kind.code, "request_id": IDENTIFIER.replace("-", "")}
    if kind is errors.Invalid:
        shown["errors"] = [{"field": "name", "message": "Fill in this field."}]
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}, "example": shown}}
    return {"description": about, "headers": headers, "content": content}


def _problem_schema() -> dict[str, Any]:
    """RFC 9457 with what we add to it; service.web.errors writes it."""

    def text(about: str, **more: Any) -> dict[str, Any]:
        return {"type": "string", "description": about, **more}

    fields = {
        "type": text("Our page about this kind of problem.", format="uri"),
        "title": text("The kind in a few words."),
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": text("What is wrong this time."),
        "mend": text("What to do about it."),
        "code": text("The kind, for programs.", examples=sorted(errors.kinds())),
        "request_id": text("Quote it when you write to us."),
        "errors": {
            "type": "array",
            "description": "Which fields are wrong, and why.",
            "items": {
                "type": "object",
                "properties": {"field": text("Its path in the request."), "message": text("What is wrong with it.")},
                "required": ["field", "message"],
            },
        },
    }
    always = ["type", "title", "status", "code", "request_id"]
    return {"title": PROBLEM, "type": "object", "properties": fields, "required": always}
