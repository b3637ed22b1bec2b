"""The outside world on one machine: a real PostgreSQL, a real Redis, and stand-ins that can be told to fail."""
