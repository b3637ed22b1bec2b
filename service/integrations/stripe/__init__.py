"""Stripe: the only place that knows its library, its wire and its ways of failing."""
