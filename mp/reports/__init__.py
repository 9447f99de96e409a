"""How reports travel: the table [reports] of the configuration, and TLS between the points."""
