"""Keys by which points believe each other: their files, their change, and who may read them."""
