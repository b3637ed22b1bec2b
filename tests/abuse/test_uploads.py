"""Every operation of the API that takes a file, attacked as its own description invites, and by the file's name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI

from service.web.contract import operations
from tests.abuse.parts import BOUNDARY, FORM, SENT_AS, Part, encoded, is_file, right_parts, spoilt_forms
from tests.abuse.payloads import BROKEN, MARK, TEXTS
from tests.abuse.test_operations import JSON, Attack, resolved, wrong_values
from tests.abuse.world import World
from tests.architecture.conftest import Route

UPLOADS, ATTACKS = 1, 60
REFUSED = (400, 413, 415, 422)
"""For what was sent: not for who sent it, or how often."""
CARD = "4000 0566 5566 5556"
NAMES = {
    "climbing": f"../../../../tmp/{MARK}", "climbing backwards": f"..\\..\\{MARK}", "rooted": f"/etc/{MARK}",
    "climbing in code": f"..%2f..%2f{MARK}", "a card": f"{MARK} {CARD}", "a card in one": CARD.replace(" ", ""),
    "quoted": f'{MARK}\\"; filename=\\"x', "doubled": f'{MARK}.txt"; filename="../{MARK}', "endless": MARK * 900,
    "a program": f"{MARK}.php\x00", "bell and rubout": f"{MARK}\x07\x7f", "nothing but points": "..",
    "a line": "\u2028",
}  # fmt: skip
NEVER = ("../", "..\\", CARD, CARD.replace(" ", ""), "\x00", "\x07", "\x1b", "\x7f", "\u202e", "\u2066", "\u2028")
"""What of it may neither come back nor be kept."""
MEDIA = {
    "text/plain", JSON, "application/x-www-form-urlencoded", "application/octet-stream", FORM, f"{FORM}; boundary=",
    f"{FORM}; boundary={'x' * 100}", f"multipart/mixed; boundary={BOUNDARY}", f"{FORM}; boundary*=utf-7''{BOUNDARY}+",
}  # fmt: skip


class UploadAttack(Attack):
    """One operation whose body is a form with files."""

    kind, media = FORM, SENT_AS

    def __init__(self, world: World, route: Route, operation: dict[str, Any], parts: dict[str, Any]) -> None:
        super().__init__(world, route, operation, parts)
        found = resolved(self.schema or {}, parts)
        inner = {name: resolved(one, parts) for name, one in found["properties"].items()}
        self.form = found | {"properties": inner}
        self.sent = right_parts(self.form, parts)
        self.right = encoded(self.sent)
        assert any(part.file for part in self.sent), f"{route}: a form without a file is JSON"

    def with_part(self, name: str, **changed: Any) -> bytes:
        return encoded([replace(part, **changed) if part.name == name else part for part in self.sent])

    async def bodies(self) -> None:
        for what, content in spoilt_forms(self.sent, self.form):
            await self.send(f"form{what}", content=content, only=REFUSED)
        for name, kind in self.form["properties"].items():
            for what, value in () if is_file(kind) else wrong_values(kind):
                if isinstance(value, str):
                    spoilt = self.with_part(name, content=value.encode("utf-8", "surrogatepass"))
                    await self.send(f"form with {name} as {what}", content=spoilt, only=REFUSED)
        for media in sorted(MEDIA):
            await self.send(f"sent as {media[:60]}", content_type=media, only=(400, 415))

    async def texts(self) -> None:
        """Every name a file can have, and every text beside it; then whether anything of it was obeyed."""
        for part in self.sent:
            for what, text in (TEXTS | BROKEN | NAMES).items():
                named = {"file": f"{text}.txt"} if part.file else {"content": text.encode("utf-8", "surrogatepass")}
                answer = await self.send(
                    f"{part.name} is {what}", refuse=False, content=self.with_part(part.name, **named)
                )
                self.look_at(answer, f"{part.name} is {what}")
        kept = {one: tables for one in NEVER if one != "\x00" and (tables := await self.world.keeps(one))}
        if kept:
            self.world.found.append(f"{self.route}: keeps {kept}")

    def look_at(self, answer: httpx.Response, what: str) -> None:
        if answer.status_code < 300:
            told = json.dumps(answer.json())
            if shown := [one for one in NEVER if json.dumps(one)[1:-1] in told]:
                self.world.found.append(f"{self.route}: {what} comes back with {shown}")

    async def twins(self) -> None:
        """Also one after the other: the same key is for the same files."""
        await super().twins()
        client, key = await self.crowd.next(), uuid4().hex
        name = self.sent[-1].name
        for what, changed, only in (
            ("first", {}, ()), ("again", {}, ()), ("renamed", {"file": f"other-{MARK}.txt"}, (422,)),
            ("rewritten", {"content": b"other words"}, (422,)),
        ):  # fmt: skip
            answer = await self.send(
                f"the same key, {what}", refuse=bool(only), only=only, content=self.with_part(name, **changed),
                idempotency_key=key, authorization=client.bearer["authorization"],
            )  # fmt: skip
            replayed = answer.headers.get("idempotent-replayed")
            if what == "again" and replayed != "true":
                self.world.found.append(f"{self.route}: the same file again is another file ({answer.status_code})")


async def test_every_upload_withstands_what_its_description_invites(
    app: FastAPI, routes: list[Route], world: World
) -> None:
    document = app.openapi()
    known = {str(route): route for route in routes}
    attacked = set()
    for method, path, operation in operations(document):
        if FORM in operation.get("requestBody", {}).get("content", {}):
            where = f"{method} {path}"
            await UploadAttack(world, known[where], operation, document["components"]["schemas"]).run()
            attacked.add(where)
    assert not world.found, world.report()
    assert len(attacked) >= UPLOADS, "no operation with a file was seen"
    assert attacked <= world.taken, f"the right form was refused by {attacked - world.taken}"
    assert await world.keeps(MARK), "no name of a file was found in any row: the look for hostile ones saw nothing"
    assert world.sent >= ATTACKS * len(attacked), f"only {world.sent} attacks"


def test_a_form_is_spoilt_in_each_of_its_parts() -> None:
    """Fields come before files; each part is left out, doubled and renamed, and what a file can lack it lacks."""
    schema = {
        "type": "object", "required": ["note", "scan"], "additionalProperties": False,
        "properties": {
            "scan": {"type": "string", "format": "binary"}, "note": {"type": "string", "examples": ["hello"]},
            "more": {"type": "array", "items": {"type": "string", "contentMediaType": "application/pdf"}},
        },
    }  # fmt: skip
    parts = right_parts(schema, {})
    assert [part.name for part in parts] == ["note", "scan", "more"]
    assert parts[0] == Part("note", b"hello")
    made = dict(spoilt_forms(parts, schema))
    assert b'name="scan"' not in made[" without scan"]
    assert b"hello" not in made[" without note"]
    assert (made[" with scan twice"].count(b'name="scan"'), " with more twice" in made) == (2, False)
    assert made[" with nothing in scan"] != made[" with scan as a field"]
    assert made[" with organization_id before"].index(b"organization_id") < made[" with organization_id behind"].index(
        b"organization_id"
    )
    assert len(set(made.values())) == len(made) >= 22
