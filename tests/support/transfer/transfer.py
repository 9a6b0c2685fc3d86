"""A KV connector that moves nothing: it answers a prefill as those of vLLM do, so that the parameters can be followed.

It stands in for NIXL and Mooncake, which need a network of RDMA cards. What a decode is asked for is computed anew.
"""

from __future__ import annotations

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata


class AnsweringConnector(KVConnectorBase_V1):
    """Scheduler side and worker side."""

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None: ...

    def wait_for_layer_load(self, layer_name: str) -> None: ...

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None: ...

    def wait_for_save(self) -> None: ...

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None: ...

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        return KVConnectorMetadata()

    def request_finished(self, request: Any, block_ids: Any) -> tuple[bool, dict[str, Any] | None]:
        asked = request.kv_transfer_params or {}
        if not asked.get("do_remote_decode"):
            # what reached the engine, for the test to see
            return False, {"seen": sorted(asked)} if asked else None
        return False, {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[1]],
            "remote_engine_id": "prefill-0",
            "remote_request_id": request.request_id,
            "remote_host": "127.0.0.1",
            "remote_port": 5600,
        }
