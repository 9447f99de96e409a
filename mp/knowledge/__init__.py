"""What this point shares with the others of its area, and what it can tell of paths because of that."""
