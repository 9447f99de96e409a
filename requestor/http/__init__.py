"""The path-query service over HTTP: a client of the point's dialogue, in a process of its own."""
