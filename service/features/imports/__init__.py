"""Readings as CSV: files are imported in the background, row by row and with a verdict for each, and exported."""
