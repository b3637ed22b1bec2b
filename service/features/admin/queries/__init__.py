"""Reads for staff: how the service is doing, one person, one organization, what happened, who is kept waiting."""

from service.features.admin.queries.events import list_events
from service.features.admin.queries.jobs import list_jobs
from service.features.admin.queries.organizations import get_organization
from service.features.admin.queries.people import get_person
from service.features.admin.queries.service import (
    JOBS,
    count_dead_jobs,
    limits_of,
    list_dead_jobs,
    list_declared_flags,
    list_flags,
    list_switches,
)
from service.features.admin.queries.system import get_system

__all__ = [
    "JOBS", "count_dead_jobs", "get_organization", "get_person", "get_system", "limits_of", "list_dead_jobs",
    "list_declared_flags", "list_events", "list_flags", "list_jobs", "list_switches",
]  # fmt: skip
