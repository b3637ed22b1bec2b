"""The chapter in docs/: written by hand, but for the stories, which come from the runs themselves."""

from __future__ import annotations

from pathlib import Path

CHAPTER = Path(__file__).parents[3] / "docs/gaps/lost-update.md"
BEGIN = "<!-- from here written by: python -m tests.gaps.lost_update --write -->\n\n"
END = "\n<!-- to here -->\n"


def stories_shown() -> str:
    return CHAPTER.read_text().split(BEGIN)[1].split(END)[0]


def show(stories: str) -> None:
    text = CHAPTER.read_text()
    CHAPTER.write_text(text.replace(BEGIN + stories_shown() + END, BEGIN + stories + END))
