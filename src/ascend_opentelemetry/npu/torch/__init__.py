"""What torch_npu knows: its caching allocator, its profiler; on a CPU the profiler of torch."""
