"""Recordings of CANN's own profiler, switched by the native config."""
