"""Whether an answer is the right one, by rule: the last one stated, compared as a number or as text.

The rule looks for the last `\\boxed{…}`, then for what follows `####` or `Answer:`, then for the last
number. Numbers are compared exactly as fractions, so 0.5 and 1/2 are one answer, and where a number is
asked for, the only one of what is stated counts ("18 dollars", but neither "2, 3" nor "2x"); everything
else is compared after layout is taken out of it.
"""

import re
from fractions import Fraction

_MARK = r"####|[Aa]nswer(?:\s+is)?\s*:?"
_MARKED = re.compile(rf"(?:{_MARK})\s*([^\n]+?)(?={_MARK}|\n|$)")
_NUMBER = re.compile(r"[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|\d)(?:\s*/\s*\d+(?:\.\d+)?)?|[-+−]?\d+")
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|[\s$~]|\\%|%|°|\^\\circ")
_WORDS = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac(?:\{([^{}]+)\}|(\d))(?:\{([^{}]+)\}|(\d))")
_MIXED = re.compile(rf"(?<![\w.])(\d+)\s*(?={_FRACTION.pattern})")  # 1\frac{1}{2}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_NUMERAL = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_RATIO = re.compile(rf"\+?(-?)(?:\(({_NUMERAL})\)|({_NUMERAL}))(?:/(?:\(({_NUMERAL})\)|({_NUMERAL})))?")
_NEEDLESS = re.compile(r"\{(\w|,)\}")  # x^{2}, 1{,}000
_CHOICE = re.compile(r"\((\w)\)")


def stated_answer(text: str) -> str | None:
    """What a text marks as its answer: in a box, or after a word that says so."""
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed.strip()
    marked = _marked(text)
    return marked[-1] if marked else None


def _marked(text: str) -> list[str]:
    return [found.strip().rstrip(".").strip("*$ ") for found in _MARKED.findall(text)]


def final_answer(text: str) -> str:
    """What a text states as its answer, or else its last number, or else itself."""
    if (stated := stated_answer(text)) is not None:
        return stated
    numbers = _NUMBER.findall(text)
    return numbers[-1].strip() if numbers else text.strip()


def same_answer(answer: str, reference: str) -> bool:
    """Whether an answer is the right one; a reference that marks nothing is the answer itself."""
    right = _plain(stated_answer(reference) or reference)
    found = [final_answer(answer), answer]
    if _value(right) is not None and (number := _stated_number(answer)) is not None:
        found.append(number)
    return bool(right) and any(_equal(_plain(each), right) for each in found)


def _stated_number(text: str) -> str | None:
    """The number of the last statement that has one, where it is alone: "the answer is 18 dollars"."""
    boxed = _last_boxed(text)
    for stated in reversed(_marked(text) if boxed is None else [boxed]):
        said = _right_side(_NEEDLESS.sub(r"\1", _WORDS.sub(r" \1", stated)))
        if numbers := list(_NUMBER.finditer(said)):
            alone = len(numbers) == 1 and not re.match(r"[\w\\^*/+-]", said[numbers[0].end() :])
            return numbers[0].group() if alone else None
    return None


def _equal(left: str, right: str) -> bool:
    a, b = _value(left), _value(right)
    return a == b if a is not None and b is not None else left == right


def _last_boxed(text: str) -> str | None:
    """The inside of the last `\\boxed{…}` whose braces close."""
    start = text.rfind("\\boxed{")
    while start >= 0:
        depth, begin = 0, start + len("\\boxed")
        for end in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[begin + 1 : end]
        start = text.rfind("\\boxed{", 0, start)
    return None


def _plain(answer: str) -> str:
    answer = _MIXED.sub(r"\1 and ", answer.replace("−", "-"))
    answer = _FRACTION.sub(r"(\1\2)/(\3\4)", answer)
    answer = _NEEDLESS.sub(r"\1", _WORDS.sub(r"\1", answer))
    answer = _LAYOUT.sub("", answer).replace("{", "(").replace("}", ")")
    answer = _THOUSANDS.sub("", answer).removesuffix(".").lower()
    choice = _CHOICE.fullmatch(answer)
    return choice.group(1) if choice else answer


def _right_side(statement: str) -> str:
    """What an equation comes to: `x = 1 + 1 = 2` to 2; several, as in `a = 1, b = 2`, stay as they are."""
    return statement if "," in _THOUSANDS.sub("", statement) else statement.rpartition("=")[2]


def _value(answer: str) -> Fraction | None:
    """The number that a plain answer is: a numeral, a ratio of two, or a whole number and a ratio."""
    bare = _without_parentheses(_right_side(answer))
    whole, mixed, rest = bare.rpartition("and")
    sign = -1 if mixed and whole.startswith("-") else 1
    found = _RATIO.fullmatch(rest)
    try:
        if found is None or (mixed and not whole.removeprefix("-").isdigit()):
            return None
        above, below = found[2] or found[3], found[4] or found[5] or "1"
        value = Fraction(above) / Fraction(below) * (-1 if found[1] else 1)
        return sign * (abs(Fraction(whole)) + value) if mixed else value
    except ZeroDivisionError:
        return None


def _without_parentheses(text: str) -> str:
    """A text without parentheses around the whole of it."""
    while text.startswith("(") and text.endswith(")"):
        inside, depth = text[1:-1], 0
        for letter in inside:
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if depth < 0:
                return text
        text = inside
    return text
