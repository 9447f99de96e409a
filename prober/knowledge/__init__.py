"""Points of an area tell each other what they measured, so that each can answer for whole paths."""
