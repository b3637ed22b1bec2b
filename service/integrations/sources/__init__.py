"""The business APIs that indicators are fed from, one outside system per file; `systems` is the door."""
