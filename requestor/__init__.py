"""Measure Requestor: start a measurement and answer whoever asked."""
