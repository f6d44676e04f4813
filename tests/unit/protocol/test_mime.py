from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.protocol import mime

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
bundles = st.dictionaries(
    st.sampled_from([*mime.NAMES, "application/vnd.vegalite.v5+json", "application/x-own", "text/x-own"]), st.text(), max_size=6
)


@given(bundles)
def test_an_item_turns_back_into_its_bundle(bundle):
    assert mime.bundle(mime.item(bundle, is_main_result=True)) == bundle


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_any_bundle_makes_an_item(data):
    item = mime.item(data, is_main_result=False)
    assert item["is_main_result"] is False
    assert mime.size_bytes(item) >= 0
    again = mime.item(mime.bundle(item), is_main_result=False)
    assert again == item


def test_every_kind_has_its_name():
    data = {kind: {} if mime.is_json(kind) else "x" for kind in mime.NAMES}
    item = mime.item({**data, "application/geo+json": {"type": "Point"}}, is_main_result=True, metadata={"image/png": {"width": 1}})
    assert set(item) == {*mime.NAMES.values(), "is_main_result", "extra", "metadata"}
    assert item["extra"] == {"application/geo+json": {"type": "Point"}}


@pytest.mark.parametrize(
    ("data", "bundle"),
    [
        (None, {}),
        ([], {}),
        ("text", {}),
        ({"text/plain": None}, {}),
        ({"text/plain": ["a\n", "b"]}, {"text/plain": "a\nb"}),
        ({"image/png": ["aGk", "="]}, {"image/png": "aGk="}),
        ({"application/json": ["a", "b"]}, {"application/json": ["a", "b"]}),
        ({"text/plain": 5}, {"text/plain": "5"}),
        ({"text/html": {"a": 1}}, {"text/html": '{"a": 1}'}),
        ({"text/plain": ["a", 1]}, {"text/plain": '["a", 1]'}),
        ({"application/json": 0}, {"application/json": 0}),
    ],
)
def test_bundles_are_made_what_they_should_be(data, bundle):
    assert mime.normalise(data) == bundle


def test_sizes_are_about_those_of_the_json():
    assert mime.size_bytes({"text": "x" * 1000}) == 1000
    assert mime.size_bytes({"text": "ü" * 1000}) == 2000
    assert mime.size_bytes({"extra": {"a": ["x" * 10, {"b": "y" * 10}]}}) == pytest.approx(25, abs=5)
