"""One protection per file. Each file says what it protects from, how code opts in, and where its limits are."""
