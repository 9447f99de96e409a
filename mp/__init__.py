"""The measurement point: the daemon that ties the components together, and its commands."""
