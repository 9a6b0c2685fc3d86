"""What one process of a service has said, its children do not say again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from ascend_opentelemetry.hooks._news import is_news

ASK = "import sys; from ascend_opentelemetry.hooks._news import is_news; print(is_news(sys.argv[1]))"


def in_child(message: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", ASK, message], env=dict(os.environ), capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_message_is_news_once_here_and_in_children() -> None:
    assert in_child("a: gone") == "True"
    assert [is_news("a: gone"), is_news("a: gone"), is_news("b: gone")] == [True, False, True]
    assert [in_child("a: gone"), in_child("b: gone"), in_child("c: gone \udcff")] == ["False", "False", "True"]


def test_another_thread_leaves_the_environment_alone() -> None:
    before = os.environ["_ASCEND_OTEL_SAID"]
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.extend([is_news("a: gone"), is_news("a: gone")]))
    thread.start()
    thread.join()
    assert answers == [True, True]
    assert os.environ["_ASCEND_OTEL_SAID"] == before
