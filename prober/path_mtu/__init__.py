"""The path MTU of a segment, searched with probes that must not be fragmented (RFC 8899)."""
