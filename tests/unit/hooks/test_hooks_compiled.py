"""What ``torch.compile`` traces is not hooked; the stand-ins are marked as vLLM marks its classes."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry.hooks import Installer, Target, Wildcard, wrap

WRAPPER = """
class TorchCompileWithNoGuardsWrapper:
    def __call__(self, *args): return ("compiled", *args)
"""
DECORATORS = """
from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

def support_torch_compile(cls):
    cls.__bases__ = cls.__bases__ + (TorchCompileWithNoGuardsWrapper,)
    old_init = cls.__init__
    cls._ignore_compile_vllm = False
    def __init__(self, *args, **kwargs): old_init(self, *args, **kwargs)
    cls.__init__ = __init__
    def __call__(self, *args): return ("compiled", self.forward(*args))
    cls.__call__ = __call__
    return cls

def ignore_torch_compile(cls):
    cls._ignore_compile_vllm = True
    return cls
"""
MODEL = """
from vllm.compilation.decorators import ignore_torch_compile, support_torch_compile

class Module:
    def __call__(self, *args): return self.forward(*args)

def rotate(x): return x

def unused(x): return x

class Attention(Module):
    def forward(self, x): return rotate(x)

class Mlp(Module):
    @staticmethod
    def scale(x): return x
    def forward(self, x): return [self.scale(y) for y in x]

class Layer(Module):
    def __init__(self, attention=Attention):
        self.attention = attention()
        self.mlp = (lambda: Mlp())()
    def forward(self, x): return self.mlp(self.attention(x))
    def load_weights(self): return "loaded"

class OtherLayer(Module):
    def forward(self, x): return x

class Base(Module):
    def forward(self, x): return self.layer(x)

@support_torch_compile
class Model(Base):
    def __init__(self, *, layer_type=Layer): self.layer = layer_type()
    def forward(self, x): return super().forward(self.embed(x))
    def embed(self, x): return x
    def load_weights(self): return "loaded"

@support_torch_compile
class Attribute(Model):
    layer_type = OtherLayer
    def __init__(self): super().__init__(layer_type=self.layer_type)

@ignore_torch_compile
class Eager(Model):
    def forward(self, x): return self.eager(x)
    def eager(self, x): return x

class Head(Module):
    def __init__(self): self.model = Model()
    def forward(self, x): return self.model(x)
    def embed_multimodal(self): return "embedded"
"""
COMPILED = [
    "Model.forward",
    "Model.embed",
    "Base.forward",
    "Layer.forward",
    "Attention.forward",
    "Mlp.forward",
    "Mlp.scale",
    "rotate",
]
ELSEWHERE = [
    "Model.__init__",
    "Model.__call__",
    "Model.load_weights",
    "Layer.load_weights",
    "Layer.__init__",
    "Eager.forward",
    "Eager.eager",
    "Head.forward",
    "Head.embed_multimodal",
    "unused",
]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    (tmp_path / "model_under_test.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in (("wrapper", WRAPPER), ("decorators", DECORATORS)):
        module = types.ModuleType(f"vllm.compilation.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(text, vars(module))
    for name in ("vllm", "vllm.compilation"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    yield lambda: importlib.import_module("model_under_test")
    sys.modules.pop("model_under_test", None)


@pytest.fixture
def installer() -> Iterator[Installer]:
    installer = Installer()
    yield installer
    installer.remove_all()


@pytest.fixture
def hook(handler: Any) -> Callable[[Any], Any]:
    return lambda function: wrap(function, handler, "target", "symbols.yaml:3")


def target(qualname: str, module: str = "model_under_test") -> Target:
    return Target(module, qualname, "symbols.yaml:3")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("qualname", COMPILED)
def test_compiled_code_is_refused_with_the_reason(model, installer, hook, handler, caplog, qualname, imported) -> None:
    if imported:
        model()
    with caplog.at_level(logging.WARNING):
        installer.add(target(qualname), hook)
        module = model()
    (message,) = messages(caplog)
    assert message == (
        f"symbols.yaml:3: model_under_test:{qualname} is part of the code that torch.compile makes of Model, "
        "which a hook would break; it is left out (hook Model.__call__)"
    )
    assert installer.left_out == [f"model_under_test:{qualname}"]
    assert module.Head()([1]) == ("compiled", [1])
    assert handler.entered == []


def test_parts_that_are_an_attribute_of_the_class_are_refused(model, installer, hook, caplog) -> None:
    installer.add(target("OtherLayer.forward"), hook)
    installer.add(Target("model_under_test", "Attribute.forward", "symbols.yaml:4"), hook)
    model()
    assert [message.partition("makes of ")[2].partition(",")[0] for message in messages(caplog)] == [
        "Attribute",
        "Model",
    ]
    assert installer.installed == []


def test_of_a_wildcard_the_first_refusal_is_said(model, tmp_path, installer, hook, caplog) -> None:
    (tmp_path / "models_under_test").mkdir()
    (tmp_path / "models_under_test" / "__init__.py").touch()
    (tmp_path / "models_under_test" / "one.py").write_text(MODEL)
    installer.add_all(Wildcard("models_under_test", "*", "forward", "symbols.yaml:5"), lambda _: hook)
    importlib.import_module("models_under_test.one")
    del sys.modules["models_under_test.one"], sys.modules["models_under_test"]
    (message,) = messages(caplog)
    assert message.startswith("symbols.yaml:5: models_under_test.one:Attention.forward is part of the code")
    names = [name.rpartition(":")[2] for name in installer.left_out]
    assert names == [f"{name}.forward" for name in ("Attention", "Mlp", "Layer", "OtherLayer", "Base", "Model")]
    assert installer.installed == [f"models_under_test.one:{name}.forward" for name in ("Eager", "Head")]


def test_a_compiled_class_is_known_in_other_modules(model, installer, hook, monkeypatch) -> None:
    other: Any = types.ModuleType("others_model")
    monkeypatch.setitem(sys.modules, "others_model", other)
    other.Model, other.rotate = model().Model, model().rotate
    other.Derived = type("Derived", (model().Head,), {"__module__": "others_model"})
    for qualname in ("Model.forward", "rotate", "Derived.forward"):
        installer.add(target(qualname, "others_model"), hook)
    assert installer.left_out == ["others_model:Model.forward", "others_model:rotate"]


@pytest.mark.parametrize("qualname", ELSEWHERE)
def test_code_around_it_is_hooked(model, installer, hook, caplog, qualname) -> None:
    with caplog.at_level(logging.WARNING):
        installer.add(target(qualname), hook)
        model()
    assert messages(caplog) == []
    assert installer.installed == [f"model_under_test:{qualname}"]


def test_the_call_of_a_compiled_class_is_recorded(model, installer, hook, handler) -> None:
    installer.add(target("Model.__call__"), hook)
    assert model().Head()([1]) == ("compiled", [1])
    assert len(handler.ended) == 1


TORCH_MODEL = """
import torch

class Norm(torch.nn.Module):
    def forward(self, x): return x * 2

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = Norm()
    def forward(self, x): return self.norm(x) + 1
"""


def test_a_module_that_the_compiler_meets_unknown_to_us_is_traced_without_its_hook(
    tmp_path, monkeypatch, installer, hook, handler
) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "torch_model_under_test.py").write_text(TORCH_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    installer.add(target("Norm.forward", "torch_model_under_test"), hook)
    module = importlib.import_module("torch_model_under_test")
    eager, graphs = module.Model(), []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(eager, backend=backend, fullgraph=True)
    for number in range(3):
        handler.switch.on = not handler.switch.on
        assert compiled(torch.full((2,), float(number))).tolist() == [number * 2 + 1] * 2
    assert len(graphs) == 1
    assert handler.entered == []
    handler.switch.on = True
    assert eager(torch.ones(2)).tolist() == [3, 3]
    assert len(handler.ended) == 1
    del sys.modules["torch_model_under_test"]
