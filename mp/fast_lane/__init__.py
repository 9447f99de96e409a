"""The usual packet in a few microseconds: what the pipeline decided, done again in C."""
