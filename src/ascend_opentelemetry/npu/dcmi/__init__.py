"""State and memory of the chips by the driver's DCMI library: metrics, events, native rows."""
