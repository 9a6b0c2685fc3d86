"""What an NPU did and does: a folder for each library or kind of file that tells it, and what they share."""
