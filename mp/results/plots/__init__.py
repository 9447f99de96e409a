"""Pictures of stored answers; only `style`, `history` and `waterfall` need matplotlib."""
