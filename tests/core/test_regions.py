"""Regions in the settings: each whole, each apart from the others, and one region as simple as ever."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.core.regions import in_region, split_key
from service.core.settings import InsecureSettings, Settings
from tests.core.test_settings import SAFE, SECRET, SENDGRID, US, make

EU_BUCKET: dict[str, object] = {
    "storage_url": "s3://files-eu",
    "storage_access_key": SECRET,
    "storage_secret_key": SECRET,
}
AMERICA = "https://api.sendgrid.com"
AMERICAN = {"mail_through": "sendgrid", "sendgrid_api_key": f"SG.{SECRET}"}
EUROPEAN = EU_BUCKET | SENDGRID | {"sendgrid_api_base": "https://api.eu.sendgrid.com"}


def test_the_home_region_is_made_of_the_ordinary_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(monkeypatch)
    assert {name: place.storage_url for name, place in made.places.items()} == {"eu": "file:/srv/files"}


def test_a_region_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """All digits is a possible password, and reads like a number to whoever reads JSON into settings."""
    make(monkeypatch)
    for name, value in (US | {"storage_secret_key": "12345678901234567890"}).items():
        monkeypatch.setenv(f"REGIONS__US__{name.upper()}", str(value))
    us = Settings(**SAFE).places["us"]  # type: ignore[arg-type]
    assert (us.storage_url, us.storage_region, us.mail_through) == ("s3://files-us", "us-east-1", "smtp")
    assert us.storage_secret_key.get_secret_value() == "12345678901234567890"
    assert SECRET not in repr(us)


@pytest.mark.parametrize(
    ("name", "us"),
    [
        ("REGIONS__US__STORAGE_URL", {"storage_url": "file:files-us"}),
        ("REGIONS__US__STORAGE_REGION", {"storage_region": "eu-central-1"}),
        ("REGIONS__US__STORAGE_ENDPOINT", {"storage_endpoint": "https://us.S3.eu-central-1.amazonaws.com"}),
        ("REGIONS__US__STORAGE_ENDPOINT", {"storage_endpoint": "https://amazonaws.com."}),
        ("REGIONS__US__STORAGE_REGION", {"storage_region": ""}),
        ("REGIONS__US__STORAGE_ACCESS_KEY", {"storage_access_key": ""}),
        ("REGIONS__US__STORAGE_SECRET_KEY", {"storage_secret_key": ""}),
        ("REGIONS__US__STORAGE_ENDPOINT", {"storage_endpoint": "http://s3.acme.test"}),
        ("REGIONS__US__SMTP_URL", {"smtp_url": "smtps://user:pw@127.0.0.1"}),
        ("REGIONS__US__SMTP_URL", {"smtp_url": ""}),
        ("REGIONS__US__SENDGRID_API_KEY", AMERICAN | {"sendgrid_api_key": "", "sendgrid_api_base": AMERICA}),
        ("REGIONS__US__SENDGRID_API_BASE", AMERICAN),
        ("REGIONS__US__SENDGRID_API_BASE", AMERICAN | {"sendgrid_api_base": "https://api.eu.sendgrid.com"}),
    ],
)
def test_production_refuses_a_region_that_is_not_whole_or_not_apart(
    name: str, us: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InsecureSettings) as refused:
        make(monkeypatch, **EUROPEAN, regions={"us": US | us})
    _, *problems = str(refused.value).splitlines()
    assert [line.partition(":")[0].strip() for line in problems] == [name], "for this reason and no other"
    assert SECRET not in str(refused.value)


def test_two_regions_do_not_share_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InsecureSettings, match="REGIONS__US__STORAGE_URL: is also what region eu uses"):
        make(monkeypatch, regions={"us": US | {"storage_url": "file:/srv/files"}})


def test_two_regions_that_are_apart_start(monkeypatch: pytest.MonkeyPatch) -> None:
    america = US | AMERICAN | {"sendgrid_api_base": AMERICA}
    assert [*make(monkeypatch, **EUROPEAN, regions={"us": america}).places] == ["eu", "us"]


@pytest.mark.parametrize(
    "regions",
    [
        {"us": {"mail_through": "smtp"}},
        {"us": {"storage_url": "s3://files-us"}},
        {"us": US | {"storage_ur": "s3://x"}},
        {"US-EAST-1": US},
    ],
)
def test_what_a_region_lacks_or_does_not_know_is_refused_everywhere(
    regions: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a region has a default: what was forgotten would go home, which is what a region is to prevent."""
    with pytest.raises(ValidationError, match="regions") as wrong:
        make(monkeypatch, environment="development", regions=regions)
    assert SECRET not in str(wrong.value)


def test_a_key_says_its_region_and_one_from_before_says_none() -> None:
    assert in_region("us", "t/1/2") == "us:t/1/2"
    assert split_key("us:t/1/2") == ("us", "t/1/2")
    assert split_key("t/1/2") == (None, "t/1/2")
    assert split_key("t/1/us:2") == (None, "t/1/us:2"), "only at the beginning"
