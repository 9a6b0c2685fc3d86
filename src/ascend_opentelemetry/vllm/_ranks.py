"""Where this process stands among those of its service, as spans and native files name it."""

from __future__ import annotations

from typing import Any

from ascend_opentelemetry.recorder import recorder

#: Keys of the native ``Meta`` rows; the analyzer knows the first one.
DP_RANK, TP_RANK, PP_RANK = "dpRankId", "tpRankId", "ppRankId"
UNKNOWN_RANK = "-1"


class Ranks:
    """Ranks by vLLM's configuration; None until they are known."""

    def __init__(self) -> None:
        #: Of the engine that this process is or works for.
        self.data_parallel: int | None = None
        #: Of a worker: its number among those of its engine, and its place in the groups of vLLM.
        self.worker: int | None = None
        self.tensor_parallel: int | None = None
        self.pipeline_parallel: int | None = None

    def note_engine(self, vllm_config: Any) -> None:
        """Learn the data-parallel rank (``VllmConfig``), once."""
        if self.data_parallel is None:
            parallel = vllm_config.parallel_config
            # engines of a dense model have rank 0 each, and in newer vLLM a number of their own
            self.data_parallel = getattr(parallel, "data_parallel_index", parallel.data_parallel_rank)
            recorder.set_meta(DP_RANK, str(self.data_parallel))

    def note_worker(self, vllm_config: Any) -> None:
        """Learn the ranks of a worker (``VllmConfig``), once."""
        if self.worker is None:
            self.note_engine(vllm_config)
            parallel = vllm_config.parallel_config
            self.worker = parallel.rank
            # pipeline, then prefill context, then tensor parallel
            size = parallel.tensor_parallel_size
            self.tensor_parallel = parallel.rank % size
            self.pipeline_parallel = parallel.rank // (size * getattr(parallel, "prefill_context_parallel_size", 1))
            recorder.set_meta(TP_RANK, str(self.tensor_parallel))
            recorder.set_meta(PP_RANK, str(self.pipeline_parallel))


ranks = Ranks()
