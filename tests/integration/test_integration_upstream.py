"""Real processes beside the plugin of ms_service_profiler, and a user's handler that is written for that package."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.contract import read_rows

OUTPUT = "parent [0, 10] 30\nparent parent failed\nspawn [0, 10] 30\nspawn spawn failed\nspawn ended with 0\n"
STEP = "- symbol: fake_vllm.engine:Engine.step\n  domain: Execute\n"
LEFT = (
    "native files, and handlers of your own in the symbols file, are left to the plugin of ms_service_profiler 26.0.0; "
    "OTEL_PYTHON_VLLM_NATIVE=on writes ours too"
)
TWICE = (
    "native files are written twice, by us and by the plugin of ms_service_profiler 26.0.0: analyze only one "
    "ms_service_*.db of a process, or leave msserviceprofiler out of VLLM_PLUGINS"
)
BAD = "OTEL_PYTHON_VLLM_NATIVE='sometimes' is none of auto, on, off: auto is used"


@pytest.fixture
def upstream(program) -> None:
    """A package with the entry point of ms_service_profiler 26.0.0, and a library for the loader to find."""
    site = program.folder / "site"
    metadata = site / "ms_service_profiler-26.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ms_service_profiler\nVersion: 26.0.0\n")
    (metadata / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nmsserviceprofiler = ms_service_profiler.patcher.vllm:register_service_profiler\n"
    )
    (site / "ms_service_profiler").mkdir()
    (site / "ms_service_profiler" / "__init__.py").write_text("raise RuntimeError('it is not to be imported')\n")
    library = program.folder / "lib" / "libms_service_profiler.so"
    library.parent.mkdir()
    library.write_text("")
    program.environment["LD_LIBRARY_PATH"] = str(library.parent)


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("mode", "suffix", "said"),
    [("auto", None, [LEFT]), ("sometimes", None, [BAD, LEFT]), ("on", "-1", [TWICE]), ("off", None, [])],
)
def test_native_files_beside_the_plugin_of_ms_service_profiler(program, receiver, mode, suffix, said) -> None:
    program.native()
    program.export_to(receiver.grpc_endpoint)
    program.symbols.write_text(STEP)
    done = program.serve("spawn", OTEL_PYTHON_VLLM_NATIVE=mode)
    assert (done.code, done.out) == (0, OUTPUT), done.err
    assert done.warnings == said
    written = [f"{pid}{suffix}" for pid in done.pids.values()] if suffix is not None else []
    assert [path.stem.endswith(tuple(written)) for path in program.databases] == [True] * len(written)
    assert Counter(span.name for span in receiver.spans() if span.name != "program") == {"step": 6}


@pytest.mark.usefixtures("upstream")
def test_native_files_are_ours_where_vllm_does_not_load_that_plugin(program) -> None:
    program.native()
    program.symbols.write_text(STEP)
    done = program.serve("spawn", plain=True, VLLM_PLUGINS="ascend_opentelemetry")
    assert (done.code, done.out, done.warnings) == (0, OUTPUT, [])
    assert Counter(row.name for row in read_rows(program.folder)) == {"step": 6}


def test_a_handler_written_for_ms_service_profiler_works_without_it(program) -> None:
    program.native()
    (program.folder / "mine.py").write_text(
        "from ms_service_profiler import Profiler, Level\n"
        "def handler(original_func, this, *args, **kwargs):\n"
        "    with Profiler(Level.INFO).domain('Mine').res(this.name).span_start('mine'):\n"
        "        return original_func(this, *args, **kwargs)\n"
    )
    program.symbols.write_text("- symbol: fake_vllm.engine:Engine.step\n  handler: mine:handler\n")
    done = program.serve("spawn", plain=True, PYTHONPATH=f"{program.environment['PYTHONPATH']}:{program.folder}")
    assert (done.code, done.out, done.warnings) == (0, OUTPUT, []), done.err
    rows = [(row.cat, row.name, row.args) for row in read_rows(program.folder)]
    assert sorted(rows, key=str) == [
        ("Mine", "mine", {"rid": name, "type": 2}) for name in ["parent"] * 3 + ["spawn"] * 3
    ]
