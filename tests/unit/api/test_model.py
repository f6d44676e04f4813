from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate import ids
from kernelgate.api.base import decode
from kernelgate.api.native import model
from kernelgate.errors import InvalidRequest


@given(st.text(max_size=140))
def test_ids_of_callers_are_the_same_to_the_model_and_to_ids(text):
    try:
        msgspec.convert(text, model.ExecutionId)
        accepted = True
    except msgspec.ValidationError:
        accepted = False
    assert accepted == ids.is_caller_id(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"code": 5}', "code: expected `str`, got `int`"),
        (b"{}", "the body: object missing required field `code`"),
        (b'{"code": "x", "env": {"A": 1}}', "env[...]: expected `str`, got `int`"),
        (b'{"code": "x", "on_disconnect": "y"}', "on_disconnect: invalid enum value 'y'"),
        (b"[]", "the body: expected `object`, got `array`"),
    ],
)
def test_errors_name_the_place(data, said):
    with pytest.raises(InvalidRequest) as caught:
        decode(data, model.Execute)
    assert caught.value.detail == said


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_environments_that_pass_are_what_execve_takes(env):
    wrong = any(not name or "=" in name or "\0" in name + value or _half(name + value) for name, value in env.items())
    if wrong:
        with pytest.raises(InvalidRequest) as caught:
            model.checked_env(env)
        assert caught.value.code == "invalid_env"
    else:
        assert model.checked_env(env) == env


def _half(text):
    return any("\ud800" <= one <= "\udfff" for one in text)


def test_an_environment_may_be_so_large():
    assert model.checked_env({"A": "x" * (model.MAX_ENV_BYTES - 3)})
    with pytest.raises(InvalidRequest):
        model.checked_env({"A": "x" * (model.MAX_ENV_BYTES - 2)})
