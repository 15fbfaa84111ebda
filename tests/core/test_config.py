import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from douga.core.config import from_dict, to_dict, with_settings


@dataclass(frozen=True)
class Inner:
    channels: int = 8
    rate: float = 0.5
    kind: Literal["full", "naive"] = "full"


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    size: tuple[int, int] = (64, 64)
    augment: tuple[str, ...] = ()
    seed: int | None = None
    deep: bool = False
    inner: Inner = field(default_factory=Inner)
    model: Any = field(default_factory=Inner)  # an experiment's model config, whose class the method knows


CONFIGS = st.builds(
    Outer,
    name=st.text(),
    size=st.tuples(st.integers(), st.integers()),
    augment=st.lists(st.text()).map(tuple),
    seed=st.none() | st.integers(),
    deep=st.booleans(),
    inner=st.builds(Inner, rate=st.floats(allow_nan=False)),
    model=st.just(Inner()),
)


@given(CONFIGS)
def test_json_there_and_back(config: Outer) -> None:
    values = json.loads(json.dumps(to_dict(config)))
    model = from_dict(Inner, values.pop("model"))
    assert from_dict(Outer, values) == config
    assert model == config.model


def test_what_is_left_out_takes_its_default() -> None:
    assert from_dict(Outer, {"inner": {"channels": 3}}) == Outer(inner=Inner(channels=3))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"chanels": 3}, "unknown setting 'chanels'; valid here: name, size, augment, seed, deep, inner, model"),
        (
            {"inner": {"chanels": 3}},
            r"unknown setting 'inner.chanels'; valid here: inner.channels, inner.rate, inner.kind",
        ),
        ({"name": 3}, "name must be str, not 3"),
        ({"inner": {"channels": 3.5}}, "inner.channels must be int, not 3.5"),
        ({"inner": {"channels": True}}, "inner.channels must be int, not True"),
        ({"inner": {"rate": "fast"}}, "inner.rate must be float, not 'fast'"),
        ({"inner": {"kind": "half"}}, "inner.kind must be one of 'full', 'naive', not 'half'"),
        ({"size": [64]}, "size must have 2 values, not 1"),
        ({"size": [64, "a"]}, "size must be int, not 'a'"),
        ({"seed": "x"}, "seed must be int, not 'x'"),
        ({"deep": 1}, "deep must be bool, not 1"),
        ({"inner": 3}, "inner must be Inner, not 3"),
    ],
)
def test_a_wrong_value_gets_one_sentence(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_dict(Outer, values)


def test_a_whole_number_may_stand_for_a_float() -> None:
    rate = from_dict(Inner, {"rate": 2}).rate
    assert (rate, type(rate)) == (2.0, float)


def test_settings_derive_and_leave_the_original() -> None:
    config = Outer()
    settings = ["inner.channels=32", "size=[32, 48]", 'augment=["flip"]', "seed=7", "name=wave", "model.kind=naive"]
    derived = with_settings(config, settings)
    assert derived == Outer(
        name="wave", size=(32, 48), augment=("flip",), seed=7, inner=Inner(channels=32), model=Inner(kind="naive")
    )
    assert config == Outer()
    assert with_settings(derived, ["seed=null"]).seed is None
    assert with_settings(config, ["deep=true", "deep=false", "inner.rate=1"]) == Outer(inner=Inner(rate=1.0))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("channels", "a setting is written name=value, not 'channels'"),
        ("=3", "a setting is written name=value"),
        ("chanels=3", "unknown setting 'chanels'; valid here: name, size"),
        ("inner.chanels=3", "unknown setting 'inner.chanels'; valid here: inner.channels, inner.rate, inner.kind"),
        ("inner.channels.more=3", "unknown setting 'inner.channels.more'; 'inner.channels' has no parts"),
        ("inner.channels=many", "inner.channels must be int, not 'many'"),
        ("inner=3", "inner must be Inner, not 3"),
        ("model.kind=half", "model.kind must be one of"),
    ],
)
def test_a_wrong_setting_gets_one_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        with_settings(Outer(), [setting])
