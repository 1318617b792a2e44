"""Arithmetic that a golden file may state: numbers, names, + - * / // % **, brackets, min and max; nothing else.

    value = Expression("2 * (a + b)").value({"a": Fraction(5), "b": Fraction(3)})

What belongs here: the language, and its value, exact and within bounds. What does not: where names get their values
(`variants`). An expression is parsed and walked, never run: there are no calls beyond those two functions, no
attributes, no strings.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

MOST_CHARACTERS = 200
LARGEST = 10**15
_MOST_POWER = 12

_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda one, other: Fraction(one // other),
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[[Sequence[Fraction]], Fraction]] = {"min": min, "max": max}


class BadExpression(ValueError):
    """An expression that is not in the language, or has no value within the bounds."""


@dataclass(frozen=True)
class Expression:
    """One expression. Raises `BadExpression` when `text` is not in the language."""

    text: str
    names: frozenset[str] = field(init=False)
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > MOST_CHARACTERS:
            raise BadExpression(f"an expression has {len(self.text)} characters, at most {MOST_CHARACTERS} are read")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise BadExpression(f"{self.text!r} is no expression") from error
        names: set[str] = set()
        _check(tree, names, self.text)
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "names", frozenset(names))

    def value(self, of: Mapping[str, Fraction]) -> Fraction:
        """Its exact value. Raises `BadExpression` for a name that `of` lacks, a division by zero, a huge number."""
        try:
            return _value(self._tree, of)
        except KeyError as error:
            raise BadExpression(
                f"{self.text!r} names {error.args[0]!r}, which is no number; there are {sorted(of)}"
            ) from None
        except ZeroDivisionError:
            raise BadExpression(f"{self.text!r} divides by zero") from None

    def told(self, of: Mapping[str, Fraction]) -> str:
        """The expression with numbers in place of names, as a person would check it."""
        return ast.unparse(_Told(of).visit(ast.parse(self.text.strip(), mode="eval")))


class _Told(ast.NodeTransformer):
    def __init__(self, of: Mapping[str, Fraction]) -> None:
        self.of = of

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.of:
            return node
        value = self.of[node.id]
        return ast.Constant(int(value) if value.denominator == 1 else float(value))


def _check(node: ast.expr, names: set[str], text: str) -> None:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            _bounded(Fraction(str(value)) if _finite(value) else Fraction(LARGEST + 1))
        case ast.Name(id=name):
            names.add(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY or isinstance(op, ast.Pow):
            _check(left, names, text)
            _check(right, names, text)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, names, text)
        case ast.Call(func=ast.Name(id=name), args=[_, _, *_] as given, keywords=[]) if name in _FUNCTIONS:
            for one in given:
                _check(one, names, text)
        case _:
            raise BadExpression(
                f"{text!r} holds {type(node).__name__}; the language has numbers, names, + - * / // % **, brackets, "
                "min and max"
            )


def _finite(value: float) -> bool:
    return abs(value) <= LARGEST


def _value(node: ast.expr, of: Mapping[str, Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(str(value))
        case ast.Name(id=name):
            return of[name]
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, of), _value(right, of))
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_BINARY[type(op)](_value(left, of), _value(right, of)))
        case ast.UnaryOp(op=op, operand=operand):
            inner = _value(operand, of)
            return -inner if isinstance(op, ast.USub) else inner
        case ast.Call(func=ast.Name(id=name), args=given):
            return _FUNCTIONS[name]([_value(one, of) for one in given])
        case _:  # pragma: no cover - `_check` let nothing else through
            raise BadExpression(f"{type(node).__name__} has no value")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or not 0 <= exponent <= _MOST_POWER:
        raise BadExpression(f"the power {exponent} is no whole number from 0 to {_MOST_POWER}")
    return _bounded(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    if abs(value) > LARGEST or value.denominator > LARGEST:
        raise BadExpression(f"a number beyond {LARGEST:.0e} comes up")
    return value
