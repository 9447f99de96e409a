"""Measure Processor: one payload through one measurement point. Start reading in `pipeline.py`."""
