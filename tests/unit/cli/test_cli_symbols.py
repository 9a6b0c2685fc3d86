from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ascend_opentelemetry import symbols
from ascend_opentelemetry.cli import main

#: A package that cannot be imported: what is told of it is read from its source.
PACKAGE = {
    "vllm/__init__.py": """
        from typing import TYPE_CHECKING
        from .version import *
        if TYPE_CHECKING:
            from vllm.entrypoints.llm import LLM
        def __getattr__(name): ...
    """,
    "vllm/version.py": """
        def version_tuple(): ...
        PORT = 8000
        if PORT:
            from vllm._C import fast
        else:
            fast = None
        make = partial(version_tuple)
        one, two = both()
        first, second = version_tuple, 2
    """,
    "vllm/entrypoints/llm.py": """
        import vllm.core.base as base
        from ..core.scheduler import Scheduler as Planner, plan
        class LLM(base.Base[int]):
            def generate(self, prompts, *, params=None, **options): ...
    """,
    "vllm/core/__init__.py": "from vllm.core import base as base",
    "vllm/core/base.py": """
        from abc import ABC
        class Base(ABC):
            @property
            def size(self): ...
            @staticmethod
            def shared(value): ...
            def inherited(self): ...
    """,
    "vllm/core/scheduler.py": """
        from vllm.core.base import Base
        from vllm._C import Native
        if TYPE_CHECKING:
            from vllm.core.base import Base as ForTypes
        class Scheduler(Base):
            class Policy:
                def order(self): ...
            async def schedule(self, throttle: bool = False): ...
            plan = schedule
        class Foreign(Native):
            pass
        class Loop(Loop): ...
        def plan(): ...
        try:
            from missing import either
        except ImportError:
            def either(): ...
    """,
    "vllm/models/llama.py": """
        from vllm.compilation.decorators import support_torch_compile, ignore_torch_compile
        from vllm.core.scheduler import plan
        @support_torch_compile(dynamic_arg_dims={})
        class LlamaModel:
            def __init__(self, layer=None, *, norm=LlamaNorm):
                self.layer = LlamaLayer()
                self.head = self.head_type()
            head_type: type = LlamaHead
            def forward(self, ids):
                ids, reset = rotate(plan(ids)), 0
                return self.embed(ids)
            def embed(self, ids):
                return self._look_up(ids)
            def _look_up(self, ids): ...
            def load_weights(self): ...
        class LlamaLayer:
            def forward(self, ids): ...
        class LlamaHead:
            def forward(self, ids): ...
        class LlamaNorm:
            def forward(self, ids): ...
        def rotate(ids): ...
        def reset(ids): ...
        class LlamaForCausalLM:
            def forward(self, ids): ...
            def embed(self, ids): ...
    """,
    "vllm/models/mistral.py": """
        from vllm.models.llama import LlamaModel, ignore_torch_compile
        class MistralModel(LlamaModel):
            def forward(self, ids):
                return super().forward(ids)
        @ignore_torch_compile
        class EagerModel(LlamaModel):
            def forward(self, ids): ...
    """,
    "vllm/models/broken.py": "def embed(self:",
    "handlers.py": "def mine(original, *args): ...",
}
COMPILED = "part of the code that torch.compile makes of {0} (hook {0}.__call__)"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    for name, text in PACKAGE.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line.removeprefix("        ") for line in text.splitlines()]
        path.write_text("\n".join([*lines, "raise RuntimeError('it was imported')", ""]))
    info = site / "vllm-0.11.0+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0+cpu\n")
    monkeypatch.syspath_prepend(str(site))
    for name in ("vllm", "vllm_ascend"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    symbols.installed_version.cache_clear()
    yield
    symbols.installed_version.cache_clear()


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, dict[str, Any]]]:
    def run(text: str) -> tuple[int, dict[str, Any]]:
        path = tmp_path / "symbols.yaml"
        path.write_text(text)
        code = main(["symbols", "check", str(path), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("vllm.core.scheduler:Scheduler.schedule", ""),
        ("vllm.core.scheduler:Scheduler.Policy.order", ""),
        ("vllm.core.scheduler:plan", ""),
        ("vllm.core.scheduler:either", ""),
        ("vllm.core.scheduler:Scheduler.inherited", "defined as vllm.core.base:Base.inherited"),
        ("vllm.core.scheduler:Scheduler.shared", "defined as vllm.core.base:Base.shared"),
        ("vllm.core.scheduler:Scheduler.plan", "defined as vllm.core.scheduler:Scheduler.schedule"),
        ("vllm.entrypoints.llm:LLM.inherited", "defined as vllm.core.base:Base.inherited"),
        ("vllm.entrypoints.llm:plan", "defined as vllm.core.scheduler:plan"),
        ("vllm.entrypoints.llm:Planner.schedule", "defined as vllm.core.scheduler:Scheduler.schedule"),
        ("vllm.core:base.Base.inherited", "defined as vllm.core.base:Base.inherited"),
        ("vllm:LLM.generate", "defined as vllm.entrypoints.llm:LLM.generate"),
        ("vllm:version_tuple", "defined as vllm.version:version_tuple"),
        ("vllm.version:fast", "it exists; its source does not say that it is a function"),
        ("vllm.version:make", "it exists; its source does not say that it is a function"),
        ("vllm.version:two", "it exists; its source does not say that it is a function"),
    ],
)
def test_a_function_is_found(symbol, reason, check) -> None:
    code, report = check(f"- symbol: {symbol}")
    (entry,) = report["symbols"]
    assert (entry["status"], entry["reason"], code) == ("ok", reason, 0)


@pytest.mark.parametrize(
    ("symbol", "reason", "nearest"),
    [
        (
            "vllm.core.scheduler:Scheduler.shedule",
            "vllm.core.scheduler:Scheduler has no shedule",
            "vllm.core.scheduler:Scheduler.schedule",
        ),
        (
            "vllm.core.scheduler:Scheduler.inherite",
            "vllm.core.scheduler:Scheduler has no inherite",
            "vllm.core.scheduler:Scheduler.inherited",
        ),
        (
            "vllm.core.scheduler:Schedular.schedule",
            "vllm.core.scheduler has no Schedular",
            "vllm.core.scheduler:Scheduler.schedule",
        ),
        (
            "vllm.core.base:Scheduler.schedule",
            "vllm.core.base has no Scheduler",
            "vllm.core.scheduler:Scheduler.schedule",
        ),
        (
            "vllm.engine.sched:Scheduler.schedule",
            "there is no module vllm.engine.sched",
            "vllm.core.scheduler:Scheduler.schedule",
        ),
        ("vllm.cor.scheduler:Nothing.x", "there is no module vllm.cor.scheduler", "vllm.core.scheduler"),
        ("vllm.cor.nothing:Nothing.x", "there is no module vllm.cor.nothing", "vllm.core"),
        ("vllm.zzzzzz:Nothing.x", "there is no module vllm.zzzzzz", ""),
        ("vllm.core.scheduler:ForTypes.inherited", "vllm.core.scheduler has no ForTypes", ""),
        ("vllm.core.scheduler:Zzzzzz", "vllm.core.scheduler has no Zzzzzz", ""),
        (
            "vllm.core.scheduler:Foreign.zzzzzz",
            "vllm.core.scheduler:Foreign has no zzzzzz (no source of vllm._C:Native)",
            "",
        ),
        ("vllm.core.scheduler:Loop.zzzzzz", "vllm.core.scheduler:Loop has no zzzzzz", ""),
        ("vlm.core.scheduler:Scheduler.schedule", "vlm is not installed", "vllm.core.scheduler:Scheduler.schedule"),
        ("zzzzzz.core:f", "zzzzzz is not installed", ""),
        ('"vllm.models.*:*.embedd"', "no class below vllm.models defines it", "vllm.models.*:*.embed"),
        ('"vllm.models.*:Other.embed"', "no class below vllm.models defines it", ""),
    ],
)
def test_a_name_that_is_missing_is_told_with_the_nearest_one(symbol, reason, nearest, check) -> None:
    code, report = check(f"- symbol: {symbol}")
    (entry,) = report["symbols"]
    assert (entry["status"], entry["reason"], entry["nearest"], code) == ("unresolved", reason, nearest, 1)


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("vllm.core.scheduler:Scheduler", "it is a class, not a function"),
        ("vllm:LLM.size", "it is a property, not a function"),
        ("vllm.version:PORT", "it is a value, not a function"),
        ("vllm.core:scheduler", "it is a module, not a function"),
        ("vllm.models.llama:LlamaModel.forward", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:LlamaModel._look_up", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:LlamaLayer.forward", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:LlamaHead.forward", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:LlamaNorm.forward", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:rotate", COMPILED.format("LlamaModel")),
        ("vllm.models.llama:plan", COMPILED.format("LlamaModel")),
        ("vllm.models.mistral:MistralModel.forward", COMPILED.format("MistralModel")),
        ("vllm.models.mistral:MistralModel.embed", COMPILED.format("LlamaModel")),
    ],
)
def test_what_cannot_be_hooked_is_refused_with_the_reason(symbol, reason, check) -> None:
    code, report = check(f"- symbol: {symbol}")
    (entry,) = report["symbols"]
    assert (entry["status"], entry["reason"], code) == ("refused", reason, 1)


@pytest.mark.parametrize("name", ["llama:LlamaModel.load_weights", "llama:LlamaForCausalLM.forward", "llama:reset"])
def test_model_code_beside_the_compiled_one_is_not_refused(name, check) -> None:
    code, report = check(f"- symbol: vllm.models.{name}")
    assert (report["symbols"][0]["status"], code) == ("ok", 0)


def test_a_class_that_opts_out_is_not_compiled(check) -> None:
    code, report = check("- symbol: vllm.models.mistral:EagerModel.forward")
    assert (report["symbols"][0]["status"], code) == ("ok", 0)


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("vllm.models.*:*.embed", "1 class, 1 more in compiled code are left out"),
        ("vllm.models.*:*.forward", "2 classes, 5 more in compiled code are left out"),
        ("vllm.models.*:LlamaModel.load_weights", "1 class"),
        ("vllm.*:Base.inherited", "1 class"),
    ],
)
def test_a_wildcard_counts_the_classes_that_define_the_method(symbol, reason, check) -> None:
    code, report = check(f'- symbol: "{symbol}"')
    (entry,) = report["symbols"]
    assert (entry["status"], entry["reason"], code) == ("ok", reason, 0)


def test_a_wildcard_that_meets_compiled_classes_only_is_refused(check) -> None:
    code, report = check('- symbol: "vllm.models.*:LlamaModel.forward"')
    assert (report["symbols"][0]["status"], code) == ("refused", 1)


@pytest.mark.parametrize(
    ("bounds", "status", "reason"),
    [
        ('min_version: "0.11.0", max_version: "0.11.0"', "unresolved", "vllm.core has no gone"),
        ('min_version: "0.11.1"', "skipped", "meant for vLLM 0.11.1 and newer"),
        ('max_version: "0.10.2"', "skipped", "meant for vLLM 0.10.2 and older"),
        ('min_version: "0.9.1", max_version: "0.10.2"', "skipped", "meant for vLLM 0.9.1 to 0.10.2"),
        ('min_version: "one"', "refused", "min_version: 'one' is no version, such as '0.11.0'"),
    ],
)
def test_version_bounds_are_held_against_the_installed_version(bounds, status, reason, check) -> None:
    code, report = check(f"- {{symbol: vllm.core:gone, {bounds}}}")
    (entry,) = report["symbols"]
    assert (entry["status"], entry["reason"], code) == (status, reason, 0 if status == "skipped" else 1)


def test_vllm_ascend_need_not_be_installed(check) -> None:
    code, report = check("- symbol: vllm_ascend.utils:f\n- symbol: vllm.core.scheduler:plan")
    entry = report["symbols"][0]
    assert (entry["status"], entry["reason"], code) == ("skipped", "vllm_ascend is not installed", 0)
    assert report["versions"] == {"vllm": "0.11.0+cpu"}
    assert report["counts"] == {"ok": 1, "skipped": 1, "unresolved": 0, "refused": 0}


def test_attributes_that_name_no_parameter_are_a_warning(check) -> None:
    code, report = check(
        "- symbol: vllm.entrypoints.llm:LLM.generate\n"
        "  attributes:\n"
        "    - {name: a, expr: prompts | len}\n"
        "    - {name: b, expr: params | str}\n"
        "    - {name: c, expr: \"options['k']\"}\n"
        "    - {name: d, expr: return | len}\n"
        "    - {name: e, expr: prompt | len}\n"
    )
    assert report["symbols"][0]["warnings"] == [
        "attribute e has no value: there is no parameter 'prompt'; the parameters: self, prompts, params, options"
    ]
    assert code == 1


def test_a_reserved_attribute_name_is_a_note(check) -> None:
    code, report = check(
        "- symbol: vllm.core.scheduler:plan\n  attributes:\n"
        "    - {name: status, expr: return | str}\n    - {name: mine, expr: return | str}\n"
    )
    assert report["symbols"][0]["notes"] == ["attribute status is called status_ in native files"]
    assert code == 0


@pytest.mark.parametrize(
    ("handler", "warning"),
    [
        ("handlers:mine", None),
        ("ascend_opentelemetry.vllm:schedule", None),
        ("handlers:main", "handlers has no main, is handlers:mine meant?"),
        ("not_there.at_all:f", "there is no module not_there.at_all"),
    ],
)
def test_a_handler_that_cannot_be_used_is_a_warning(handler, warning, check) -> None:
    code, report = check(f"- symbol: vllm.core.scheduler:plan\n  handler: {handler}")
    expected = [] if warning is None else [f"handler {handler} cannot be used, a timer is: {warning}"]
    assert report["symbols"][0]["warnings"] == expected
    assert code == len(expected)


def test_problems_of_the_file_are_told(check) -> None:
    code, report = check("- symbol: vllm.core.scheduler:plan\n  attributes: [{name: a, expr: 1 + 1}]\n- symbol: x\n")
    assert [(problem["line"], problem["field"]) for problem in report["problems"]] == [
        (2, "attributes.expr"),
        (3, "symbol"),
    ]
    assert code == 1


def test_a_file_that_cannot_be_read(tmp_path, capsys) -> None:
    path = tmp_path / "none.yaml"
    assert main(["symbols", "check", str(path)]) == 2
    assert f"{path}: cannot be read: No such file or directory" in capsys.readouterr().out


def test_without_vllm_nothing_is_checked(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "vllm").is_dir()])
    assert main(["symbols", "check", str(symbols.DEFAULT_FILE)]) == 2
    assert "vLLM is not installed here" in capsys.readouterr().err


def test_the_table(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "- symbol: vllm.core.scheduler:plan\n"
        "- symbol: vllm.core.scheduler:plann\n"
        "  attributes: [{name: tid, expr: return | str}]\n"
    )
    monkeypatch.setenv("PROFILING_SYMBOLS_PATH", str(path))
    assert main(["symbols", "check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "line  status      symbol",
        "1     ok          vllm.core.scheduler:plan",
        "2     unresolved  vllm.core.scheduler:plann  vllm.core.scheduler has no plann",
        "      is vllm.core.scheduler:plan meant?",
        "      note: attribute tid is called tid_ in native files",
        "2 symbols: 1 ok, 0 skipped, 1 unresolved, 0 refused; vllm 0.11.0+cpu, vllm_ascend not installed",
    ]


def test_list_shows_what_each_symbol_records(tmp_path, capsys) -> None:
    path = tmp_path / "symbols.yaml"
    path.write_text(
        "- symbol: vllm.a:b\n  domain: D\n  attributes: [{name: n, expr: return | len}]\n"
        '- symbol: vllm.a:C.d\n  handler: ascend_opentelemetry.vllm:schedule\n  min_version: "0.9"\n'
        '- symbol: vllm.a:C.e\n  handler: my.own:handler\n  max_version: "0.9"\n'
    )
    assert main(["symbols", "list", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "line  symbol      records                  versions",
        "1     vllm.a:b    timer D/b: n",
        "4     vllm.a:C.d  built-in schedule        0.9 and newer",
        "7     vllm.a:C.e  function my.own:handler  0.9 and older",
    ]
    assert main(["symbols", "list", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(path)
    assert report["symbols"][0] == {
        "line": 1, "symbol": "vllm.a:b", "kind": "timer", "handler": "D/b", "min_version": None, "max_version": None,
        "attributes": {"n": "return | len"},
    }  # fmt: skip
    assert [entry["kind"] for entry in report["symbols"]] == ["timer", "built-in", "function"]


def test_list_exits_as_the_file_is(tmp_path, capsys) -> None:
    path = tmp_path / "symbols.yaml"
    path.write_text("- symbol: vllm.a:b\n- symbol: x\n")
    assert main(["symbols", "list", str(path)]) == 1
    assert main(["symbols", "list", str(tmp_path / "none.yaml")]) == 2


@pytest.mark.parametrize("arguments", [["symbols", "check"], ["symbols", "list"], ["completion", "bash"]])
def test_the_commands_import_neither_vllm_nor_torch_nor_the_sdk(arguments, tmp_path) -> None:
    program = (
        f"import json, sys\nsys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        f"from ascend_opentelemetry.cli import main\nmain({arguments!r})\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    heavy = ("vllm", "torch", "torch_npu", "grpc", "requests", "opentelemetry.sdk", "opentelemetry.exporter")
    assert [name for name in loaded for prefix in heavy if name == prefix or name.startswith(f"{prefix}.")] == []
