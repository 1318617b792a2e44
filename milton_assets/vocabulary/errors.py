"""Errors that say what was found, what was expected and what to do next.

What belongs here: the base class, the errors more than one package raises, and how an error lists names. What does
not: errors that a single package raises; those stand beside the code that raises them and derive from `MiltonError`.
"""

from __future__ import annotations

from collections.abc import Iterable


def one_of(names: Iterable[str], most: int = 20) -> str:
    """What was expected where a name is none of `names`: "one of a, b, c", of many the first `most` and how many more.

    A name that is more than a word stands in quotes.
    """
    told = [name if name and name.isprintable() and not set(name) & set(" ,'\"") else repr(name) for name in names]
    more = f" and {len(told) - most:,} more" if len(told) > most else ""
    return f"one of {', '.join(told[:most])}{more}"


class MiltonError(Exception):
    """Something a user can act on. The command line prints it without a traceback and exits 1.

    `problem` says what was found, `expected` what would have been right, `remedy` what to do next.
    """

    def __init__(self, problem: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        self.problem = problem
        self.expected = expected
        self.remedy = remedy
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [self.problem.rstrip(".")]
        if self.expected:
            parts.append(f"expected: {self.expected.rstrip('.')}")
        if self.remedy:
            parts.append(f"next: {self.remedy.rstrip('.')}")
        return ". ".join(parts) + "."

    def __reduce__(self) -> tuple[object, ...]:
        # By the default reduction, keyword-only arguments and what subclasses add would be lost between processes.
        return (_rebuild, (type(self), self.problem, self.expected, self.remedy), self.__dict__)


def _rebuild(kind: type[MiltonError], problem: str, expected: str | None, remedy: str | None) -> MiltonError:
    error = kind.__new__(kind)
    MiltonError.__init__(error, problem, expected=expected, remedy=remedy)
    return error


class BadInput(MiltonError):
    """Something from outside (file, server, environment, argument) is not what it must be."""


class EvidenceMismatch(MiltonError):
    """What is on disk or in the event log is not what a manifest pinned."""


class ServerFailed(MiltonError):
    """A model server did not start, stopped on its own, or is not the one it should be."""
