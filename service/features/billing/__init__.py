"""What organizations pay for: Stripe holds the truth, we hold a copy that is never older than it can help."""
