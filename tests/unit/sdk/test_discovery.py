import json

import pytest

from kernelgate.sdk import _discovery, errors


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in ("KERNELGATE_URL", "KERNELGATE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERNELGATE_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def left(tmp_path):
    file = tmp_path / "server.json"
    file.write_text(json.dumps({"url": "http://127.0.0.1:8000", "token": "of-file", "pid": 1}))
    return file


def test_a_server_is_found_by_the_file_it_left(left):
    found = _discovery.find()
    assert (found.url, found.token, found.file) == ("http://127.0.0.1:8000", "of-file", left)


def test_the_environment_is_stronger_than_the_file(left, monkeypatch):
    monkeypatch.setenv("KERNELGATE_URL", "http://elsewhere:1")
    monkeypatch.setenv("KERNELGATE_TOKEN", "of-environment")
    found = _discovery.find()
    assert (found.url, found.token, found.file) == ("http://elsewhere:1", "of-environment", None)


def test_an_argument_is_stronger_than_the_environment(monkeypatch):
    monkeypatch.setenv("KERNELGATE_URL", "http://elsewhere:1")
    monkeypatch.setenv("KERNELGATE_TOKEN", "of-environment")
    found = _discovery.find("https://there/", "given")
    assert (found.url, found.token) == ("https://there", "given")


def test_the_files_token_is_for_the_files_server_only(left):
    assert _discovery.find("http://127.0.0.1:8000/").token == "of-file"
    assert _discovery.find("http://127.0.0.1:9000").token is None


def test_a_token_of_ones_own_goes_with_the_files_address(left):
    found = _discovery.find(token="mine")
    assert (found.url, found.token) == ("http://127.0.0.1:8000", "mine")


def test_without_a_server_the_error_says_how_to_start_one(tmp_path):
    with pytest.raises(errors.ServerNotFound, match="kernelgate serve") as caught:
        _discovery.find()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"url": 3}', '{"token": "x"}', '{"url": "127.0.0.1:80"}'])
def test_a_file_that_is_half_written_is_no_server(tmp_path, content):
    (tmp_path / "server.json").write_text(content)
    with pytest.raises(errors.ServerNotFound):
        _discovery.find()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://x", "unix:///x"])
def test_an_address_without_its_scheme_is_told(url):
    with pytest.raises(errors.InvalidUse, match="http://HOST:PORT"):
        _discovery.find(url)


def test_an_endpoint_is_read_again_from_its_file_only(left):
    found = _discovery.find()
    left.write_text(json.dumps({"url": "http://127.0.0.1:8001", "token": "new"}))
    assert found.read_again().url == "http://127.0.0.1:8001"
    left.unlink()
    assert found.read_again() is found
    given = _discovery.find("http://127.0.0.1:5", "t")
    assert given.read_again() is given


def test_the_data_directory_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("KERNELGATE_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert _discovery.data_dir() == tmp_path / ".local" / "share" / "kernelgate"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert str(_discovery.data_dir()) == "/var/lib/kernelgate"


def test_a_token_does_not_show_in_a_repr(left):
    assert "of-file" not in repr(_discovery.find())
