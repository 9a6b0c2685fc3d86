"""Files of msprof and torch_npu: read, summed up, sent with their own times."""
