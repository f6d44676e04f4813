import inspect
import pickle

import pytest

from kernelgate.sdk import errors
from kernelgate.sdk.models import Result

CLASSES = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, errors.KernelgateError)]
WORDED = [cls for cls in CLASSES if not issubclass(cls, errors.CodeFailed)]


def test_every_exception_is_public_and_in_the_tree_of_the_docstring():
    for cls in CLASSES:
        assert cls.__name__ in errors.__all__
        assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("cls", WORDED, ids=lambda cls: cls.__name__)
def test_an_exception_says_what_happened_whose_fault_it_is_and_which_request_it_was(cls):
    error = cls("it went wrong", request_id="r-1")
    text = str(error)
    assert text.startswith("it went wrong [")
    assert error.code in text
    assert "request r-1" in text
    assert f"At fault: {error.fault}." in text


@pytest.mark.parametrize(
    "cls",
    # Each raise of InvalidUse says its own.
    [cls for cls in WORDED if not cls.__subclasses__() and cls is not errors.InvalidUse],
    ids=lambda cls: cls.__name__,
)
def test_a_leaf_says_what_to_try_next(cls):
    assert cls.hint
    assert f"Next: {cls.hint}." in str(cls("it went wrong"))


def test_a_refused_connection_names_the_command_that_starts_a_server():
    assert "kernelgate serve" in errors.ServerUnreachable.hint
    assert "kernelgate serve" in errors.ServerNotFound.hint


@pytest.mark.parametrize("cls", [cls for cls in WORDED if cls.code in errors._BY_CODE], ids=lambda cls: cls.__name__)
def test_a_code_of_the_server_becomes_its_class(cls):
    error = errors.from_wire({"code": cls.code, "message": "no", "request_id": "r", "details": {"a": 1}}, status=400)
    assert type(error) is cls
    assert (error.message, error.request_id, error.status, error.details) == ("no", "r", 400, {"a": 1})


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationFailed),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.SessionClosed),
        (413, errors.RequestTooLarge),
        (422, errors.InvalidRequest),
        (429, errors.CapacityExceeded),
        (500, errors.ServerFault),
        (503, errors.ServerUnavailable),
    ],
)
def test_a_code_this_sdk_does_not_know_falls_to_its_status_and_is_kept(status, cls):
    error = errors.from_wire({"code": "brand_new", "message": "no"}, status=status, request_id="mine")
    assert type(error) is cls
    assert error.code == "brand_new"
    assert error.request_id == "mine"


def test_an_error_object_without_anything_in_it_is_the_servers_fault():
    error = errors.from_wire({})
    assert isinstance(error, errors.ServerFault)
    assert "no reason" in str(error)


def test_every_error_of_the_server_becomes_one_of_the_same_kind():
    from kernelgate import errors as server
    from kernelgate.api.errors import status_of

    kinds = {
        server.InvalidRequest: errors.InvalidRequest,
        server.AuthenticationError: errors.AuthenticationFailed,
        server.PermissionDenied: errors.PermissionDenied,
        server.NotFound: errors.NotFound,
        server.SessionClosed: errors.SessionClosed,
        server.Conflict: errors.Conflict,
        server.CapacityExceeded: errors.CapacityExceeded,
        server.KernelError: errors.KernelUnavailable,
        server.SandboxUnavailable: errors.ServerUnavailable,
        server.HostUnavailable: errors.ServerUnavailable,
        server.Draining: errors.ServerUnavailable,
        server.ProtocolError: errors.ServerFault,
    }

    def leaves(cls):
        return [cls, *(leaf for sub in cls.__subclasses__() for leaf in leaves(sub))]

    for kind, ours in kinds.items():
        for cls in leaves(kind):
            made = errors.from_wire({"code": cls.code}, status=status_of(cls.__new__(cls)))
            assert isinstance(made, ours), cls.__name__
            assert made.code == cls.code


def test_a_kernel_that_cannot_start_is_not_waited_for():
    assert not issubclass(errors.KernelUnavailable, errors.ServerUnavailable)
    assert issubclass(errors.KernelUnavailable, errors.ServerFault)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        ("error", errors.CodeRaised),
        ("timeout", errors.CodeTimedOut),
        ("interrupted", errors.CodeInterrupted),
        ("cancelled", errors.CodeCancelled),
        ("kernel_died", errors.KernelDied),
        ("lost", errors.ExecutionLost),
        ("something_new", errors.CodeFailed),
    ],
)
def test_a_failed_result_raises_the_class_of_how_it_ended(status, cls):
    result = Result.from_wire({"id": "x", "success": False, "status": status, "request_id": "r-2"})
    with pytest.raises(errors.CodeFailed) as caught:
        result.raise_for_error()
    assert type(caught.value) is cls
    assert caught.value.result is result
    assert "request r-2" in str(caught.value)


def test_exceptions_survive_pickling():
    result = Result.from_wire({"id": "x", "success": False, "status": "error", "error": {"name": "E", "value": "v"}})
    for error in (
        errors.SessionNotFound("no", code="session_not_found", request_id="r", status=404, details={"a": 1}),
        errors.from_result(result),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again).keys() == vars(error).keys()
