"""What our own people can see and turn while the service runs."""
