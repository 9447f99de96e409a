"""`inpath doctor`: whether this host can be a measurement point, and what to do if not."""
