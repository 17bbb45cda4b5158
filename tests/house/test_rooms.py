"""The house keeps its order: who may import whom, and what the light doors never load."""

import ast
import os
import re
import statistics
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "realign"
ARCHITECTURE = SRC.parents[1] / "docs" / "architecture.md"
SHARED = {"study", "artifacts", "results", "text", "engine", "vectors", "embedder"}
BESIDE = {"seeds", "names", "measures", "plates", "commands"}  # what all may import, beside the shared rooms
HEAVY = ("torch", "transformers", "deepspeed", "mteb", "sentence_transformers")
MODULES = sorted(p for p in SRC.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        rooms |= {n.split(".")[1] for n in names if n.startswith("realign.")}
    return rooms


def room_of(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else path.stem


def may_import() -> dict[str, set[str]]:
    """The table of rooms in the manual: what each may import."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$", ARCHITECTURE.read_text(encoding="utf-8"), re.M)
    groups = {"shared rooms": SHARED, "all rooms": {room for room, _ in rows}}
    return {room: groups.get(listed) or set(re.findall(r"`(\w+)`", listed)) for room, listed in rows}


def test_rooms_import_what_the_manual_says_and_nothing_else():
    allowed = may_import()
    assert set(allowed) == {p.name for p in SRC.iterdir() if (p / "__init__.py").is_file()}
    crossings = {
        str(path.relative_to(SRC)): sorted(others)
        for path in MODULES
        if (room := room_of(path)) in allowed
        and (others := imported_rooms(path) - allowed[room] - BESIDE - {room})
    }
    assert crossings == {}
    for door in ("cli", "stages", "tools"):
        assert [str(p) for p in MODULES if door in imported_rooms(p) and room_of(p) != door] == []
    beside = {path.stem: imported_rooms(path) for path in SRC.glob("*.py") if path.stem in BESIDE}
    names = {"seeds": set(), "names": set(), "commands": {"measures", "plates"}}
    assert beside == names  # the tables of families and of figures


def test_no_room_imports_itself_by_way_of_others():
    """Settings check names against the table of commands, so that table must not reach up to them."""
    rooms: dict[str, set[str]] = {}
    for path in MODULES:
        rooms.setdefault(room_of(path), set()).update(imported_rooms(path) - {room_of(path)})
    TopologicalSorter(rooms).prepare()


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and those for type checkers count: they would only hide a circle."""
    modules = {".".join(path.relative_to(SRC.parent).with_suffix("").parts): path for path in MODULES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}

    def imported(path: Path) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name if name in modules else str(node.module) for name in inside}
        return found & modules.keys()

    TopologicalSorter({name: imported(path) for name, path in modules.items()}).prepare()


def test_package_files_hold_no_code():
    # Two lazy doors are allowed: the public comparisons of models and of states.
    allowed = {SRC / "__init__.py", SRC / "hrsa" / "__init__.py"}
    bodies = {p: ast.parse(p.read_text()).body for p in SRC.rglob("__init__.py") if p not in allowed}
    code = [p for p, body in bodies.items() if any(not isinstance(n, ast.Expr) for n in body)]
    assert code == []


def test_study_and_command_declarations_are_light():
    declarations = [f"realign.{p.parent.name}.commands" for p in SRC.glob("*/commands.py")]
    code = (
        "import sys, importlib\n"
        f"for name in {['realign.cli', 'realign.study.study', *declarations]!r}: importlib.import_module(name)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_help_loads_almost_nothing():
    code = (
        "import sys\nfrom realign.cli import main\nmain(['--help'])\nprint(len(sys.modules), file=sys.stderr)"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SRC.parent)},
    )
    assert said.returncode == 0, said.stderr
    assert int(said.stderr) < 200
    assert "usage: realign COMMAND" in said.stdout


def test_help_takes_less_than_a_third_of_a_second():
    """The processor's time, which a busy machine hardly changes, and the median of a few runs."""

    def seconds():
        child = subprocess.Popen([sys.executable, "-m", "realign.cli", "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return used.ru_utime + used.ru_stime

    assert statistics.median(seconds() for _ in range(7)) < 0.3


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["--version"], ["init", "--help"], ["plan", "--help"], ["hrsa_linear", "--help"]],
)
def test_a_reader_who_leaves_at_once_is_no_error(words, buffered):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "realign.cli", *words],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"},
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("table", ["STAGES", "TOOLS"])
def test_every_command_in_the_table_resolves(table):
    from realign import commands

    for name, (reference, text) in getattr(commands, table).items():
        found = commands.resolve(reference)
        assert text.endswith("."), name
        if table == "STAGES":
            assert found.name == name


def test_every_stage_command_runs_code_that_exists():
    from realign.artifacts.fingerprint import reachable
    from realign.commands import STAGES as commands
    from realign.commands import load_command

    for name in commands:
        module, function = load_command(name).run.split(":")
        assert module in reachable(module), f"{name}: {module} is not in the package"
        source = SRC.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text()
        body = ast.parse(source).body
        names = {n.name for n in body if isinstance(n, ast.FunctionDef)}
        names |= {
            ast.unparse(n.targets[0]) for n in body if isinstance(n, ast.Assign)
        }  # `run = publishing(draw)`
        assert function in names, f"{name}: no function {function} in {module}"


def test_every_stage_has_flags_that_do_not_clash():
    from realign.artifacts.arguments import build_parser
    from realign.commands import STAGES as commands
    from realign.commands import load_command

    for name in commands:
        assert build_parser(load_command(name)).prog == f"realign {name}"


def test_the_default_profile_is_found():
    profile = SRC.parents[1] / "profiles" / "default" / "config.yaml"
    assert "rerun-triggers: [mtime, input, params]" in profile.read_text()


def test_code_behind_results_is_imported_by_its_name():
    """Fingerprints follow imports that can be read; code that is found at run time would escape them."""
    from realign.artifacts.fingerprint import reachable
    from realign.commands import STAGES as commands
    from realign.commands import load_command

    reached = {module for name in commands for module in reachable(load_command(name).run.split(":")[0])}
    finding = {"import_module", "__import__", "exec", "eval", "exec_module", "run_path", "run_module"}
    found = set()
    for module in (name for name in reached if "/" not in name):  # pages are no code
        base = SRC.joinpath(*module.split(".")[1:])
        path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            plain = called.id if isinstance(called, ast.Name) else None
            if plain in finding or (isinstance(called, ast.Attribute) and called.attr in finding - {"eval"}):
                found.add(module)
    assert found <= {"realign", "realign.hrsa"}  # the public doors, through which no command goes
