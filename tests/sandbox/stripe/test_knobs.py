"""Chance that can be repeated: a stream per knob, all started anew when a knob is turned."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from infra.sandbox.knobs import changed
from infra.sandbox.stripe.knobs import StripeKnobs


def fates(knobs: StripeKnobs, count: int = 50) -> list[bool]:
    return [knobs.strikes("drop") for _ in range(count)]


def test_draws_of_one_knob_do_not_shift_those_of_another() -> None:
    alone = fates(StripeKnobs(drop=0.5))
    among_others = StripeKnobs(drop=0.5)
    for _ in range(7):
        among_others.strikes("duplicate")
        among_others.between("delay")
    assert fates(among_others) == alone
    assert len(set(alone)) == 2


def test_a_knob_strikes_more_often_when_it_is_turned_up_and_at_the_same_places() -> None:
    seldom, often = fates(StripeKnobs(drop=0.2)), fates(StripeKnobs(drop=0.8))
    assert sum(seldom) < sum(often)
    assert all(more for less, more in zip(seldom, often, strict=True) if less)
    assert not any(fates(StripeKnobs()))
    assert all(fates(StripeKnobs(drop=1)))


def test_turning_any_knob_starts_all_streams_anew() -> None:
    knobs = StripeKnobs(drop=0.5)
    first = fates(knobs)
    assert fates(knobs) != first
    turned = changed(knobs, {"duplicate": 0.5})
    assert isinstance(turned, StripeKnobs)
    assert fates(turned) == first
    other = changed(knobs, {"seed": 2})
    assert isinstance(other, StripeKnobs)
    assert fates(other) != first


def test_a_range_is_drawn_between_its_ends_whichever_was_set() -> None:
    knobs = StripeKnobs(delay_min=1, delay_max=2)
    drawn = [knobs.between("delay") for _ in range(100)]
    assert all(1 <= one <= 2 for one in drawn)
    assert max(drawn) - min(drawn) > 0.5
    assert StripeKnobs(delay_min=3).between("delay") == 3, "only the shorter end was set"
    assert StripeKnobs().between("delay") == 0


@pytest.mark.parametrize("wrong", [{"drop": 1.1}, {"drop": -0.1}, {"receiver_timeout": 0}, {"end_of_dunning": "shrug"}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        StripeKnobs.model_validate(wrong)


def test_the_help_says_how_to_repeat_a_run() -> None:
    assert "To repeat a run" in str(StripeKnobs.model_fields["seed"].description)
    assert all(field.description for field in StripeKnobs.model_fields.values())
