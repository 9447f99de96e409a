"""Probing between neighboring measurement points (STAMP, RFC 8762)."""
