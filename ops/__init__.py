"""What on-call uses: runbooks, alert rules, and one way to look at the service wherever it runs."""
