"""No card data ever reaches us: cards are typed on Stripe's pages, and no page of ours could take one.

It keeps the service out of almost all of PCI DSS (self-assessment A: docs.stripe.com/security/guide).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.core.settings import Settings, get_settings
from service.guardrails.browser import content_policy
from service.integrations.stripe.addresses import PAGES, stripe_origins
from tests.architecture.conftest import SERVICE

CARD_FORM = re.compile(
    r"js\.stripe\.com|m\.stripe\.network|<iframe|autocomplete=[\"']?cc-|autocomplete=\"cc-"
    r"|\bname=[\"'][^\"']*(?:card|cvc|cvv|iban|expiry)[^\"']*[\"']|ui\.field\([^)]*[\"'](?:card|cvc|cvv|iban|expiry)",
    re.IGNORECASE,
)
FIELD = re.compile(r"^\s{4}(\w*(?:card_|cvc|cvv|iban|expiry)\w*|card): ", re.IGNORECASE | re.MULTILINE)


def pages_with_card_forms(folder: Path) -> tuple[int, list[str]]:
    """(how many files were read, those with something that takes a card)"""
    files = [file for kind in ("*.html", "*.js") for file in folder.rglob(kind)]
    return len(files), [file.name for file in files if CARD_FORM.search(file.read_text())]


def test_no_page_or_script_takes_a_card() -> None:
    seen, found = pages_with_card_forms(SERVICE)
    assert seen >= 60, f"the scan saw only {seen} files"
    assert not found, f"{found}: send people to Checkout or to the portal instead (billing/pages/checkout.py)"


def test_no_form_has_a_field_for_a_card() -> None:
    files = [*SERVICE.glob("features/*/schemas*"), *SERVICE.glob("features/*/schemas/*.py")]
    assert len(files) >= 5, f"the scan saw only {len(files)} files"
    found = [file.parent.name for file in files if file.is_file() and FIELD.search(file.read_text())]
    assert not found, f"{found}: no form takes a card; Stripe's pages do"


@pytest.mark.parametrize("real", [False, True])
def test_no_content_policy_lets_a_card_form_in(real: bool, settings: Settings) -> None:
    """Not even the page that leads to Stripe: its forms may end there, and nothing may be loaded from there."""
    at = get_settings().model_copy(update={"stripe_api_base": ""}) if real else settings
    for policy in (content_policy(at), content_policy(at, *stripe_origins(at))):
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert not {"frame-src", "child-src"} & rules.keys()
        loading = {name: rule for name, rule in rules.items() if name not in ("form-action", "trusted-types")}
        foreign = [name for name, rule in loading.items() if "stripe" in rule or "//" in rule]
        assert not foreign, f"{foreign}: a page of ours would load from somewhere else"
    assert (set(PAGES) <= set(rules["form-action"].split())) is real


@pytest.mark.parametrize(
    "form",
    [
        '<script src="https://js.stripe.com/v3/"></script>',
        '<input autocomplete="cc-number">',
        '<input name="card_number">',
        '<input name="cvc">',
        '{{ ui.field(form, "card") }}',
        '<iframe src="/pay"></iframe>',
    ],
)
def test_a_card_form_is_found(form: str, tmp_path: Path) -> None:
    (tmp_path / "probe.html").write_text(f"<form>{form}</form>")
    assert pages_with_card_forms(tmp_path) == (1, ["probe.html"])
    (tmp_path / "probe.html").write_text('<form><button name="intent">Card and address</button></form>')
    assert pages_with_card_forms(tmp_path) == (1, [])
