"""Segments between neighboring measurement points: who is a neighbor, and what is known of the way to it."""
