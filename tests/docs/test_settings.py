"""Every setting is documented, with the default it has."""

from tests.tools import settings_table


def test_the_table_is_current():
    text = settings_table.DOCUMENT.read_text()
    assert settings_table.current(text) == text, "run: python tests/tools/settings_table.py"
