"""A LoRA adapter for the tiny model: random weights in the files that ``peft`` writes; standard library only."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

HIDDEN, LAYERS, RANK = 64, 2, 8
TARGETS = ("q_proj", "v_proj")


def write_adapter(folder: Path) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; returns the folder."""
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(_safetensors())
    return folder


def _safetensors() -> bytes:
    """An 8-byte length, a JSON header with name, type, shape and place of each tensor, then the numbers."""
    values = random.Random(0)
    header: dict[str, object] = {}
    data = b""
    for layer in range(LAYERS):
        for target in TARGETS:
            for part, shape in (("lora_A", [RANK, HIDDEN]), ("lora_B", [HIDDEN, RANK])):
                size = RANK * HIDDEN
                numbers = struct.pack(f"<{size}f", *(values.uniform(-0.1, 0.1) for _ in range(size)))
                name = f"base_model.model.model.layers.{layer}.self_attn.{target}.{part}.weight"
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
                data += numbers
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
