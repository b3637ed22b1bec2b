from service.features.sources.actions.people import (
    change_key,
    connect_source,
    delete_source,
    pause_source,
    pull_now,
    restore_source,
    resume_source,
)
from service.features.sources.actions.system import fail_pull, stop_source, store_pull

__all__ = [
    "change_key",
    "connect_source",
    "delete_source",
    "fail_pull",
    "pause_source",
    "pull_now",
    "restore_source",
    "resume_source",
    "stop_source",
    "store_pull",
]
