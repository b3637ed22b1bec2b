"""Who waits for a lock. One server has a database for each test worker, and each sees the locks of all."""

WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND datname = current_database()
"""
