"""What people type into a search box: words, "phrases", `or` between alternatives, and -without."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TERM = re.compile(r'(-?)(?:"([^"]*)"|([^\s"]+))')
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Term:
    """Words that follow each other, or that must not."""

    words: tuple[str, ...]
    negated: bool = False


def alternatives(query: str) -> list[list[Term]]:
    """Return groups of terms: a text answers the query if all terms of some group hold. [] for no words at all."""
    groups: list[list[Term]] = [[]]
    for minus, phrase, word in _TERM.findall(query):
        if word.lower() == "or" and not minus:
            groups.append([])
        elif wanted := words_of(phrase or word):
            groups[-1].append(Term(tuple(wanted), bool(minus)))
    return [list(dict.fromkeys(group)) for group in groups if group]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; underscores, hyphens and other signs part them."""
    return _WORD.findall(text.lower())
