"""Clocks that are set: noticed, and kept out of the samples."""
