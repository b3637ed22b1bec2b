"""Every problem has its page, every page its problem, and the page is where the problem says."""

from __future__ import annotations

import re

import httpx

from service.catalog import load_tables
from service.core import errors
from tests.support.client import Client
from tests.support.servers import RunningServer


def known() -> dict[str, type[errors.ServiceError]]:
    load_tables()
    return {code: kind for code, kind in errors.kinds().items() if kind.__module__.startswith("service.")}


def test_every_kind_of_problem_explains_itself() -> None:
    assert len(known()) >= 20
    for code, kind in known().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert {"title", "meaning"} <= set(vars(kind)), (
            f"{kind.__module__}.{kind.__name__}: give it a `title` and a `meaning` of its own; its page shows both"
        )
        assert kind.default_mend or kind.status == 500, f"{kind.__name__}: say in `default_mend` what helps"
    texts = [kind.meaning for kind in known().values()]
    assert len(set(texts)) == len(texts)


async def test_every_problem_has_a_page_and_every_page_a_problem(server: RunningServer) -> None:
    async with Client(server.url) as anybody:
        listed = set(re.findall(r'href="/problems/([^"]+)"', await anybody.page("/problems")))
        assert set(known()) <= listed
        for code, kind in known().items():
            page = await anybody.page(f"/problems/{code}")
            assert kind.title in page.replace("&#39;", "'")
            assert f"{server.url}/problems/{code}" in page
        missing = await anybody.get("/problems/no-such-problem")
        assert missing.status_code == 404
        assert "/problems" in missing.text


async def test_the_type_of_a_problem_leads_to_its_page(server: RunningServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as program:
        problem = (await program.get("/api/v1/nowhere")).json()
        page = await program.get(problem["type"], headers={"accept": "text/html"})
        assert page.status_code == 200
        assert problem["title"] in page.text
