"""Tenants, the people in them and how they come and go."""
