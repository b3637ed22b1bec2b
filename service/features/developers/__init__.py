"""What developers of other programs read: the problems that the API answers with, each on a page of its own."""
