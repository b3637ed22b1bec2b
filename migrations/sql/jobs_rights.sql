-- Ours on top of pgqueuer's tables: lines (one job per key at a time), rights, and the workers' heartbeats.

-- The last word on "at most one at a time": two workers that pick the same line at the same moment cannot both win.
CREATE UNIQUE INDEX pgqueuer_one_picked_per_line ON pgqueuer ((headers ->> 'line'))
    WHERE status = 'picked' AND headers ->> 'line' IS NOT NULL;
CREATE INDEX pgqueuer_line ON pgqueuer ((headers ->> 'line'), status DESC, id)
    WHERE status IN ('queued', 'picked') AND headers ->> 'line' IS NOT NULL;
CREATE INDEX pgqueuer_due ON pgqueuer (execute_after, id) WHERE status = 'queued';
CREATE INDEX pgqueuer_due_without_line ON pgqueuer (execute_after, id)
    WHERE status = 'queued' AND headers ->> 'line' IS NULL;
CREATE INDEX pgqueuer_failed ON pgqueuer (updated) WHERE status = 'failed';

-- Whoever works as ballast_app may add jobs, remove its own with its effects, and see all but what they carry: the
-- payload of another organization's job is nobody's business.
GRANT SELECT (id, priority, queue_manager_id, created, updated, heartbeat, execute_after, status, entrypoint,
    dedupe_key, attempts, headers) ON pgqueuer TO ballast_app;
GRANT UPDATE (status, updated, execute_after, attempts, queue_manager_id) ON pgqueuer TO ballast_app;
GRANT INSERT, DELETE ON pgqueuer TO ballast_app;
GRANT INSERT ON pgqueuer_log TO ballast_app;
GRANT USAGE ON SEQUENCE pgqueuer_id_seq TO ballast_app, ballast_maintenance;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON pgqueuer, pgqueuer_log, pgqueuer_schedules, pgqueuer_statistics TO ballast_maintenance;
GRANT USAGE ON SEQUENCE pgqueuer_schedules_id_seq, pgqueuer_statistics_id_seq TO ballast_maintenance;

GRANT SELECT ON worker_heartbeats TO ballast_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_heartbeats TO ballast_maintenance;
