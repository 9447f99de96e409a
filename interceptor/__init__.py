"""Packet Interceptor: from the kernel's queue to payload bytes, and back."""
