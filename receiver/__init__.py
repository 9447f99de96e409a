"""Measure Receiver: reports in, composed and stored results out."""
