"""Plumbing that knows no product word: settings, database, Redis, errors, logs, traces, keys, time."""
