"""What people agree to, object to, and want left alone; and the two things that depend on it."""
