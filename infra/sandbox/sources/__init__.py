"""Stand-ins for the business APIs that indicators are fed from: one file each, and one for what can go wrong."""
