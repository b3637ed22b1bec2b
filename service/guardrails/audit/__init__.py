"""Who did what to which record, when and from where: written with the change, append-only, sealed against tampering.

Protects from: the change nobody can explain, and the intruder (or colleague) who edits the log afterwards (ASVS
16.2.1, 16.4.2). How to use: nothing to do, `@action` writes the row; `ctx.facts` adds details, `ctx.note(...)` records
a security event. `seal` runs in the worker every two seconds; `verify` recomputes everything and names each bad row.

How: the row and its SHA-256 are written in the action's own transaction: no change without its row, and if the row
cannot be written the change fails. A sealer behind the transaction horizon signs the hashes in segments; chaining
rows inside the request's transaction would have cost three quarters of the throughput.

Limits: between writing and sealing (seconds; `audit_seal_lag_seconds`) a database superuser can change a row unseen.
`checks` verifies all of it once a day; `bundle` exports it for outsiders. Cutting the newest rows together with their
segments shows only against the anchors: the `audit.sealed` lines of the worker's log, which another system keeps. Bulk
UPDATE statements are recorded without their values.
"""

from service.guardrails.audit.changes import Changes, flush_and_collect, put_back, set_aside
from service.guardrails.audit.checks import AuditCheck, Checked, asked_at, check_when_due, last_check
from service.guardrails.audit.log import AuditRow, AuditSegment, record, write_security_events
from service.guardrails.audit.seal import seal, seal_lag
from service.guardrails.audit.verify import Report, verify

__all__ = [
    "AuditCheck",
    "AuditRow",
    "AuditSegment",
    "Changes",
    "Report",
    "asked_at",
    "flush_and_collect",
    "put_back",
    "record",
    "seal",
    "seal_lag",
]
__all__ += ["Checked", "check_when_due", "last_check", "set_aside", "verify", "write_security_events"]
