"""Whoever opens connections says where they lead: to the organization's region, or to one peer for all, and why."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from service.core.regions import Reach
from tests.architecture.conftest import ROOT, SERVICE
from tests.architecture.test_sources import found_in, shown

OPENERS = {
    "AsyncClient", "OTLPSpanExporter", "S3Store", "StripeClient", "connect", "create_async_engine", "create_connection",
    "create_pool", "from_url", "open_connection", "open_unix_connection", "urlopen",
}  # fmt: skip
"""Calls that begin a conversation."""
SPEAKERS = {
    "aiohttp",
    "aiosmtplib",
    "boto3",
    "botocore",
    "ftplib",
    "http.client",
    "requests",
    "smtplib",
    "urllib.request",
    "urllib3",
    "websockets",
}
"""Modules that are there for nothing else: importing one is talking."""
VERBS = {"Client", "delete", "get", "head", "options", "patch", "post", "put", "request", "socket", "stream"}
"""With these, httpx and socket begin a conversation, too; their other names are errors and constants."""
NEVER = {"httpx": VERBS - {"Client"}, "requests": VERBS, "request": {"urlopen"}}
"""Functions that obey HTTPS_PROXY and its like, and cannot be told not to."""
STRAIGHT = {
    "AsyncClient": "trust_env=False",
    "Client": "trust_env=False",
    "create_ssl_context": "trust_env=False",
    "S3Store": "_straight(",
    "OTLPSpanExporter": "session=session",
    "Session": "session.trust_env = False",
}
"""What begins a conversation over HTTP, and what keeps it on its way: no proxy of the environment, no redirect."""
INTEGRATIONS = SERVICE / "integrations"
PLUMBING = {"service.integrations.http": "everybody's door: whoever goes through it says where"}


def modules_in(node: ast.AST) -> set[str]:
    """What an import names, and what that is part of."""
    names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
    if isinstance(node, ast.ImportFrom) and node.module:
        names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)}


def talks(path: Path, tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            # SQLAlchemy's own connect() on an engine that exists opens nothing new.
            if name in OPENERS and not ast.unparse(function).endswith("engine.connect"):
                return True
            if ast.unparse(function).partition(".")[0] in ("httpx", "socket") and name in VERBS:
                return True
        if SPEAKERS & modules_in(node):
            return True
        direct = node.names if isinstance(node, ast.ImportFrom) and node.module in ("httpx", "socket") else []
        if any(alias.name in VERBS | OPENERS for alias in direct):
            return True
        takes_door = isinstance(node, ast.ImportFrom) and any(alias.name == "HttpClient" for alias in node.names)
        if takes_door and INTEGRATIONS in path.parents:
            return True
    return False


def astray(tree: ast.Module) -> tuple[int, list[str]]:
    """How many clients over HTTP a module makes, and those that go where the environment or the peer sends them."""
    made, found, text = 0, [], ast.unparse(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner, _, name = ast.unparse(call.func).rpartition(".")
        said = ast.unparse(call)
        if name in NEVER.get(owner.rpartition(".")[2], ()):
            found.append(said)
        if name not in STRAIGHT or owner.rpartition(".")[2] not in ("", "httpx", "requests"):
            continue
        made += 1
        enough = STRAIGHT[name] in (text if name == "Session" else said)
        if not enough or "follow_redirects=True" in said:
            found.append(said)
    return made, found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def undeclared(sources: dict[Path, ast.Module]) -> tuple[dict[str, object], list[str]]:
    """What each module that talks declares; and those that declare nothing."""
    talking = [module_of(path) for path, tree in sources.items() if talks(path, tree)]
    found = {name: getattr(importlib.import_module(name), "REACH", None) for name in talking if name not in PLUMBING}
    return found, [name for name, reach in found.items() if not isinstance(reach, Reach)]


def test_every_module_that_talks_to_others_says_where_they_are(sources: dict[Path, ast.Module]) -> None:
    found, silent = undeclared(sources)
    assert len(found) >= 16, f"the scan saw only {len(found)} modules that talk"
    assert not silent, (
        f"{silent}: write REACH = by_region() and take the region's settings, or REACH = everywhere('why all"
        " organizations may be served by one peer'); docs/compliance/residency.md lists them"
    )
    vague = [
        name for name, reach in found.items() if isinstance(reach, Reach) and not reach.regional and len(reach.why) < 20
    ]
    assert not vague, f"{vague}: say why one peer for all regions is right"


def test_a_client_that_steps_around_is_noticed(sources: dict[Path, ast.Module]) -> None:
    """It bites: the smallest module that asks somebody, in the shelf where such modules are."""
    naive = ast.parse(
        "import httpx\nasync def ask(url):\n    async with httpx.AsyncClient() as c:\n        await c.get(url)"
    )
    assert talks(SERVICE / "features" / "naive.py", naive)
    for line in (
        "import httpx\nhttpx.post(url)",
        "import httpx\nhttpx.Client()",
        "from httpx import Client",
        "import smtplib",
        "from smtplib import SMTP",
        "from http import client",
        "import http.client",
        "import socket\nsocket.socket()",
        "from requests import post",
        "import boto3",
        "import aiohttp",
        "import urllib.request",
        "from urllib import request",
    ):
        assert talks(SERVICE / "features" / "naive.py", ast.parse(line)), line
    for line in (
        "import httpx\nraise httpx.HTTPError('x')",
        "from urllib.parse import quote",
        "from http import HTTPStatus",
    ):
        assert not talks(SERVICE / "features" / "naive.py", ast.parse(line)), line
    by_the_door = ast.parse("from service.integrations.http import HttpClient")
    assert talks(INTEGRATIONS / "naive.py", by_the_door)


def test_no_client_goes_where_the_environment_or_a_redirect_sends_it(sources: dict[Path, ast.Module]) -> None:
    """tests/integrations/test_straight.py sees each of them keep to its way."""
    each = {module_of(path): astray(tree) for path, tree in sources.items()}
    assert sum(made for made, _ in each.values()) >= 6, "the scan sees our clients"
    hits = {name: found for name, (_, found) in each.items() if found}
    assert not hits, f"{hits}: trust_env=False and no redirects, or go through integrations.http"
    for naive in (
        "httpx.AsyncClient()",
        "AsyncClient(trust_env=True)",
        "httpx.Client(trust_env=False, follow_redirects=True)",
        "httpx.get(url)",
        "requests.post(url)",
        "urllib.request.urlopen(url)",
        "session = requests.Session()",
        "S3Store('bucket', client_options={'timeout': '3s'})",
        "OTLPSpanExporter(endpoint=url)",
    ):
        assert astray(ast.parse(naive))[1], naive
    assert not astray(ast.parse("httpx.AsyncClient(trust_env=False)"))[1]


def test_regional_clients_do_not_read_the_home_regions_settings(sources: dict[Path, ast.Module]) -> None:
    """`settings.smtp_url` in a client of all regions would be the home region's, for everybody."""
    names = {"storage_url", "storage_endpoint", "storage_region", "smtp_url", "sendgrid_api_base", "sendgrid_api_key"}
    names |= {"storage_access_key", "storage_secret_key", "mail_through"}
    allowed = {"settings.py", "regions.py", "insecurities.py"}

    def reads(node: ast.AST) -> bool:
        owner = node.value if isinstance(node, ast.Attribute) and node.attr in names else None
        return owner is not None and ast.unparse(owner).rpartition(".")[2].strip("_") == "settings"

    others = {path: tree for path, tree in sources.items() if path.name not in allowed}
    assert len(others) >= 250, f"the scan saw only {len(others)} files"
    hits = found_in(others, reads)
    assert not hits, f"{hits}: take a Place (core.regions) and read its settings"
    assert reads(ast.parse("self._settings.smtp_url", mode="eval").body), "the scan finds nothing"


def test_the_page_on_residency_lists_every_module_that_talks(sources: dict[Path, ast.Module]) -> None:
    text = (ROOT / "docs" / "compliance" / "residency.md").read_text()
    found, _ = undeclared(sources)
    missing = [name for name in found if f"`{name}`" not in text]
    assert not missing, f"{missing}: add a line to the table of {shown(ROOT / 'docs/compliance/residency.md')}"
