"""Alive, ready, which version, how is it doing."""
