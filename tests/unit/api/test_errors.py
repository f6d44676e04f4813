from __future__ import annotations

import pytest

from kernelgate import errors
from kernelgate.api.errors import STATUS, status_of


def leaves(cls=errors.KernelgateError):
    below = cls.__subclasses__()
    return {cls} | {leaf for one in below for leaf in leaves(one)}


#: At start only, or by somebody who is no caller: no request ends in one.
NOT_ANSWERED = {errors.KernelgateError, errors.ConfigError}


@pytest.mark.parametrize(
    "cls",
    sorted((cls for cls in leaves() if cls.__module__ == "kernelgate.errors" and cls not in NOT_ANSWERED), key=lambda cls: cls.__name__),
)
def test_every_error_has_a_status_and_a_code(cls):
    mapped = next(one for one in cls.__mro__ if one in STATUS)
    assert mapped is not errors.KernelgateError, f"{cls.__name__} would be a 500"
    assert 400 <= STATUS[mapped] < 600
    assert cls.code
    assert cls.code == cls.code.lower()
    assert " " not in cls.code


def test_what_the_caller_did_wrong_is_never_a_5xx():
    for cls in leaves(errors.InvalidRequest) | leaves(errors.NotFound) | leaves(errors.Conflict):
        assert 400 <= STATUS[next(one for one in cls.__mro__ if one in STATUS)] < 500


def test_anything_else_is_our_bug():
    assert status_of(ValueError()) == 500
    assert status_of(errors.KernelgateError()) == 500
    assert status_of(errors.LocalProtocolError()) == 500


def test_errors_of_hosts_are_told_apart_by_their_code():
    assert all(cls.code == code for code, cls in errors.HOST_ERRORS.items())
