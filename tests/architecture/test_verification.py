"""Small requirements of the verification standard that hold for all code at once: scans that can be seen to bite.

docs/compliance/asvs.csv names these tests beside the larger ones.
"""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from service.core.settings import Settings
from service.features.accounts.models.credentials import CODE_ALPHABET, new_recovery_code
from service.guardrails import browser, sessions
from service.web import flash
from tests.architecture.conftest import ROOT, SERVICE, Route, plain_routes_of

PROBES = {
    "S102": 'exec("print(1)")',
    "S307": "eval(input())",
    "S301": "import pickle\n\n\ndef f(b: bytes) -> object:\n    return pickle.loads(b)",
    "S324": 'import hashlib\n\nX = hashlib.md5(b"x")',
    "S311": "import random\n\nX = random.random()",
    "S602": 'import subprocess\n\nsubprocess.run(f"ls {input()}", shell=True)',
    "S605": 'import os\n\nos.system(f"ls {input()}")',
    "S608": "def f(c, name: str) -> None:\n    c.execute(f\"SELECT 1 FROM users WHERE name = '{name}'\")",
    "S701": "from jinja2 import Environment\n\nX = Environment()",
    "S704": 'from markupsafe import Markup\n\nX = Markup(f"<b>{input()}</b>")',
    "S506": "import yaml\n\nX = yaml.load(input())",
    "S314": 'from xml.etree import ElementTree\n\nX = ElementTree.parse("x")',
    "S501": 'import httpx\n\nX = httpx.get("https://x.example", verify=False, timeout=1)',
    "G004": 'import logging\n\nlogging.getLogger().info(f"{input()}")',
}
"""Each of them is refused by `make check`: dynamic code, unsafe reading, weak hashes and dice, shells, glued SQL."""
CRYPTOGRAPHY = {"cryptography", "hashlib", "hmac", "secrets", "pwdlib", "joserfc", "pyotp", "standardwebhooks", "ssl"}
HOMEMADE = {"Crypto", "nacl", "jose", "jwt", "passlib", "bcrypt", "M2Crypto", "rsa", "ecdsa", "itsdangerous"}
PARSERS = {"xml", "lxml", "yaml", "pickle", "marshal", "shelve", "dill"}
TOLD_IN_ADDRESSES = re.compile(r"password|secret|email|code$|csrf|session|card|iban|phone")
PATTERNS_OF_OUR_OWN = {
    "guardrails/cards.py": "written from a table of card brands, once",
    "guardrails/uploads/kept.py": "takes its parts from constants of the features' models",
}
THROUGH_THE_ADDRESS = {
    "code": "an identity provider hands its answer over in the address, for one use",
    "session_id": "Stripe's name of a checkout, which proves nothing: what was paid is read at Stripe",
}


@pytest.mark.parametrize("rule", PROBES)
def test_the_linter_refuses(rule: str) -> None:
    """What a reviewer could overlook stops the check, in the product's own folder and with its own settings."""
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "--stdin-filename",
         "service/core/probe.py", "-"],
        input=PROBES[rule], capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert f" {rule} " in found.stdout, found.stdout + found.stderr


def imported(tree: ast.Module) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}


def test_cryptography_comes_from_few_known_libraries(sources: dict[Path, ast.Module]) -> None:
    users = {name for tree in sources.values() for name in imported(tree)}
    assert len(users & CRYPTOGRAPHY) >= 6, "the scan sees nothing"
    assert not users & HOMEMADE, "one library for each purpose, chosen once: service/core/crypto.py"


def test_no_weak_cipher_is_used(sources: dict[Path, ast.Module]) -> None:
    """One way to encrypt: AES-GCM, which notices every change. No block mode is chosen by hand, no padding either."""
    weak = re.compile(r"\bmodes\.(ECB|CBC|CTR|OFB)|\bECB\b|PKCS1v15|TripleDES|ARC4|Blowfish|algorithms\.AES")
    texts = {str(path.relative_to(SERVICE)): ast.unparse(tree) for path, tree in sources.items()}
    assert any("AESGCM(" in text for text in texts.values()), "the scan sees nothing"
    assert not {path: weak.findall(text) for path, text in texts.items() if weak.search(text)}


def test_every_cookie_is_pinned_to_its_host_and_hidden_from_scripts(
    sources: dict[Path, ast.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three places write cookies, and over https each writes it so. A fourth has to be tried here, too."""
    writes = re.compile(r"\bresponse\.set_cookie\(|b'set-cookie'|\['set-cookie'\]|'Set-Cookie'")
    writers = {str(path.relative_to(SERVICE)) for path, tree in sources.items() if writes.search(ast.unparse(tree))}
    assert writers == {"guardrails/sessions.py", "guardrails/browser.py", "web/flash.py"}
    secure = Settings(base_url="https://app.acme.test")
    monkeypatch.setattr(flash, "get_settings", lambda: secure)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}})
    answer = Response()
    for purpose in ("sid", "device", "oidc"):
        sessions.put_cookie(answer, secure, purpose, "value", None)
    flash.flash(request, "Told.")
    flash.carry_messages(request, answer)
    browser.csrf_token(request, secure)
    told = [value.decode().lower() for name, value in answer.raw_headers if name == b"set-cookie"]
    told.append(request.scope["state"]["csrf_cookie"].decode().lower())
    assert len(told) == 5
    for cookie in told:
        assert cookie.startswith("__host-"), cookie
        assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(cookie.split("; ")), cookie
        assert "domain=" not in cookie


def test_recovery_codes_need_no_slow_hash() -> None:
    """112 random bits and more may be kept under a plain keyed hash; nobody tries them all."""
    made = {new_recovery_code() for _ in range(200)}
    assert len(made) == 200
    letters = {len(code.replace("-", "")) for code in made}
    assert set("".join(made)) - {"-"} == set(CODE_ALPHABET)
    assert min(letters) * math.log2(len(CODE_ALPHABET)) >= 112


def test_nothing_reads_formats_that_run_or_reach_out(sources: dict[Path, ast.Module]) -> None:
    """XML is looked at in uploads alone, by a parser that refuses declarations; pickle and its like nowhere."""
    users = {str(path.relative_to(SERVICE)): imported(tree) & PARSERS for path, tree in sources.items()}
    using = {path: names for path, names in users.items() if names}
    assert set(using) <= {"features/files/flows/decoder.py"}, using
    for path in using:
        text = (SERVICE / path).read_text()
        assert "DoctypeDeclHandler" in text, f"{path}: refuse document types before anything is parsed"


def made_from_values(tree: ast.Module) -> list[int]:
    """Patterns and templates that are put together at run time."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        if name == "from_string" or (owner == "re" and name != "escape" and node.args and not _is_fixed(node.args[0])):
            found.append(node.lineno)
    return found


def _is_fixed(node: ast.expr) -> bool:
    """Literal, or made of literals, upper-case constants and what was escaped."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Name):
        return node.id.isupper()
    if isinstance(node, ast.Attribute):
        return node.attr == "pattern" and _is_fixed(node.value)
    if isinstance(node, ast.BinOp):
        return _is_fixed(node.left) and _is_fixed(node.right)
    if isinstance(node, ast.JoinedStr):
        return all(_is_fixed(part.value) for part in node.values if isinstance(part, ast.FormattedValue))
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("re.escape", "RUN.format", "'|'.join", '"|".join')
    return False


def test_no_pattern_and_no_template_is_made_from_what_came_in(sources: dict[Path, ast.Module]) -> None:
    known = {str(path.relative_to(SERVICE)): made_from_values(tree) for path, tree in sources.items()}
    found = {path: lines for path, lines in known.items() if lines and path not in PATTERNS_OF_OUR_OWN}
    assert set(PATTERNS_OF_OUR_OWN) == {path for path in known if known[path] and path in PATTERNS_OF_OUR_OWN}
    assert not found, f"{found}: escape it, or match without a pattern"
    assert made_from_values(ast.parse("re.search(f'{x}', y)\nenvironment.from_string(z)")) == [1, 2]
    assert made_from_values(ast.parse("re.search(f'{re.escape(x)}', y)\nre.compile('a' + PART)")) == []


def scripts() -> dict[str, str]:
    found = {path.name: path.read_text() for path in (SERVICE / "web" / "static").glob("*.js")}
    assert len(found) >= 2
    return {name: text for name, text in found.items() if "htmx" not in name}


def test_scripts_keep_nothing_but_the_theme_in_the_browser() -> None:
    kept = {
        match for text in scripts().values()
        for match in re.findall(r"(?:local|session)Storage\.setItem\(\s*\"(\w+)\"", text)
    }  # fmt: skip
    assert kept == {"theme"}
    assert not [
        name for name, text in scripts().items() if re.search(r"indexedDB|caches\.open|document\.cookie\s*=", text)
    ]


def test_scripts_merge_no_objects_from_outside() -> None:
    risky = re.compile(r"__proto__|Object\.assign|\.prototype\b|\bextend\(")
    assert not {name: risky.findall(text) for name, text in scripts().items() if risky.search(text)}


def test_pages_use_nothing_that_browsers_have_given_up() -> None:
    pages = sorted(SERVICE.rglob("*.html"))
    assert len(pages) >= 60
    old = re.compile(r"<(applet|object|embed|frameset|marquee|blink)\b|javascript:|\.swf\b", re.IGNORECASE)
    assert not {page.name: old.findall(page.read_text()) for page in pages if old.search(page.read_text())}


def test_every_password_field_hides_and_takes_what_a_manager_pastes() -> None:
    fields = re.compile(r"ui\.field\(form, \"(?P<name>\w+)\"(?P<rest>[^}]*)\}\}")
    found, wrong = 0, []
    for page in sorted(SERVICE.rglob("*.html")):
        text = page.read_text()
        assert not re.search(r"onpaste|autocomplete=\"off\"[^}]*name=\"password", text)
        for field in fields.finditer(text):
            if "password" in field["name"] or field["name"] in ("current", "proof"):
                found += 1
                if not re.search(r'autocomplete="(current-password|new-password|one-time-code)"', field["rest"]):
                    wrong.append(f"{page.name}: {field['name']} lets no password manager in")
                if "one-time-code" not in field["rest"] and 'type="password"' not in field["rest"]:
                    wrong.append(f"{page.name}: {field['name']} is shown to whoever looks over a shoulder")
    assert found >= 7
    assert not wrong, wrong


def test_no_address_carries_what_is_nobodys_business(routes: list[Route]) -> None:
    """Addresses stand in logs, histories and referers. Mailed links are the exception, by path and for one use."""
    parameters = [
        (str(route), one.name)
        for route in routes
        if route.method == "GET"
        for one in route.api_route.dependant.query_params
    ]
    assert len(parameters) >= 15
    told = {f"{route}: {name}" for route, name in parameters if TOLD_IN_ADDRESSES.search(name)}
    assert not {one for one in told if one.rpartition(": ")[2] not in THROUGH_THE_ADDRESS}, told


def test_nothing_here_speaks_what_the_standard_has_more_rules_for(
    app: FastAPI, routes: list[Route], sources: dict[Path, ast.Module]
) -> None:
    """WebSocket, GraphQL, SAML, LDAP, SMS, WebRTC, our own authorization server: their rows are not applicable while
    none of it is here. When this fails, set `applies` to yes for the rows that it names."""
    sockets = [one for one in app.routes if isinstance(one, WebSocketRoute)]
    assert not sockets, "V4.4 and V17: rows about WebSocket apply now"
    paths = [route.path for route in routes] + [str(one.path) for one in plain_routes_of(app)]
    asked = [
        path for path in paths if re.search(r"graphql|saml|ldap|/oauth/(authorize|token)|\.well-known/openid", path)
    ]
    assert not asked, f"{asked}: V4.3, V6.8, V10: their rows apply now"
    words = {
        "graphene",
        "strawberry",
        "ariadne",
        "ldap3",
        "ldap",
        "pysaml2",
        "onelogin",
        "twilio",
        "aiortc",
        "memcache",
    }
    used = {name for tree in sources.values() for name in imported(tree)} & words
    assert not used, f"{used}: the rows about it apply now"


def lacking(packages: Iterable[dict[str, object]]) -> list[str]:
    """Packages of the lock that come from elsewhere, or whose files have no hash."""
    found = []
    for one in packages:
        source = one["source"]
        assert isinstance(source, dict)
        if "virtual" in source or "editable" in source:
            continue
        files = [*one.get("wheels", ()), *([one["sdist"]] if "sdist" in one else [])]  # type: ignore[misc]
        hashed = files and all(str(file.get("hash", "")).startswith("sha256:") for file in files)
        if source.get("registry") != "https://pypi.org/simple" or not hashed:
            found.append(str(one["name"]))
    return found


def test_everything_we_build_on_is_listed_with_its_source_and_hash() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert len(packages) >= 100
    assert not lacking(packages)
    assert lacking([{"name": "x", "source": {"git": "https://x.example"}}]) == ["x"]


def test_types_are_checked_strictly() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert not {name for name in settings if name.startswith(("disable", "allow_untyped", "ignore_errors"))}
