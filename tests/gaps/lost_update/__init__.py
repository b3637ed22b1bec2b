"""Why popular handlers of Stripe's webhooks lose a change: read strategies.py, then ours.py, then run the package."""
