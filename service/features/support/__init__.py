"""Our staff in a customer's account: how a visit begins and ends, and what the customer sees of it."""
