"""What our support may do in somebody's account: two short lists that people review, and the rule for all the rest."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.context import Actor, ActorKind, Context
from service.core.features import load
from service.core.ids import new_id
from service.features import FEATURES
from service.guardrails import actions
from service.guardrails.actions import Rule
from service.guardrails.impersonation import NotInAVisit
from service.guardrails.permissions import Role, Who
from tests.architecture.test_actions import rules_of_features

ALLOWED = {
    "sources.pull_now": "asks for what is asked every hour anyway",
    "support.stop": "leaves",
    "webhooks.test": "sends a message that says it is a test, to the address that the customer gave",
}
"""Writes: harmless, to be had again, and nobody's decision. Nothing about credentials, people, money or data."""

WITHHELD = {
    "accounts.get_totp_offer": "the secret of somebody's second factor",
    "accounts.list_devices": "where somebody is logged in is between them and us",
    "audit_log.export": "leaves as a file",
    "billing.list_invoices": "whoever holds an invoice's address may pay it",
    "billing.read_operation": "holds the address of a page where somebody pays",
    "files.download": "leaves as a file",
    "imports.export": "leaves as a file",
    "privacy.download": "leaves as a file",
    "privacy.exports": "leads to files that leave",
    "privacy.organization_exports": "leads to files that leave",
    "organizations.list": "shows organizations other than the one that let support in",
    "organizations.list_deleted": "shows organizations other than the one that let support in",
    "organizations.list_my_invitations": "holds links that join other organizations",
}
"""Reads: secrets, what leaves, and what belongs to somebody who let nobody in."""
LEAST_WRITES, LEAST_READS = 100, 60


def test_what_support_may_do_equals_the_reviewed_lists() -> None:
    rules = rules_of_features().values()
    writes = [rule for rule in rules if rule.writes]
    reads = [rule for rule in rules if not rule.writes]
    assert len(writes) >= LEAST_WRITES, f"the scan saw only {len(writes)} actions"
    assert len(reads) >= LEAST_READS, f"the scan saw only {len(reads)} queries"
    assert {rule.name for rule in writes if rule.while_impersonated} == set(ALLOWED), (
        "an action is refused to support in somebody's account unless it is marked, and a mark is a decision: "
        "say in ALLOWED why it is harmless"
    )
    assert {rule.name for rule in reads if not rule.while_impersonated} == set(WITHHELD), (
        "a read is shown to support unless it is withheld: say in WITHHELD what makes it a secret"
    )


def too_dangerous(rules: list[Rule]) -> list[str]:
    """Marks that nobody may set, whatever the list says."""
    return [
        rule.name
        for rule in rules
        if rule.writes
        and rule.while_impersonated
        and (rule.step_up or rule.requires in (Who.STAFF, Who.SYSTEM, Who.ANYONE, Role.OWNER))
    ]


def test_nothing_dangerous_is_marked() -> None:
    """What asks for a fresh password, what staff or the system do and what is the owner's alone: never in a visit."""
    assert too_dangerous(list(rules_of_features().values())) == []
    probe = Rule("probe.delete", Role.OWNER, writes=True, while_impersonated=True)
    assert too_dangerous([probe]) == ["probe.delete"]


def test_reads_with_a_secret_in_their_name_are_withheld() -> None:
    words = ("secret", "totp", "export", "download", "recovery")
    named = {rule.name for rule in rules_of_features().values() if any(word in rule.name for word in words)}
    reads = {name for name in named if not actions.RULES[name].writes}
    assert len(reads) >= 4
    assert reads <= set(WITHHELD), f"{sorted(reads - set(WITHHELD))}: add while_impersonated=False to the @query"


def verbs() -> list[Any]:
    """Every action and query, as the pages call them."""
    found = [
        thing
        for file_name in ("actions", "queries")
        for _, module in load(FEATURES, file_name)
        for thing in vars(module).values()
        if isinstance(getattr(thing, "rule", None), Rule)
    ]
    return list({verb.rule.name: verb for verb in found}.values())


async def test_every_door_refuses_support_what_is_not_on_the_list() -> None:
    """Each is really called; tests/features/support asks some of them over HTTP."""
    refused = 0
    for verb in verbs():
        rule = verb.rule
        if rule.while_impersonated:
            continue
        ctx = Context(None, None, Actor(ActorKind.USER, new_id()), None)  # type: ignore[arg-type]
        ctx.role, ctx.organization_id = Role.OWNER, new_id()
        ctx.acted_by = Actor(ActorKind.STAFF, new_id())
        with pytest.raises(NotInAVisit):
            await verb(ctx)
        assert [(event.action, event.outcome) for event in ctx.security_events] == [(rule.name, "denied")]
        refused += 1
    assert refused >= LEAST_WRITES - len(ALLOWED) + len(WITHHELD), f"only {refused} were asked"
