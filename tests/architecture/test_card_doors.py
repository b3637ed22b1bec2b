"""Every way in says what it does with a card number: refused, masked, hashed, not kept, or a limit that is named.

What the ways are is read from the running application and from the code, not typed: a new header, body, peer, command
or kind of entry point is missing here on the day it appears. The limits stand in docs/compliance/pci.md, too.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import Cookie, FastAPI, Form, Header, WebSocket, params

from service.guardrails.browser import SIGNED_PREFIX
from service.guardrails.contexts import PublicCtx
from service.guardrails.uploads.policy import upload_policy_of
from tests.architecture.conftest import ROOT, SERVICE, Route, routes_of
from tests.architecture.entry_points import called, entry_points, known_tests, sources

POINTS, FILES = 450, 20
"""How many entry points there were when this was set, and files that read what a request says beside its address."""
WHAT = ("refused", "masked", "hashed", "not kept", "limit")
TYPED = "tests/architecture/test_card_fields.py::test_every_json_body_and_query_refuses_a_card"
FORMS = "tests/architecture/test_card_fields.py::test_every_form_refuses_a_card"
HEADERS = "tests/guardrails/test_cards_nowhere.py::test_no_header_of_a_request_leaves_one"
OTHERS = "tests/guardrails/test_cards_nowhere.py::test_what_others_tell_us_leaves_none"
UPLOADS = "tests/guardrails/test_cards_nowhere.py::test_a_file_says_it_in_its_name_its_fields_and_its_rows"
OURS = "tests/guardrails/test_cards_nowhere.py::test_what_we_write_ourselves_has_none"
ANSWERS = "tests/guardrails/test_cards_from_outside.py::test_what_another_system_says_is_masked"
SCANNER = "tests/integrations/test_scanner.py::test_clean_and_found"
STRIPE = "tests/integrations/test_stripe_client.py::test_no_answer_carries_a_card_number"


@dataclass(frozen=True)
class Door:
    """`where` is file::name, the one place that looks; `how` is for what never gets as far as being written."""

    what: str
    where: str
    proof: str
    how: str = ""


WAYS = {
    "address": Door("refused", "guardrails/cards.py::refuse_address", TYPED),
    "JSON": Door("refused", "guardrails/strict_json.py::check_json", TYPED),
    "form": Door("refused", "web/forms.py::_take", FORMS),
    "upload": Door("masked", "features/files/flows/names.py::display_name", UPLOADS, "its fields are a form's"),
    "signed message": Door("masked", "guardrails/inbox.py::_without_cards", OTHERS),
    "header idempotency-key": Door("refused", "guardrails/cards.py::refuse_address", TYPED),
    "header if-match": Door("not kept", "guardrails/preconditions.py::tag", HEADERS, "compared with our own"),
    "arguments of a job": Door("masked", "guardrails/jobs/registry.py::pack", OURS),
    "words of a command": Door(
        "refused", "cli/_running.py::Commands",
        "tests/guardrails/test_cards_from_outside.py::test_the_shell_is_told_like_everybody_else",
    ),
    "mail": Door("masked", "web/mail.py::compose", "tests/guardrails/test_cards.py::test_a_mail_carries_no_card"),
    "rows of a file": Door(
        "refused", "features/imports/flows/parse.py::_cells",
        "tests/features/imports/test_rows.py::test_each_wrong_row_is_named_with_its_mend",
    ),
    "content of a file": Door("limit", "features/files/flows/look.py::judge_due", UPLOADS, "no content is read"),
    "nothing": Door("not kept", "guardrails/cards.py::mask", OURS, "files of the release; loops read tables and PEERS"),
}  # fmt: skip
"""By which kinds of ways text comes in."""
BY_KIND = {
    "JOB": {"arguments of a job"}, "CLI": {"words of a command"}, "MAIL": {"mail"}, "LOOP": {"nothing"},
    "MOUNT": {"nothing"}, "LISTENER": {"nothing"},
}  # fmt: skip
OBJECTS = {
    "files": {"content of a file"}, "imports": {"rows of a file"}, "privacy": {"nothing"}, "erasure": {"nothing"},
}  # fmt: skip
"""Whose objects they are; what we made ourselves was looked at when it was written."""

COMPARED = Door("not kept", "guardrails/cards.py::mask", HEADERS, "compared with what we know, or one of a few words")
READERS = {
    "core/multipart.py": WAYS["upload"],
    "core/observe.py": Door("refused", "core/observe.py::_from_upstream", HEADERS, "a proxy's: ours instead"),
    "features/billing/flows/receive.py": WAYS["signed message"],
    "features/developers/pages.py": COMPARED,
    "features/notifications/flows/receive.py": WAYS["signed message"],
    "features/status/pages.py": COMPARED,
    "guardrails/addresses.py": Door("not kept", "guardrails/addresses.py::client_address", HEADERS, "an IP address"),
    "guardrails/api_keys.py": Door("hashed", "guardrails/api_keys.py::keyed_hash", HEADERS),
    "guardrails/before_login.py": Door("hashed", "guardrails/before_login.py::held", HEADERS),
    "guardrails/browser.py": COMPARED,
    "guardrails/cards.py": WAYS["header idempotency-key"],
    "guardrails/contexts.py": Door("not kept", "guardrails/sessions.py::device_label", HEADERS, "a browser's name"),
    "guardrails/gate.py": COMPARED,
    "guardrails/idempotency.py": WAYS["header idempotency-key"],
    "guardrails/preconditions.py": WAYS["header if-match"],
    "guardrails/sessions.py": Door("hashed", "guardrails/sessions.py::keyed_hash", HEADERS),
    "guardrails/strict_json.py": WAYS["JSON"],
    "guardrails/uploads/bounds.py": COMPARED,
    "web/assets.py": COMPARED,
    "web/banners.py": COMPARED,
    "web/errors.py": Door("not kept", "web/errors.py::_detour", HEADERS, "leads back to an address that refuses it"),
    "web/flash.py": Door("not kept", "web/flash.py::unsign", HEADERS, "believed with our signature only"),
    "web/forms.py": WAYS["form"],
    "web/responses.py": COMPARED,
}  # fmt: skip
"""Files that read headers, cookies or a body themselves, beside the address."""
BODILESS = {"POST /unsubscribe/{wish}"}
"""Posts outside FastAPI of which only the address is read: READERS would name their file."""
READS = {"headers", "cookies", "body", "form", "stream", "json"}

MASKED_JSON = Door("masked", "integrations/http.py::json_object", ANSWERS)
CODES = Door("not kept", "guardrails/cards.py::mask", OURS, "only their codes and our own sentences")
PEERS = {
    "integrations/http.py": MASKED_JSON,
    "integrations/identity.py": Door("refused", "integrations/identity.py::_address", OTHERS, "the rest is masked"),
    "integrations/mail/sendgrid.py": MASKED_JSON,
    "integrations/mail/smtp.py": CODES,
    "integrations/scanner.py": Door("masked", "integrations/scanner.py::scan", SCANNER),
    "integrations/sources/github.py": MASKED_JSON,
    "integrations/sources/plausible.py": MASKED_JSON,
    "integrations/sources/rates.py": MASKED_JSON,
    "integrations/storage.py": Door("not kept", "integrations/storage.py::StorageAway", OURS, "keys we made; codes"),
    "integrations/stripe/client.py": Door("masked", "integrations/stripe/client.py::request_async", STRIPE),
    "integrations/webhooks.py": Door(
        "masked", "integrations/webhooks.py::send",
        "tests/guardrails/test_cards_nowhere.py::test_what_a_customers_server_answers_is_kept_without",
    ),
    "features/files/flows/inspection.py": Door(
        "not kept", "features/files/flows/inspection.py::Verdict", UPLOADS, "its own words, not the file's",
    ),
    "core/settings.py": Door("limit", "core/settings.py::Settings", OURS, "whoever sets them has every key, too"),
    "doctor.py": Door("limit", "doctor.py::examine", OURS, "reads the same environment, and prints"),
}  # fmt: skip
"""Files that hear from others without being asked by a request."""
TALKS = {
    "httpx.AsyncClient", "aiosmtplib.SMTP", "asyncio.open_connection", "asyncio.create_subprocess_exec", "os.environ",
    "self._http.send", "http.send", "os.getenv", "urlopen",
}  # fmt: skip


def ways(app: FastAPI) -> dict[str, set[str]]:
    """Entry point -> the kinds of text that come in by it; a kind that nobody has thought of stands for itself."""
    found = {name: _by_kind(name) for name in entry_points(app)}
    return found | {str(route): set(_of_route(route)) for route in routes_of(app)}


def _by_kind(name: str) -> set[str]:
    kind, _, rest = name.partition(" ")
    if kind == "GET":
        return {"address"}  # without FastAPI
    if kind == "POST" and rest.startswith(SIGNED_PREFIX):
        return {"address", "signed message"}
    if name in BODILESS:
        return {"address"}
    return OBJECTS.get(rest.partition(".")[0], {name}) if kind == "OBJECT" else BY_KIND.get(kind, {name})


def _of_route(route: Route) -> Iterator[str]:
    yield "address"
    for one in _dependants(route.api_route.dependant):
        yield from (f"header {field.alias}" for field in one.header_params)
        yield from (f"cookie {field.alias}" for field in one.cookie_params)
        for field in one.body_params:
            yield "form of FastAPI" if isinstance(field.field_info, params.Form | params.File) else "JSON"
    if route.method in ("GET", "HEAD"):
        return
    if upload_policy_of(route.endpoint):
        yield "upload"
    elif not route.is_api:
        yield "form"


def _dependants(dependant: Any) -> Iterator[Any]:
    yield dependant
    for one in dependant.dependencies:
        yield from _dependants(one)


def unthought(app: FastAPI) -> dict[str, set[str]]:
    return {name: strange for name, kinds in ways(app).items() if (strange := kinds - WAYS.keys())}


def test_every_way_in_says_what_becomes_of_a_card_number(app: FastAPI) -> None:
    found = ways(app)
    assert len(found) >= POINTS, f"the scan saw only {len(found)} entry points"
    assert not unthought(app), (
        f"{unthought(app)}: what becomes of a card number that comes in this way? Refuse it where it comes in, or mask "
        "it with guardrails.cards.without_cards, in one place, and say so in WAYS"
    )
    seen = Counter(kind for kinds in found.values() for kind in kinds)
    assert not set(WAYS) - set(seen), f"{set(WAYS) - set(seen)}: nothing comes in this way any more"
    few = {"address": 300, "form": 120, "JSON": 7, "words of a command": 25, "arguments of a job": 30, "mail": 25}
    assert not {kind: seen[kind] for kind, least in few.items() if seen[kind] < least}, seen
    assert (seen["upload"], seen["signed message"]) >= (3, 2), seen


def readers(files: dict[str, ast.Module]) -> set[str]:
    """Files that read of a request what is not its address."""
    return {path for path, tree in files.items() if any(map(_reads, ast.walk(tree)))}


def _reads(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in READS:
        return re.search(r"(?:^|[._])(?:request|signed|websocket|socket)$", ast.unparse(node.value)) is not None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == "headers":
        return ast.unparse(node.value).endswith("scope")
    return False


def peers(files: dict[str, ast.Module]) -> set[str]:
    """Files that talk to other programs, or are told something by the machine."""
    return {
        path
        for path, tree in files.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and called(node) in TALKS)
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in TALKS)
    }


@pytest.mark.parametrize(("scan", "said"), [(readers, READERS), (peers, PEERS)])
def test_every_file_that_hears_something_says_what_becomes_of_it(scan: Any, said: dict[str, Door]) -> None:
    found = scan(sources())
    assert found == set(said), (
        f"new: {sorted(found - set(said))}; gone: {sorted(set(said) - found)}. A card number may stand in what is read "
        "there: say what becomes of it, in the table beside this test"
    )


def test_each_door_names_a_place_that_looks_and_a_test() -> None:
    doors = [*WAYS.values(), *READERS.values(), *PEERS.values()]
    assert len(doors) >= 50
    for door in doors:
        path, _, name = door.where.partition("::")
        assert door.what in WHAT, door
        assert re.search(rf"\b{name}\b", (SERVICE / path).read_text()), f"{door.where} is not there any more"
        assert door.proof in known_tests(), f"{door.proof} is no test"
        assert door.how or door.what in ("refused", "masked", "hashed"), f"{door}: why is that right?"
    limits = {door.how for door in doors if door.what == "limit"}
    named = (ROOT / "docs" / "compliance" / "pci.md").read_text()
    assert len(limits) == 3
    assert "Uploaded files" in named
    assert "environment" in named


def test_nothing_is_pushed_to_us_over_a_line_that_stays_open(app: FastAPI) -> None:
    """Sockets would bring messages past strict_json and the forms."""
    assert not [name for name in entry_points(app) if name.startswith(("SOCKET", "HOST"))]


def test_a_new_way_in_is_missed() -> None:
    probe = FastAPI()

    @probe.post("/probe")
    async def forgotten(ctx: PublicCtx, x_note: Annotated[str, Header()], note: Annotated[str, Form()]) -> None: ...

    @probe.get("/probe")
    async def looked(ctx: PublicCtx, theme: Annotated[str, Cookie()]) -> None: ...

    @probe.websocket("/talk")
    async def talk(socket: WebSocket) -> None: ...

    probe.mount("/inner", FastAPI())
    found = unthought(probe)
    assert found == {
        "POST /probe": {"header x-note", "form of FastAPI"}, "GET /probe": {"cookie theme"},
        "SOCKET /talk": {"SOCKET /talk"},
    }  # fmt: skip
    for line in (
        "request.headers['x']", "await request.body()", "request.cookies.get('x')", "scope['headers']",
        "self._request.stream()", "await request.form()",
    ):  # fmt: skip
        assert readers({"x.py": ast.parse(f"async def f(request): {line}")}) == {"x.py"}, line
    for line in ("await self._http.send('GET', url)", "os.environ['X']", "httpx.AsyncClient()"):
        assert peers({"x.py": ast.parse(f"async def f(): {line}")}) == {"x.py"}, line
