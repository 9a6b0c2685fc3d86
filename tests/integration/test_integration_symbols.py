"""What a symbol stands for, in processes of a program that has nothing of vLLM but its shape."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from tests.integration.conftest import Program
from tests.support.contract import read_rows


def write(program: Program, name: str, text: str) -> None:
    path = program.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def rows(program: Program) -> list[tuple[str, str, dict[str, object]]]:
    return [(row.cat, row.name, row.args) for row in sorted(read_rows(program.folder), key=lambda row: row.start)]


MODELS = {
    "models/__init__.py": "",
    "models/one.py": """
        class One:
            def embed(self, x): return ["one", x]
            class Inner:
                def run(self): return 1
        """,
    "models/two.py": """
        from models.one import One
        class Two(One):
            def embed(self, x): return ["two", *super().embed(x)]
        class Three(One): ...
        """,
    "models/tools.py": "def work(x): return x + 1\n",
    "models/user.py": "from models.tools import work\n",
}


def test_wildcards_nested_and_inherited_names_and_those_imported_earlier(program) -> None:
    program.native()
    for name, text in MODELS.items():
        write(program, name, text)
    program.symbols.write_text(
        dedent("""\
        - symbol: models.*:*.embed
          domain: Model
          attributes:
          - name: x
            expr: x
        - symbol: models.one:One.Inner.run
          domain: Model
        - symbol: models.tools:work
          domain: Model
        """)
    )
    write(
        program,
        "run.py",
        """
        import models.user  # before the hooks
        from ascend_opentelemetry import VLLMInstrumentor
        VLLMInstrumentor().instrument()
        import models.two
        print(models.two.Two().embed(1), models.two.Three().embed(2))
        print(models.one.One.Inner().run(), models.user.work(3))
        VLLMInstrumentor().uninstrument()
        print(models.two.Two().embed(1), models.user.work.__module__, models.user.work is models.tools.work)
        """,
    )
    done = program.run("run.py", plain=True)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "['two', 'one', 1] ['one', 2]",
        "1 4",
        "['two', 'one', 1] models.tools True",
    ]
    assert rows(program) == [
        ("Model", "embed", {"type": 2, "x": 1}),
        ("Model", "embed", {"type": 2, "x": 1}),
        ("Model", "embed", {"type": 2, "x": 2}),
        ("Model", "run", {"type": 2}),
        ("Model", "work", {"type": 2}),
    ]


def test_the_file_that_the_user_has_for_this_vllm_is_used_when_no_variable_names_one(program) -> None:
    program.native()
    del program.environment["PROFILING_SYMBOLS_PATH"]
    write(
        program,
        ".config/vllm_ascend/service_profiling_symbols.0.32.0.yaml",
        "- symbol: fake_vllm.engine:Engine.scale\n  domain: Mine\n  name: mine\n",
    )
    done = program.serve()
    assert done.code == 0, done.err
    assert [row[:2] for row in rows(program)] == [("Mine", "mine")] * 3


def test_a_path_that_does_not_exist_gets_the_packages_own_file(program) -> None:
    path = Path(program.environment["PROFILING_SYMBOLS_PATH"]).with_name("new.yaml")
    done = program.serve(PROFILING_SYMBOLS_PATH=str(path), OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    assert (done.code, done.warnings) == (0, [])
    assert "vllm.v1.core.sched.scheduler:Scheduler.schedule" in path.read_text()


CHANGED = """\
- symbol: fake_vllm.engine:Engine.step
  domain: New
  name: changed
  attributes:
  - name: result
    expr: return
- symbol: fake_vllm.engine:Engine.load
  domain: New
"""
DRIVER = """
import json, os, sys, time
from ascend_opentelemetry.recorder import recorder
from fake_vllm.engine import Engine

def profile(on):
    with open("config.json") as file:
        config = json.load(file)
    with open("config.new", "w") as file:
        json.dump(config | {"enable": int(on)}, file)
    os.replace("config.new", "config.json")
    deadline = time.monotonic() + 30
    while (recorder.native is not None) != on:
        if time.monotonic() > deadline:
            sys.exit("the window did not follow")
        time.sleep(0.01)

engine = Engine("driven")
step = engine.step  # kept from before the change
step([1])
os.replace("changed.yaml", "symbols.yaml")
step([1, 2])
recorder.flush(5)
profile(False)
profile(True)
print(step([1, 2, 3]), Engine.load("loaded").step([4]))
"""


def test_a_changed_file_applies_when_the_window_opens_again(program) -> None:
    program.native()
    write(program, "changed.yaml", CHANGED)
    write(program, "driver.py", DRIVER)
    done = program.run("driver.py", OTEL_TRACES_EXPORTER="none")
    assert (done.code, done.out) == (0, "60 40\n"), done.err
    assert "WARNING" not in done.err
    assert [row for row in rows(program) if row[1] != "scale"] == [
        ("Execute", "engineStep", {"type": 2, "size": 1, "total": 10}),
        ("Execute", "engineStep", {"type": 2, "size": 2, "total": 30}),
        ("New", "changed", {"type": 2, "result": 60}),
        ("New", "load", {"type": 2}),
        ("New", "changed", {"type": 2, "result": 40}),
    ]
    # Engine.scale is in the first file only
    assert [row[:2] for row in rows(program)].count(("Engine", "scale")) == 2
    assert f"{program.symbols} has changed: 0 symbols added, 2 changed, 4 off" in done.err
