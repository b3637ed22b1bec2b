"""`make headline`: one storm of Stripe events against the usual webhook handler and against ours, and who is wrong."""
