"""Answers that are lists of words: names or nouns in a row, or words that make no sentence.

What belongs here: telling them from sentences, whatever the gold is. What does not: candidates beside a gold
(`candidates`).
"""

from __future__ import annotations

from milton_assets.tiers.reasoning.asking import asks_for_several
from milton_assets.tiers.reasoning.items import Items
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS
from milton_assets.tiers.reasoning.pieces import MARK, cut, row_ends
from milton_assets.tiers.reasoning.text import phrase, words

MANY = 3
MOST_ITEMS_OF_AN_ANSWER = 10
_FEWEST_SHARE_OF_LINKS = 6
_FEWEST_LINKS = 6
_LONGEST_RUN = 7


def is_soup(text: str, question: str = "") -> bool:
    """Whether `text` is words in a row that make no sentence: many of them, joined by none or always by the same.

    Numbers do not count, nor the words of the question.
    """
    asked = set(phrase(question))
    spelled = words(text.replace(MARK, " gold "))
    links = [word.text for word in spelled if word.text in FUNCTION_WORDS - {"and", "or"}]
    if len(links) >= _FEWEST_LINKS and len(set(links)) == 1:
        return True
    run = 0
    clause = -1
    for word in spelled:
        breaks = word.clause != clause or word.text in FUNCTION_WORDS or word.text in asked
        if breaks or word.text[0].isdigit() or word.text.endswith(("ed", "ing")):
            run = 0
        clause = word.clause
        run += word.text not in FUNCTION_WORDS and not word.text[0].isdigit()
        if run > _LONGEST_RUN:
            return True
    return False


def is_a_list_of_words(text: str, question: str) -> bool:
    """Whether `text` is mostly names or nouns in a row, more than the question can have asked for, or words that make
    no sentence. No judge is asked about one.
    """
    items, longest = _items(text, question)
    if longest > _most_items(question) and 2 * sum(items) >= len(items):
        return True
    said = words(text)
    links = [word.text for word in said if word.text in FUNCTION_WORDS]
    return is_soup(text, question) and (len(set(links)) <= 1 or _FEWEST_SHARE_OF_LINKS * len(links) < len(said))


def is_nothing_but_a_list(text: str, question: str, *, numbers: bool) -> bool:
    """Whether all of `text` is such names or nouns, or `numbers`: no part of it is its claim."""
    _, longest = _items(text, question, numbers=numbers)
    items, _ = _items(text, question)
    return longest > _most_items(question) and all(items)


def _most_items(question: str) -> int:
    return MOST_ITEMS_OF_AN_ANSWER if asks_for_several(question) else MANY


def _items(text: str, question: str, *, numbers: bool = True) -> tuple[list[bool], int]:
    """Which pieces may be items of a list, whatever is asked for, and how many stand in a row at most."""
    reader = Items(set(phrase(question)), named=False, digits=False, question=question)
    items = [reader.is_item(piece.text) or (numbers and piece.text.strip().isdigit()) for piece in cut(text)]
    ends = row_ends(items)
    return items, max((end + 1 - at for at, end in enumerate(ends) if items[at]), default=0)


def enumerates(text: str) -> bool:
    """Whether `text` lists several names in a row, whatever they are."""
    reader = Items(set(), named=True, digits=False, question="")
    run = 0
    for piece in cut(text):
        run = run + 1 if reader.is_item(piece.text) else 0
        if run > MANY:
            return True
    return False
