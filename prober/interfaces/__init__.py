"""Capacity and utilization of the links at both ends of a segment, from interface counters."""
