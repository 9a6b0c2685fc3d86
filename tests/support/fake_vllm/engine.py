"""Functions of each kind; the program itself uses the OpenTelemetry API inside of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from opentelemetry import trace


class Engine:
    """An engine that counts."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def load(cls, name: str) -> Engine:
        return cls(name)

    @staticmethod
    def scale(value: int) -> int:
        return value * 10

    def step(self, batch: list[int]) -> int:
        trace.get_current_span().set_attribute("engine", self.name)
        with trace.get_tracer("fake_vllm").start_as_current_span("program"):
            return self.scale(sum(batch))

    async def generate(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            await asyncio.sleep(0)
            yield self.step([number])

    async def start(self) -> list[int]:
        return [number async for number in self.generate(2)]

    def fail(self) -> None:
        raise ValueError(f"{self.name} failed")
