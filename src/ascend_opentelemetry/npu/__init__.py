"""What an NPU did: recordings of its profilers, statistics of its operators, its memory and state."""
