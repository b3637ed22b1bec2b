"""Keys with which a customer's programs use the API: made, renewed and ended by admins."""
