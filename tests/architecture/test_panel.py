"""Rules about the staff panel: each declaration is for staff, paged, exported, and hides what is personal."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from enum import Enum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import MetaData

from service.core import clock
from service.core.ids import new_id
from service.core.schemas import Input
from service.features import FEATURES
from service.features.accounts import queries
from service.guardrails.actions import RULES, Rule
from service.guardrails.pagination import Page
from service.guardrails.permissions import Role, Who
from service.guardrails.personal_data import Protection, protection_of
from service.web.staff import Act, Column, Listing
from service.web.staff.declared import always
from tests.architecture.conftest import Route
from tests.architecture.reviewed import STAFF_WITHOUT_REASON
from tests.support.factories import Factory

LISTINGS, DETAILS, ACTS, CHOOSY, STAFF_WRITES = 27, 5, 34, 16, 40
"""How many there were when this was set: fewer means that the scan is blind, or that much was removed."""

ELSEWHERE = {
    "/staff/billing/customers/{customer_id}",
    "/staff/billing/customers/{customer_id}/diff",
    *(f"/staff/billing/inbox/{{message_id}}{act}" for act in ("", "/read", "/replay", "/discard", "/link")),
}
"""Pages about one thing that are walked with one of their own in the tests of billing."""


@pytest.fixture(scope="module")
def panel(app: FastAPI) -> Any:
    found = app.state.panel
    assert len(found.listings) >= LISTINGS, f"the scan saw only {len(found.listings)} listings"
    assert len(found.details) >= DETAILS
    assert len(found.acts) >= ACTS, f"the scan saw only {len(found.acts)} acts"
    return found


def row_of(listing: Listing) -> Any:
    """The model of a listing's rows, as its query declares it."""
    answer = typing.get_type_hints(inspect.unwrap(listing.query)).get("return")
    metadata = getattr(answer, "__pydantic_generic_metadata__", {})
    assert metadata.get("origin") is Page, f"{listing.path}: its query answers Page[Row] (guardrails/pagination.py)"
    return metadata["args"][0]


def rule_of(verb: Any) -> Rule:
    found: Rule = verb.rule
    return found


def personal_names(metadata: MetaData) -> set[str]:
    """What columns that hold personal data are called, wherever they are."""
    found = {
        column.name
        for table in metadata.tables.values()
        for column in table.columns
        if protection_of(column) is Protection.PERSONAL
    }
    assert {"email"} <= found
    return found


def faults(listings: Sequence[Listing], metadata: MetaData) -> Iterator[str]:
    personal = personal_names(metadata) | {"name", "network", "address", "reason", "user_agent"}
    kinds = {listing.path for listing in listings if listing.path.startswith("/staff/dead-letters/")}
    tables_rows = kinds | {
        "/staff/organizations",
        "/staff/jobs",
        "/staff/news",
    }  # nobody's names
    for listing in listings:
        rule, row = rule_of(listing.query), row_of(listing)
        if rule.requires is not Who.STAFF or rule.writes:
            yield f"{listing.path}: its query is a @query that requires Who.STAFF"
        if any(field.is_required() for field in listing.wanted.model_fields.values()):
            yield f"{listing.path}: each filter has a default, or the list does not open"
        if not (listing.lead and all(listing.empty)):
            yield f"{listing.path}: say what is listed, and what to do when nothing is"
        for column in listing.columns:
            if column.name not in row.model_fields and not hasattr(row, column.name):
                yield f"{listing.path}: its rows have no {column.name}"
            if column.name in personal and not column.personal and listing.path not in tables_rows:
                yield f"{listing.path}: {column.name} may be personal: say Column(..., personal=True)"


def test_each_listing_is_for_staff_paged_and_hides_what_is_personal(panel: Any, metadata: MetaData) -> None:
    assert not list(faults(panel.listings, metadata))


def test_a_listing_that_shows_addresses_to_whoever_comes_is_found(metadata: MetaData) -> None:
    bare = Listing(
        "/staff/probe", "Probe", queries.list_people, (Column("E-mail", "email"), Column("X", "nowhere")), Sought
    )
    found = list(faults([bare], metadata))
    assert len(found) == 3
    assert any("email may be personal" in fault for fault in found)
    assert any("no nowhere" in fault for fault in found)


class Sought(Input):
    email: str = ""
    user_id: UUID | None = None


def test_a_search_by_any_words_needs_a_reason_whatever_the_filter_is_called(panel: Any) -> None:
    probe = Listing("/staff/probe", "Probe", queries.list_people, (Column("E", "email", personal=True),), wanted=Sought)
    assert probe.tells_whose(Sought(email="canary@"))
    assert not probe.tells_whose(Sought(email=str(new_id()), user_id=new_id()))
    texts = 0
    for listing in panel.listings:
        for name, about in listing.wanted.model_fields.items():
            if listing.is_personal and isinstance(about.default, str) and not isinstance(about.default, Enum):
                texts += 1
                assert listing.tells_whose(listing.wanted.model_construct(**{name: "canary"})), (listing.path, name)
    assert texts >= 2, f"the scan saw only {texts} text filters of personal listings"


def acts_at_fault(acts: Iterable[Act]) -> list[str]:
    return [
        f"{act.of} {act.name}"
        for act in acts
        if not (
            rule_of(act.verb).writes
            and rule_of(act.verb).requires is Who.STAFF
            and rule_of(act.verb).step_up
            and "reason" in act.form.model_fields
            and act.hint
        )
    ]


def test_each_act_needs_staff_a_fresh_proof_and_a_reason(panel: Any) -> None:
    assert not acts_at_fault(panel.acts), "an act is an @action for staff, with step_up, whose form has a reason"
    from service.features.accounts.actions import change_name

    assert acts_at_fault([Act("/staff/probe", "rename", "Rename", change_name)]) == ["/staff/probe rename"]


def unaskable(panel: Any) -> list[str]:
    """Acts for some rows only, of which nothing can be read again when they are done."""
    seen = {detail.of for detail in panel.details}
    seen |= {listing.path for listing in panel.listings if listing.item in listing.wanted.model_fields}
    return [f"{act.of} {act.name}" for act in panel.acts if act.applies is not always and act.of not in seen]


def test_each_act_for_some_rows_can_ask_again_which_they_are(panel: Any) -> None:
    choosy = [act for act in panel.acts if act.applies is not always]
    assert len(choosy) >= CHOOSY, f"the scan saw only {len(choosy)} acts for some rows"
    assert not unaskable(panel), "declare a Detail, or give the listing a filter that is called like its item"
    probe = Act("/staff/mail", "probe", "Probe", choosy[0].verb, applies=lambda row: False)
    assert unaskable(SimpleNamespace(details=[], listings=panel.listings, acts=[probe])) == ["/staff/mail probe"]


def without_reason(verbs: Iterable[Callable[..., Any]]) -> set[str]:
    """Writes of staff that nobody has to say why for: no parameter `reason`, and no form that has one."""
    found, seen = set(), 0
    for verb in verbs:
        rule = rule_of(verb)
        if not (rule.requires is Who.STAFF and rule.writes):
            continue
        seen += 1
        hints = typing.get_type_hints(inspect.unwrap(verb))
        forms = [hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, Input)]
        if "reason" not in hints and not any("reason" in form.model_fields for form in forms):
            found.add(rule.name)
    assert seen >= STAFF_WRITES, f"the scan saw only {seen} writes of staff"
    return found


def verbs_of_features() -> dict[str, Callable[..., Any]]:
    modules = [module for name, module in sys.modules.items() if name.startswith("service.features.")]
    made = [
        each for module in modules for each in vars(module).values() if isinstance(getattr(each, "rule", None), Rule)
    ]
    return {rule_of(each).name: each for each in made}


def test_each_write_of_staff_takes_a_reason_wherever_its_page_is(panel: Any) -> None:
    verbs = verbs_of_features()
    staffs = {name for name, rule in RULES.items() if rule.requires is Who.STAFF and rule.writes}
    staffs = {name for name in staffs if name.partition(".")[0] in FEATURES}
    assert staffs <= set(verbs), "the scan does not see all"
    found = without_reason(verbs.values())
    assert found == set(STAFF_WITHOUT_REASON), (
        f"{found ^ set(STAFF_WITHOUT_REASON)}: let the act take `reason` and its form ask for it; or say in "
        "STAFF_WITHOUT_REASON (tests/architecture/reviewed.py) why nobody would ever ask"
    )

    async def probe(ctx: Any, person_id: UUID) -> None: ...

    probe.rule = Rule("probe.act", Who.STAFF, writes=True)  # type: ignore[attr-defined]
    assert without_reason([*verbs.values(), probe]) == found | {"probe.act"}


async def test_no_page_of_the_panel_shows_who_somebody_is_before_a_reason_is_given(
    routes: list[Route], factory: Factory
) -> None:
    """Whoever wrote it, by declaration or by hand: asked over HTTP, with a person planted wherever people are."""
    owner = await factory.person(Role.OWNER, password="canary in the coal mine")
    name = f"Canary {owner.id.hex[-10:]}"
    await factory.superuser.execute("UPDATE users SET name = $2 WHERE id = $1", owner.id, name)
    assert owner.organization_id is not None
    await factory.key(owner.organization_id)
    await factory.superuser.execute(
        "INSERT INTO mail_suppressions (id, address_hash, email, cause, code, seen_at)"
        " VALUES ($1, $2, $3, 'bounce', '5.1.1', now())", owner.id, owner.id.bytes, owner.email,
    )  # fmt: skip
    await factory.superuser.execute(
        "INSERT INTO erasure_requests (id, user_id, email, state, source, reason, requested_at)"
        " VALUES ($1, $1, $2, 'requested', 'staff', $3, now())", owner.id, owner.email, f"A letter of {name}",
    )  # fmt: skip
    await factory.superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at) VALUES ($1, $1, '*', $2, now())",
        owner.id, f"A letter of {name}",
    )  # fmt: skip
    async with await factory.client(owner) as theirs:
        assert (await theirs.get("/dashboard")).status_code == 200
    named = {
        "person_id": owner.id,
        "organization_id": owner.organization_id,
        "suppression_id": owner.id,
        "request_id": owner.id,
        "limit_id": owner.id,
        "grant_id": await emergency_that_names(factory, name),
    }
    seen, left, exports = 0, set(), f"{factory.resources.settings.redis_namespace}:l:export:*"
    async with await factory.client(await factory.person(staff=True), "password", "totp") as staff:
        for route in routes:
            path = route.path
            for key, value in named.items():
                path = path.replace(f"{{{key}}}", str(value))
            if route.method != "GET" or not path.startswith("/staff"):
                continue
            if "{" in path:
                left.add(path)
                continue
            async for key in factory.resources.redis.scan_iter(exports, count=1000):
                await factory.resources.redis.delete(key)  # there are more to look at than an hour allows
            answer = await staff.get(path)
            assert answer.status_code in (200, 303), f"{path}: {answer.status_code}"
            seen += 1
            shown = [what for what in (owner.email, name) if what in answer.text]
            assert not shown, f"{path} shows {shown}: ask guardrails.staff_reasons first"
    assert seen >= 44, f"the walk saw only {seen} pages"
    assert left == ELSEWHERE, "plant one that names somebody, so that its page is looked at, too"


async def emergency_that_names(factory: Factory, name: str) -> UUID:
    """Rights of a colleague who typed somebody's name into a reason while they had them."""
    reviewer, colleague = await factory.person(staff=True), await factory.person(staff=True)
    grant, end = new_id(), clock.now() + timedelta(hours=1)
    await factory.superuser.execute(
        "INSERT INTO break_glass_grants (id, user_id, reason, opened_at, ends_at, code_hash, reviewed_at, reviewed_by)"
        " VALUES ($1, $2, 'Nobody could log in', $3, $4, 'x', $3, $5)",
        grant, colleague.id, clock.now(), end, reviewer.id,
    )  # fmt: skip
    await factory.superuser.execute("UPDATE users SET emergency_until = $2 WHERE id = $1", colleague.id, end)
    async with await factory.client(colleague, "password", "totp") as browser:
        said = {"next": "/staff/people", "reason": f"{name} has called and waits"}
        assert (await browser.submit("/staff/reasons", page="/staff/reasons", **said)).status_code == 303
    return grant
