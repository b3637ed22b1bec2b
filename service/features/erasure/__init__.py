"""Erasing a person everywhere: from the request to the evidence, through crashes, outages and restored backups."""
