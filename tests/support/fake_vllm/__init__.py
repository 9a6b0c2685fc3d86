"""A test double of a served program: it runs an engine, and spawns and forks children that run one too.

It has nothing of vLLM but its shape. ``python -m fake_vllm.serve`` runs it, with ``tests/support`` on PYTHONPATH.
"""
