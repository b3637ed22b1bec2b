"""Compiled templates are found again, and only where nothing has changed that they were made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from service.web import mail
from service.web.templating import CompiledTemplates

TEXT = "{{ 'a & b' | say }} & {{ value }}"


class Counting(Environment):
    """Knows how often it compiled."""

    compiled = 0

    def _generate(self, *args: object, **options: object) -> str:
        self.compiled += 1
        return str(super()._generate(*args, **options))  # type: ignore[arg-type]


@pytest.fixture
def maker(tmp_path: Path) -> Path:
    path = tmp_path / "filters.py"
    path.write_text("one")
    return path


def shown(folder: Path, maker: Path, text: str = TEXT, mark: str = "!") -> tuple[str, int]:
    """What a new process would show, and how often it compiled."""
    cache = CompiledTemplates(folder, maker)
    environment = Counting(loader=DictLoader({"page": text}), autoescape=True, bytecode_cache=cache)
    environment.filters["say"] = lambda value: value + mark
    return environment.get_template("page").render(value="<i>"), environment.compiled


def test_the_second_start_compiles_nothing(tmp_path: Path, maker: Path) -> None:
    expected = "a &amp; b! & &lt;i&gt;"
    assert shown(tmp_path / "kept", maker) == (expected, 1)
    assert shown(tmp_path / "kept", maker) == (expected, 0)


def test_another_text_or_filter_is_compiled_anew(tmp_path: Path, maker: Path) -> None:
    shown(tmp_path, maker)
    maker.write_text("another")
    assert shown(tmp_path, maker, mark="?")[0].startswith("a &amp; b?"), "filters are applied when compiling"
    assert shown(tmp_path, maker, "new") == ("new", 1)


def test_mails_are_not_found_among_pages() -> None:
    """Both know a template by its name alone, and only one of them is escaped."""
    assert mail._plain().bytecode_cache is None


def test_a_disk_that_takes_nothing_stops_no_start(tmp_path: Path, maker: Path) -> None:
    (tmp_path / "kept").symlink_to("/proc/self")  # takes no file, not even from root
    assert shown(tmp_path / "kept", maker)[1] == 1
