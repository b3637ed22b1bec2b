"""What can go wrong with Stripe: on the way to our webhook, on the way to its API, and in between."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from infra.sandbox.knobs import Knobs

MOST_SECONDS = 600


def _chance(text: str) -> Any:
    return Field(0.0, ge=0, le=1, description=f"Chance from 0 to 1: {text}")


def _seconds(text: str, usual: float = 0.0) -> Any:
    return Field(usual, ge=0, le=MOST_SECONDS, description=f"Seconds: {text}")


class StripeKnobs(Knobs):
    """Every fault of the stand-in; all defaults are a healthy Stripe with its waits shortened."""

    seed: int = Field(
        1,
        description="Where chance starts. Each knob draws from a stream of its own, made of this number and the knob's "
        "name; turning any knob starts all streams anew. To repeat a run: same seed, same knobs, same calls in order",
    )
    delay_min: float = _seconds("the shortest time an event waits before its first delivery")
    delay_max: float = _seconds("the longest time; each delivery draws one between the two")
    reorder_window: float = _seconds("each delivery waits up to this long, so that neighbours overtake each other")
    duplicate: float = _chance("an event is delivered a second time, also after it was accepted")
    duplicate_within: float = _seconds("the second delivery starts at most this long after the first; 0 is at once")
    twin: float = _chance("one change makes two events with different ids (Stripe says this happens)")
    drop: float = _chance("a delivery is lost for good; the event still shows in the list of events")
    suppress: float = _chance("the event is never made: no delivery, and no list shows it")
    bad_signature: float = _chance("an attempt carries a signature that does not match; retries draw again")
    serial: bool = Field(False, description="Deliver one at a time, in order; otherwise many at once")
    receiver_timeout: float = Field(
        10.0,
        gt=0,
        le=MOST_SECONDS,
        description="Seconds: give up on a webhook that has not answered by then, and retry",
    )
    retry_factor: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Shortens Stripe's waits between attempts (5 min, 30 min, 2 h ... 3 days in all): 1 is real time, "
        "0.01 makes 5 minutes 3 seconds",
    )
    api_latency_min: float = _seconds("the shortest time an API call takes")
    api_latency_max: float = _seconds("the longest time; each call draws one between the two")
    api_answer_late: float = _seconds("the answer to an API call that changes something is held back after its effect")
    api_429: float = _chance("an API call answers 429 lock_timeout and does nothing")
    api_error_before: float = _chance("an API call answers 500 and does nothing")
    api_error_after: float = _chance("an API call that changes something does so and then answers 500")
    api_lost: float = _chance("an API call that changes something does so, and the connection ends without an answer")

    garbled: str = Field("", description="Id of a customer whose lists come with objects that have nothing but an id")

    end_of_dunning: Literal["cancel", "unpaid", "past_due"] = Field(
        "cancel", description="What becomes of a subscription whose last retry failed (a setting of the account)"
    )

    # Made anew with every copy, and a turn of a knob is a copy: that is what restarts the streams.
    _streams: dict[str, Random] = PrivateAttr(default_factory=dict)

    def stream(self, concern: str) -> Random:
        """The chance of one concern: draws of one never shift those of another."""
        if concern not in self._streams:
            self._streams[concern] = Random(f"{self.seed}/{concern}")  # noqa: S311 - repeatable on purpose
        return self._streams[concern]

    def strikes(self, concern: str) -> bool:
        """Whether the fault of this name happens this time; always one draw, whatever the knob says."""
        return self.stream(concern).random() < float(getattr(self, concern))

    def between(self, concern: str) -> float:
        """Seconds drawn from `<concern>_min` to `<concern>_max`."""
        low, high = float(getattr(self, f"{concern}_min")), float(getattr(self, f"{concern}_max"))
        return self.stream(concern).uniform(low, max(low, high))

    def within(self, concern: str) -> float:
        """Seconds drawn from none to the value of this knob."""
        return self.stream(concern).uniform(0, float(getattr(self, concern)))

    @property
    def turned(self) -> list[str]:
        """Names of the knobs that are not where they were."""
        return [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
