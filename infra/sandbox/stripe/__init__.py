"""A small Stripe: the objects and rules of subscription billing, signed webhooks, and faults to switch on."""
