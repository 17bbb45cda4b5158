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
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|[\s$]|\\%|%|°|\^\\circ")
_WORDS = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac(?:\{([^{}]+)\}|(\d))(?:\{([^{}]+)\}|(\d))")
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
        said = _NEEDLESS.sub(r"\1", stated).rpartition("=")[2]
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
    answer = _FRACTION.sub(r"(\1\2)/(\3\4)", answer.replace("−", "-"))
    answer = _NEEDLESS.sub(r"\1", _WORDS.sub(r"\1", answer))
    answer = _LAYOUT.sub("", answer).replace("{", "(").replace("}", ")")
    answer = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", answer).removesuffix(".").lower()
    choice = _CHOICE.fullmatch(answer)
    return choice.group(1) if choice else answer


def _value(answer: str) -> Fraction | None:
    bare = answer.replace("(", "").replace(")", "").rpartition("=")[2].removeprefix("+")
    try:
        above, _, below = bare.partition("/")
        return Fraction(above) / Fraction(below) if below else Fraction(above)
    except (ValueError, ZeroDivisionError):
        return None
