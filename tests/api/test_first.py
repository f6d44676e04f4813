import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_a_first_cell(api, session):
    result = api.run(session, "print('hello'); 6 * 7")
    assert (result["success"], result["text"], result["logs"]["stdout"]) == (True, "42", ["hello\n"])
