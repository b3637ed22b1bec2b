"""After a restore nobody is served before whoever was erased is gone again: until then this process is not ready.

The ledger is asked once at the start, beside the probe and not by it: a probe has a second, a store with thousands of
entries needs more. Limits: a database that is put back under a running process is not noticed before the hourly job
(erasure.follow_the_ledger); ops/README.md says to stop the service first.
"""

from __future__ import annotations

import asyncio

from service.core.context import Resources
from service.core.logging import get_logger
from service.features.erasure.flows import arrivals

AGAIN_SECONDS = 10.0
TRIES = 12
"""A store that is away for two minutes: then whoever starts serves, because an outage there must not become one of all.
Restores are rare, and ops/README.md asks for the command; what is left to erase, the hourly job goes on to find."""
BACK = "Erased people are back. Run the command privacy replay-erasures."
log = get_logger()


class Gate:
    """A resource: `problem` is what keeps this process from serving, in one sentence, or nothing."""

    def __init__(self) -> None:
        self.problem = ""

    def shut(self) -> None:
        self.problem = "The ledger of erasures has not been asked yet."

    async def watch(self, resources: Resources) -> None:
        """Ask until nobody is left to erase again; a store that does not answer keeps it shut for a while, too."""
        tries = 0
        while self.problem:
            try:
                missing = await arrivals.unreplayed(resources)
                self.problem = BACK if missing else ""
                if missing:
                    log.error("erased people are back", count=len(missing))
            except Exception as error:  # whatever it is, serving them at once would be worse
                tries += 1
                log.warning("ledger of erasures not asked", error=type(error).__name__)
                if tries == TRIES:
                    log.error("serving without having asked the ledger of erasures")
                    self.problem = ""
            if self.problem:
                await asyncio.sleep(AGAIN_SECONDS)
