"""News for people inside the product and by mail, what each of them wants to hear, and addresses mail cannot reach."""
