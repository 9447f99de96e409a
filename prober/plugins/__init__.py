"""Metrics that something else measures: installed plug-ins, and programs; start reading in `plugin.py`."""
