"""The pages of the panel that this feature writes by hand."""

from __future__ import annotations

from service.web.staff_home import StaffPage

STAFF_PAGES = [
    StaffPage("Dead letters", "/staff/dead-letters", "What was given up on, of every kind, to try again.", 10),
    StaffPage("Feature flags", "/staff/flags", "What some organizations see before all do.", 14),
    StaffPage("Switches", "/staff/switches", "Pause changes, sign-ups or mail while somebody looks into it.", 12),
]
