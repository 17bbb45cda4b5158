"""What changes a command's fingerprint, and what must not."""

import textwrap

import pytest

from realign.artifacts import fingerprint as fp


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__.py": "",
        "stage/__init__.py": "",
        "stage/work.py": '''
            """Docs."""
            from realign.stage import helper
            from realign.artifacts import store

            def run(job):
                """Do it."""
                from realign.late import later  # imported where it is used
                launch("realign.stage.worker")
                return helper.double(later(job))
        ''',
        "stage/helper.py": "from realign.stage import work\n\ndef double(x):\n    return 2 * x\n",
        "stage/worker.py": "VALUE = 1\n",
        "stage/unrelated.py": "VALUE = 1\n",
        "stage/page.html": "<p>{{ value }}</p>\n",
        "stage/page.css": "p { margin: 1px }\n",
        "stage/notes.txt": "1\n",
        "other/__init__.py": "",
        "other/page.html": "<b>1</b>\n",
        "late.py": "def later(x):\n    return x\n",
        "artifacts/__init__.py": "",
        "artifacts/store.py": "VERSION = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def code(root):
    fp.forget()
    return fp.fingerprint("realign.stage.work", root)


def test_follows_imports_wherever_they_stand_and_survives_cycles(package):
    found = fp.reachable("realign.stage.work", package)
    assert {"realign.stage.work", "realign.stage.helper", "realign.late", "realign.stage.worker"} <= set(
        found
    )
    assert "realign.stage.unrelated" not in found
    assert not any(name.startswith("realign.artifacts") for name in found)


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("stage/helper.py", "2 * x", "3 * x", True),
        ("late.py", "return x", "return x + 1", True),
        ("stage/worker.py", "1", "2", True),
        ("stage/work.py", "# imported where it is used", "# now", False),
        ("stage/work.py", '"""Do it."""', '"""Do it otherwise."""', False),
        ("stage/work.py", '"""Docs."""', '"""Other docs."""', False),
        ("stage/helper.py", "return 2 * x", "return  2*x", False),
        ("stage/helper.py", "def double(x)", "def double(x: int) -> int", False),
        (
            "stage/helper.py",
            "def double(x)",
            "def double(x: 'int') -> 'realign.stage.unrelated.Number'",
            False,
        ),
        ("stage/worker.py", "VALUE = 1", "VALUE: int = 1", True),
        ("stage/unrelated.py", "1", "2", False),
        ("stage/page.html", "<p>", "<p class='big'>", True),
        ("stage/page.css", "1px", "2px", True),
        ("stage/notes.txt", "1", "2", False),
        ("other/page.html", "1", "2", False),
        ("artifacts/store.py", "1", "2", False),
    ],
)
def test_only_reachable_code_counts(package, file, old, new, stale):
    before = code(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (code(package) != before) is stale


def test_a_field_of_a_class_counts_and_says_the_same_as_a_string(package):
    codes = []
    for kind in ("int", "'int'", "float"):
        (package / "stage/helper.py").write_text(f"class Row:\n    size: {kind}\n")
        codes.append(code(package))
    assert codes[0] == codes[1] != codes[2]


def test_relative_imports_are_followed(package):
    (package / "stage/work.py").write_text("from . import helper\nfrom ..late import later\n")
    fp._read.cache_clear()
    assert {"realign.stage.helper", "realign.late"} <= set(fp.reachable("realign.stage.work", package))


def test_a_new_module_that_is_reached_counts(package):
    before = code(package)
    (package / "stage/helper.py").write_text(
        "from realign.stage import unrelated\n\ndef double(x):\n    return 2 * x\n"
    )
    after = code(package)
    assert after != before
    (package / "stage/unrelated.py").write_text("VALUE = 3\n")
    assert code(package) != after


def test_the_fingerprint_is_the_same_in_every_python(tmp_path):
    """A golden value: fields that later versions of Python add to the tree, empty, say nothing."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "one.py").write_text("def f(x=1):\n    return x")
    assert fp.reachable("realign.one", tmp_path)["realign.one"] == GOLDEN


def test_a_changed_page_is_named(package):
    assert {"realign.stage/page.css", "realign.stage/page.html"} <= set(
        fp.reachable("realign.stage.work", package)
    )


GOLDEN = "6f05a0749339c86be9582fa2229985ec4a288c19c76b85f986d01fc3948fd523"
