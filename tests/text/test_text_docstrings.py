import ast
import textwrap

import pytest

from realign.text.docstrings import clean_markup, read_entries, split_sections, topic_of
from realign.text.overlap import Overlap
from realign.text.pairs import text_key
from realign.text.select import cut, cut_lines, deal, first_of_each, shuffled
from realign.text.shapes import MAKERS, pairs_of
from realign.text.sources import Source

MODULE = '''
def solve(a, b, *, tol=1e-6):
    """
    Solve the linear system ``a @ x = b`` for :obj:`~numpy.ndarray` inputs.

    The matrix is factorised once, see [1]_ and the `user guide <https://x.org>`_, and
    *every* column of `b` is solved with it. Read more in the :ref:`User Guide <guide>`.

    The solution is given by

    .. math::

        x = a^{-1} b

    which goes on after the formula.

    .. versionadded:: 1.2
       Something about versions.

    Some code follows::

        x = solve(a, b)

    Parameters
    ----------
    a : (N, N) array_like
        The matrix of the system, which must be square.
    b, c : array_like, optional
        Right-hand sides, a column each.
    tol : float
        Small.

    Returns
    -------
    x : ndarray
        The solution.

    See Also
    --------
    lstsq : least squares
    numpy.linalg.inv, pinv

    Notes
    -----
    It takes cubic time in the number of rows. It is exact, i.e.
    up to rounding

    - a list
    - of things

    References
    ----------
    .. [1] Someone, "A book about solving systems of equations".

    Examples
    --------
    >>> x = solve(a, b)  # doctest: +SKIP
    >>> for column in x:
    ...     print(column)
    1.0
    >>> y = solve(a, b, tol=1e-9)
    """
    # comments are part of the code
    if a.ndim != 2:
        raise ValueError("not a matrix")
    lu = factor(a)
    return lu.solve(b)


def _private():
    """It is private and not for reading."""


class Model:
    """A model of some data that is fitted by least squares.

    Args:
        rate: How fast the model learns from each batch.
        steps: Number of steps.
    """

    @property
    def size(self):
        """The number of parameters of this model."""
        return len(self.parameters)

    @size.setter
    def size(self, value):
        """The number of parameters of this model, set."""

    def templated(self):
        """Return the %(klass)s of something else."""
        return 1


if True:
    @overload
    def double(x: int) -> int:
        """Twice the number that is given."""

    def double(x):
        """Twice the number that is given, whatever it is."""
        y = x
        y += x

        return y
'''


@pytest.fixture(scope="module")
def entries():
    source = Source("pkg", "pkg.algorithms._solvers", tuple(MODULE.splitlines()), ast.parse(MODULE))
    return {e.name: e for e in read_entries(source)}


def test_public_entries_are_found_once_and_only_they(entries):
    assert list(entries) == ["solve", "Model", "Model.size", "Model.templated", "double"]
    assert entries["double"].summary == "Twice the number that is given, whatever it is."
    assert entries["Model.size"].summary == "The number of parameters of this model."
    assert (entries["solve"].kind, entries["Model"].kind, entries["Model.size"].kind) == (
        "function",
        "class",
        "method",
    )


def test_prose_is_freed_of_markup_and_of_what_led_to_formulas(entries):
    entry = entries["solve"]
    assert entry.summary == "Solve the linear system a @ x = b for numpy.ndarray inputs."
    assert entry.description == (
        "The matrix is factorised once and the user guide, and every column of b is solved with it."
        "\n\nIt takes cubic time in the number of rows."
    )


def test_parameters_links_and_examples_are_told_apart(entries):
    entry = entries["solve"]
    assert [(p.name, p.text) for p in entry.parameters] == [
        ("a", "The matrix of the system, which must be square."),
        ("b, c", "Right-hand sides, a column each."),
    ]
    assert entry.see_also == ("lstsq", "numpy.linalg.inv", "pinv")
    assert entry.example == "x = solve(a, b)\nfor column in x:\n    print(column)\ny = solve(a, b, tol=1e-9)"
    assert [(p.name, p.text) for p in entries["Model"].parameters] == [
        ("rate", "How fast the model learns from each batch."),
        ("steps", "Number of steps."),
    ]


def test_templates_are_no_prose(entries):
    assert entries["Model.templated"].summary == ""


def test_code_has_no_docstring_and_no_decorator(entries):
    code = entries["solve"].code
    assert code.startswith("def solve(a, b, *, tol=1e-6):")
    assert '"""' not in code
    assert "# comments are part of the code" in code
    ast.parse(code)
    ast.parse(entries["Model.size"].code)
    assert "@" not in entries["Model.size"].code


def test_topics_are_the_first_telling_part_of_a_module():
    assert topic_of("sklearn.cluster._dbscan") == "cluster"
    assert topic_of("networkx.algorithms.centrality.katz") == "centrality"
    assert topic_of("sklearn.base") == "sklearn"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (":meth:`Frame.head` and :py:class:`~a.b.C`", "Frame.head and a.b.C"),
        (":ref:`the guide <guide-label>`", "the guide"),
        ("as in [12]_, [Croux1999]_.", "as."),
        ("**Bold** and *slanted*, 2*x*y", "Bold and slanted, 2*x*y"),
        ("use ``a*b``", "use a*b"),
    ],
)
def test_markup(markup, text):
    assert clean_markup(markup) == text


def test_sections_in_both_styles():
    lines = textwrap.dedent(
        """
        Title
        =====

        Prose.

        Args:
            x: It.

        Returns:
            y
        """
    )
    sections = split_sections(lines.strip())
    assert [line for line in sections[""] if line] == ["Prose."]
    assert sections["Parameters"][0] == "    x: It."


def test_shapes_ask_and_answer(entries):
    query, answer = MAKERS["summary-description"](entries["solve"], 1000)
    assert query.startswith("Solve the linear")
    assert answer.startswith("The matrix is factorised")
    query, answer = MAKERS["description-code"](entries["solve"], 1000)
    assert "cubic time" in query
    assert answer.startswith("def solve")
    query, answer = MAKERS["example-function"](entries["solve"], 1000)
    assert "print(column)" in query
    assert answer.startswith("Solve the linear")
    query, answer = MAKERS["parameters-function"](entries["solve"], 1000)
    assert (
        query == "a: The matrix of the system, which must be square.\nb, c: Right-hand sides, a column each."
    )
    assert answer.startswith("pkg.algorithms._solvers.solve\nSolve")
    assert MAKERS["summary-description"](entries["Model.templated"], 1000) is None


def test_no_query_and_no_answer_of_a_shape_occurs_twice(entries):
    twice = [*entries.values(), *entries.values()]
    rows = list(pairs_of("description-code", twice, 100, 1000, 0))
    assert (
        len({text_key(r.query) for r in rows})
        == len({text_key(*r.positives) for r in rows})
        == len(rows)
        == 2
    )


def test_overlap_finds_a_shared_run_of_words_and_nothing_less():
    held = " ".join(f"word{i}" for i in range(40))
    overlap = Overlap([held, "five words are enough here"])
    thirteen = " ".join(f"Word{i}," for i in range(20, 33))
    assert overlap.repeats(f"before {thirteen} after")
    assert not overlap.repeats("before " + " ".join(f"word{i}" for i in range(20, 32)) + " after")
    assert overlap.repeats("Five words ARE enough, here!")
    assert not overlap.repeats("and five words are enough here too")
    assert not overlap.repeats("four words are few")


def test_choices_depend_on_seed_and_key_alone():
    items = [f"item{i}" for i in range(50)]
    order = shuffled(items, str, 0, "x")
    assert shuffled(reversed(items), str, 0, "x") == order
    assert order not in (items, shuffled(items, str, 1, "x"), shuffled(items, str, 0, "y"))
    without = [i for i in order if i != "item7"]
    assert shuffled((i for i in items if i != "item7"), str, 0, "x") == without


def test_dealing_takes_turns_and_first_ones_stay():
    items = ["a1", "a2", "a3", "b1", "c1", "c2"]
    assert deal(items, lambda x: x[0], 5) == ["a1", "b1", "c1", "a2", "c2"]
    assert first_of_each(["ab", "ac", "db"], lambda x: x[:1].encode(), lambda x: x[1:].encode()) == ["ab"]


def test_cuts_end_where_a_sentence_or_a_line_ends():
    assert cut("One two. Three four. Five", 22) == "One two. Three four."
    assert cut("short", 10) == "short"
    assert cut("no sentence end here at all", 14) == "no sentence"
    assert cut_lines("a\nbb\nccc", 5) == "a\nbb"
