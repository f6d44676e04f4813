from __future__ import annotations

import json
import os

import pytest

from kernelgate import app
from kernelgate.errors import ConfigError, StorageUnavailable


def test_one_gateway_a_data_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "_HANDOVER_S", 0.05)
    data = tmp_path / "data"
    lock = app._take_directory(data, 30.0)
    (data / "server.json").write_text(json.dumps({"pid": 77, "draining": False}))
    with pytest.raises(ConfigError, match=r"another gateway .process 77. serves the data directory"):
        app._take_directory(data, 30.0)
    (data / "server.json").write_text(json.dumps({"pid": 77, "draining": True}))
    with pytest.raises(ConfigError):
        app._take_directory(data, 0.05)
    os.close(lock)
    os.close(app._take_directory(data, 30.0))


def test_a_data_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match=r"the data directory .*file/data cannot be used: Not a directory"):
        app._take_directory(tmp_path / "file" / "data", 30.0)
