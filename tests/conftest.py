import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest

from douga.apps import cli


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves decoded videos in the cache of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `douga` with arguments, in this process: exit code, stdout, stderr."""
    monkeypatch.delenv("DOUGA_DEBUG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["douga", *arguments])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def real_data() -> Path:
    """The folder of real sets, DOUGA_CACHE."""
    folder = Path(os.environ.get("DOUGA_CACHE") or "nowhere")
    if not folder.is_dir():
        pytest.skip("DOUGA_CACHE names no folder of real data")
    return folder


@pytest.fixture
def as_shipped() -> Iterator[None]:
    """Annotations unchecked, as in an installed package: for tests of what a user is told about a wrong shape."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
