"""The HTTP service: a process of its own, without any right, that asks the point on behalf of programs."""
