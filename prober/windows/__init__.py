"""Statistics of one direction over the last seconds, in constant memory."""
