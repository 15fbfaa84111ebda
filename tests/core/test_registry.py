import importlib.metadata
import subprocess
import sys

import pytest

from douga.core import registry
from douga.core.registry import Row, Table


def test_a_table_loads_what_a_row_names_only_when_asked() -> None:
    table = Table("method", {"ordered": Row("collections:OrderedDict", "a dict"), "ghost": Row("no.such:Thing", "")})
    assert list(table) == ["ordered", "ghost"]
    assert table["ordered"].summary == "a dict"
    assert table.load("ordered").__name__ == "OrderedDict"
    with pytest.raises(ModuleNotFoundError):
        table.load("ghost")


def test_an_unknown_name_lists_those_there_are() -> None:
    table = Table("method", {"linear": Row("a:B", ""), "flow": Row("a:C", "")})
    with pytest.raises(ValueError, match=r"'linaer'; did you mean 'linear'\? \(there are: linear, flow\)"):
        table.load("linaer")
    with pytest.raises(ValueError, match=r"unknown method 'zzz' \(there are: linear, flow\)"):
        table.load("zzz")


def test_plug_ins_add_rows_and_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        importlib.metadata.EntryPoint("theirs", "collections:Counter", "douga.methods"),
        importlib.metadata.EntryPoint("linear", "collections:Counter", "douga.methods"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])
    table = Table("method", {"linear": Row("collections:OrderedDict", "ours")})
    assert set(table) == {"theirs", "linear"}
    assert table.load("theirs").__name__ == "Counter"
    assert table["linear"].summary == "ours"
    assert set(Table("source", {})) == set()


def test_listing_imports_no_torch() -> None:
    code = "import sys; from douga.core.registry import METHODS; print(*METHODS); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
