"""An organization's log, for its owner: read, filter, export."""
