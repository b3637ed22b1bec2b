"""Webhooks: what happens in an organization, told to the servers of its choice."""
