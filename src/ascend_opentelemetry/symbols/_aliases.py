"""What a ``handler:`` means, also for the handler names that other packages' symbols files use."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from ascend_opentelemetry.symbols._symbol import DEFAULT_DOMAIN, Symbol

BUILTIN_MODULE = "ascend_opentelemetry.vllm"
BUILTINS = frozenset(
    {
        "add_request",
        "async_add_request",
        "data_parallel",
        "execute_model",
        "get_computed_blocks",
        "kv_free",
        "model_runner",
        "process_outputs",
        "record_function",
        "schedule",
    }
)


class Builtin(NamedTuple):
    """A handler of this package, by its name."""

    name: str


class Custom(NamedTuple):
    """A handler of the user: a function, possibly inside a class, of a module to be imported."""

    module: str
    function: str


class Timer(NamedTuple):
    """The default timer, which records ``Symbol.attributes``."""

    domain: str
    name: str


Handler: TypeAlias = Builtin | Custom | Timer

# ms_service_profiler 26.0.0 and its wheel msserviceprofiler 1.2.3 call the same functions differently
_FOREIGN = re.compile(
    r"(?:ms_service_profiler\.patcher\.vllm\.handlers|msserviceprofiler\.vllm_profiler)\."
    r"(?:(?:vllm_)?v1\.(?P<topic>\w+)_(?:handlers|hookers):(?P<function>\w+)$)?"
)
_BUILTIN_OF = {
    ("batch", "schedule"): "schedule",
    ("batch", "add_request"): "add_request",
    ("kvcache", "free"): "kv_free",
    ("kvcache", "get_computed_blocks"): "get_computed_blocks",
    ("model", "execute_model"): "execute_model",
    ("model", "execute_model_runner"): "model_runner",
    ("model", "record_function_or_nullcontext"): "record_function",
    ("request", "add_request_async"): "async_add_request",
    ("request", "process_outputs"): "process_outputs",
    ("meta", "init_data_parallel"): "data_parallel",
    ("meta", "init_data_parallel_worker"): "data_parallel",
}
# no name: the symbol's own, the foreign handler has none (a tag of the call, or no event at all)
_TIMER_OF = {
    ("model", "compute_logits"): ("Execute", "computing_logits"),
    ("model", "sampler_forward"): ("Execute", "sample"),
    ("model", "set_forward_context"): ("Execute", ""),
    ("model", "capture_async"): ("Execute", ""),
    ("mtp", "propose_draft_token_ids_npu"): ("Execute", "specDecoding"),
    ("mtp", "capture_rejection_output"): ("Execute", ""),
}


def resolve_handler(symbol: Symbol) -> Handler:
    """What records the calls of a symbol.

    A handler name of ``ms_service_profiler`` stands for the built-in handler of the same purpose, or for a timer
    with the domain and name of its event where the symbol sets none; that package is never imported.
    """
    timer = Timer(symbol.domain, symbol.name)
    if symbol.handler is None:
        return timer
    foreign = _FOREIGN.match(symbol.handler)
    if foreign:
        key = (foreign["topic"], foreign["function"])
        if key in _BUILTIN_OF:
            return Builtin(_BUILTIN_OF[key])
        domain, name = _TIMER_OF.get(key, ("", ""))
        return Timer(
            domain if domain and symbol.domain == DEFAULT_DOMAIN else symbol.domain,
            name if name and symbol.name == symbol.method else symbol.name,
        )
    module, _, function = symbol.handler.partition(":")
    if module == BUILTIN_MODULE:
        return Builtin(function) if function in BUILTINS else timer
    return Custom(module, function) if function else timer
