"""STAMP (RFC 8762, RFC 8972): packets, sessions, reflectors, and the sockets that stamp them."""
