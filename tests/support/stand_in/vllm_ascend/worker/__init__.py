"""Worker and model runner, in modules named as those of vllm-ascend."""
