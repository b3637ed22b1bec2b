"""The sources of the demo organization."""

from __future__ import annotations

from datetime import timedelta

from pydantic import SecretStr

from service.core import clock
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.features.indicators.models import Indicator
from service.features.sources.models import Outcome, Source, SourceFeed, SourceRun
from service.features.sources.schemas import GitHubForm, PlausibleForm, RatesForm


async def plant_sources(work: UnitOfWork) -> None:
    """One of each kind, a day of askings behind it; the worker asks at once, and fetches the month before."""
    now = clock.now()
    for form in (
        RatesForm(base="EUR", quotes="USD"),
        GitHubForm(repository="northwind/storefront"),
        PlausibleForm(site="northwind.example", key=SecretStr("plausible-ballast-sandbox")),
    ):
        wish = form.wish()
        source = Source(id=new_id(), kind=wish.kind, target=wish.target, config=dict(wish.config))
        source.keep_key(wish.key)
        source.ok_at = source.tried_at = now - timedelta(hours=1)
        series = wish.series[0]
        indicator = Indicator(name=series.name, description=series.about, unit=series.unit)
        indicator.fed_by(source.id, source.ok_at)
        work.session.add_all((source, indicator))
        await work.session.flush()
        work.session.add(SourceFeed(source_id=source.id, series=series.key, indicator_id=indicator.id))
        for hours in range(24, 0, -1):
            at = now - timedelta(hours=hours)
            work.session.add(SourceRun(source_id=source.id, at=at, outcome=Outcome.UNCHANGED, took_ms=80 + hours))
