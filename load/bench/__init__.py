"""`make bench`: the service with every protection on, beside a bare floor and a usual unprotected app, in one run."""
