"""Rules of the repository that a machine can check (import layers have their own tool)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "douga"
WRITTEN = [ROOT / name for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run", ".gitignore")]
WRITTEN += ROOT.glob("*.md")
for room in ("src", "tests", "docs", "benchmarks", "examples"):
    WRITTEN += [path for path in (ROOT / room).rglob("*") if path.suffix in {".py", ".md", ".json", ".csv", ".txt"}]
MODULES = sorted(PACKAGE.rglob("*.py"))


def shown(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_is_something_to_check() -> None:
    assert PACKAGE / "core" / "clip.py" in MODULES
    assert Path(__file__) in WRITTEN


# Put together here, so that this file is not the one that it looks for.
@pytest.mark.parametrize("word", ["/" + "work/", "pypi" + ".org", "registry.npmjs" + ".org"])
def test_nothing_speaks_of_the_place_where_it_was_written(word: str) -> None:
    assert shown([path for path in WRITTEN if path.is_file() and word in path.read_text(encoding="utf-8")]) == []


def test_no_drawer_for_odds_and_ends() -> None:
    names = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert shown([path for path in MODULES if path.stem in names or path.stem.startswith("base_")]) == []
    assert shown([path for path in PACKAGE.rglob("*") if path.is_dir() and path.name in names]) == []


def test_a_method_is_one_file_that_can_be_read_in_one_sitting() -> None:
    methods = [path for path in MODULES if path.parent.name in {"models", "baselines"}]
    assert shown([path for path in methods if len(path.read_text(encoding="utf-8").splitlines()) >= 500]) == []


@pytest.mark.parametrize("command", ["--help", "list"])
def test_the_command_line_answers_without_torch(command: str) -> None:
    code = (
        "import sys; from douga.apps.cli import main; sys.argv = ['douga', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'cv2', 'av'} & set(sys.modules); assert not heavy, heavy"
    )
    answer = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout
