"""Available bandwidth of a segment: self-loading streams after Pathload; start reading in `service.py`."""
