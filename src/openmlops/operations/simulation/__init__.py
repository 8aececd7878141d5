"""Traffic as clients send it."""
