"""What can be added is added alike: in Python, from a file, by a package; what fails is skipped and named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from critinit import load_cell, load_scheme
from critinit.distributions import EntryKernel, Observed
from critinit.errors import ArgumentError, CellError, CritinitError, FileError, PluginError, PluginWarning
from critinit.plugins import Registry, file_and_name, is_file
from tests.plugins.conftest import REGISTRIES, Publish
from tests.plugins.members import CELL, MEMBERS, SCHEME

KINDS = list(REGISTRIES)
FILES = {"cell": load_cell, "scheme": load_scheme}


def group_of(kind: str) -> str:
    return REGISTRIES[kind].group


def member(kind: str) -> Any:
    """The member that the file of that kind holds; a file with a distribution registers it itself."""
    space: dict[str, Any] = {"__name__": "published_in_a_test"}
    code = MEMBERS[kind].replace("@register_distribution\n", "")
    exec(compile(code, "member.py", "exec"), space)
    return space["Member"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_registered_in_python(kind: str) -> None:
    registry = REGISTRIES[kind]
    assert registry.find("toy") is None
    item = member(kind)
    used = registry.register(item)
    assert registry.find("toy") is used
    assert registry.get("toy") is used
    assert registry.names().count("toy") == 1
    assert registry.loaded()["toy"] is used
    again = registry.register(member(kind))
    assert registry.get("toy") is again
    assert again is not used


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_publishes_a_member(kind: str, publish: Publish) -> None:
    registry = REGISTRIES[kind]
    code = MEMBERS[kind].replace("@register_distribution\n", "")
    publish(f"published_{kind}", code, {group_of(kind): f"toy = published_{kind}:Member"})
    assert "toy" in registry.names()
    found = registry.get("toy")
    assert registry.find("toy") is found
    assert registry.loaded()["toy"] is found


BROKEN = {
    "it cannot be imported": ("import no_such_module_anywhere\n", "No module named 'no_such_module_anywhere'"),
    "it raises": ("raise RuntimeError('on two\\nlines')\n", "RuntimeError: on two lines"),
    "it exits": ("raise AssertionError\n", "AssertionError"),
    "it has no such object": ("", "has no attribute 'Member'"),
    "it is of the wrong type": ("Member = 3\n", "found int"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("why", BROKEN)
def test_a_package_that_fails_is_skipped_and_named(kind: str, why: str, publish: Publish) -> None:
    """A warning names it once; the error for its name says why; all else works."""
    registry, (code, said) = REGISTRIES[kind], BROKEN[why]
    if (kind, why) == ("adapter", "it is of the wrong type"):
        said = "found no framework"
    publish("published_broken", code, {group_of(kind): "toy = published_broken:Member"})
    others = set(registry.names()) - {"toy"}
    with pytest.warns(PluginWarning, match="toy of published_broken:Member was skipped: ") as caught:
        assert registry.find("toy") is None
    assert said in str(caught[0].message)
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.find("toy") is None
        assert set(registry.names()) == others
        assert set(registry.loaded()) == others
    with pytest.raises(ArgumentError) as error:
        registry.get("toy")
    assert str(caught[0].message).count("published_broken:Member") == 1
    assert error.value.found == "'toy'"
    assert "skipped toy: " in error.value.hint
    assert said in error.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_was_broken_can_be_registered(kind: str, publish: Publish) -> None:
    registry = REGISTRIES[kind]
    publish("published_broken", "raise RuntimeError\n", {group_of(kind): "toy = published_broken:Member"})
    with pytest.warns(PluginWarning):
        registry.find("toy")
    used = registry.register(member(kind))
    assert registry.get("toy") is used
    assert "toy" in registry.names()
    assert registry.hint("toy") == "did you mean 'toy'?"


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_point_has_the_name_of_its_member(kind: str, publish: Publish) -> None:
    registry = REGISTRIES[kind]
    code = MEMBERS[kind].replace("@register_distribution\n", "")
    publish("published_other", code, {group_of(kind): "other = published_other:Member"})
    with pytest.warns(PluginWarning, match="found 'toy'; allowed: that of its entry point"):
        assert registry.find("other") is None


@pytest.mark.parametrize("kind", ["cell", "scheme", "kernel", "bias"])
def test_critinits_own_members_cannot_be_replaced(kind: str, publish: Publish) -> None:
    registry = REGISTRIES[kind]
    name = next(iter(registry.built_in))
    code = MEMBERS[kind].replace("@register_distribution\n", "").replace('"toy"', f'"{name}"')
    space: dict[str, Any] = {"__name__": "published_in_a_test"}
    exec(compile(code, "member.py", "exec"), space)
    with pytest.raises(
        PluginError, match=f"^{registry.kind} name: found '{name}'; allowed: a name that none of critinit"
    ):
        registry.register(space["Member"])
    publish("published_same", code, {group_of(kind): f"{name} = published_same:Member"})
    assert registry.get(name) is registry.built_in[name]
    assert registry.names().count(name) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_lists_the_known_and_suggests_the_closest(kind: str) -> None:
    registry = REGISTRIES[kind]
    registry.register(member(kind))
    for wrong in ("toyy", "TOY"):
        with pytest.raises(ArgumentError) as caught:
            registry.get(wrong, where="which")
        assert (caught.value.where, caught.value.found) == ("which", repr(wrong))
        assert "toy" in caught.value.allowed.replace(",", " ").split()
        assert caught.value.hint == "did you mean 'toy'?"
    with pytest.raises(ArgumentError) as caught:
        registry.get("something_quite_different_0")
    assert caught.value.hint == ""
    for no_name in (None, 3, ["gru"]):
        with pytest.raises(ArgumentError, match="found "):
            registry.get(no_name)  # type: ignore[arg-type]


# ---- files -----------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(code: str, name: str = "own.py") -> str:
        (tmp_path / name).write_text(code, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_loaded(kind: str, write: Any) -> None:
    registry, path = REGISTRIES[kind], write(MEMBERS[kind])
    found = FILES[kind](path)
    assert registry.get("toy") is found
    assert FILES[kind](f"{path}:Member") is registry.get("toy")
    assert registry.name_of(path) == "toy"
    assert registry.name_of("toy") == "toy"
    assert registry.name_of("no file, no member") == "no file, no member"


@pytest.mark.parametrize("kind", FILES)
def test_what_a_file_imports_and_what_it_calls_twice_are_no_members(kind: str, write: Any) -> None:
    imports = "from critinit.cells import GRU\n" if kind == "cell" else "from critinit.schemes.chrono import SCHEME\n"
    assert FILES[kind](write(imports + MEMBERS[kind] + "\nAlias = Member\n")) is REGISTRIES[kind].get("toy")


def test_a_cell_may_have_a_base_without_a_name(write: Any) -> None:
    base = CELL.replace("Member(Cell)", "Base(Cell)").replace('    name = "toy"\n', "")
    assert load_cell(write(f'{base}\n\nclass Member(Base):\n    name = "toy"\n')).name == "toy"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("", PluginError, "{path}: found no {kind}; allowed: a Python file with one "),
        ("x = 3\n", PluginError, "{path}: found no {kind}; allowed: a Python file with one "),
        ("a = 1\nb = (\n", PluginError, "{path}: line 2: found '(' was never closed; allowed: Python"),
        ("a = '\0'\n", PluginError, "{path}: "),
        ("a = 1\n\n1 / 0\n", PluginError, "{path}: line 3: found ZeroDivisionError: division by zero; allowed: a file"),
        ("import no_such_module_anywhere\n", PluginError, "{path}: line 1: found ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", PluginError, "{path}: line 1: found SystemExit: 3; allowed: a file that runs by its"),
        ("def f():\n    raise ValueError('two\\nlines')\nf()\n", PluginError, "{path}: line 2: found ValueError: two;"),
        ("# " + "x" * 2**20, FileError, "{path}: found more than 1,048,576 bytes; allowed: a Python file with one "),
    ],
)
def test_a_bad_file_is_one_clear_line(
    kind: str, code: str, error: type[CritinitError], message: str, write: Any
) -> None:
    path = write(code)
    with pytest.raises(error) as caught:
        FILES[kind](path)
    assert str(caught.value).startswith(message.format(path=path, kind=kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read_is_named(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder.py"
    folder.mkdir()
    for path, found in ((str(tmp_path / "none.py"), "no such file or folder"), (str(folder), "a directory")):
        with pytest.raises(FileError) as caught:
            FILES[kind](path)
        assert str(caught.value).startswith(f"{path}: found {found}; allowed: a Python file with one ")


@pytest.mark.parametrize("kind", FILES)
def test_of_several_members_one_is_chosen(kind: str, write: Any) -> None:
    second = MEMBERS[kind].replace("Member", "Second").replace('"toy"', '"toy_2"')
    path = write(MEMBERS[kind] + second)
    with pytest.raises(PluginError) as caught:
        FILES[kind](path)
    assert str(caught.value) == f"{path}: found several {kind}s (Member, Second); allowed: one, or {path}:Member"
    assert FILES[kind](f"{path}:Second").name == "toy_2"
    with pytest.raises(PluginError) as caught:
        FILES[kind](f"{path}:Third")
    assert str(caught.value) == f"{path}: found no {kind} Third; allowed: Member, Second"


@pytest.mark.parametrize("kind", FILES)
def test_the_name_of_a_built_in_is_refused(kind: str, write: Any) -> None:
    name = next(iter(REGISTRIES[kind].built_in))
    path = write(MEMBERS[kind].replace('"toy"', f'"{name}"'))
    with pytest.raises(PluginError) as caught:
        FILES[kind](path)
    assert str(caught.value).startswith(f"{path}: {kind} name: found '{name}'; allowed: a name that none of critinit's")


def test_a_cell_that_is_not_valid_names_its_file(write: Any) -> None:
    path = write(CELL.replace('gates = ("forget", "content")', "gates = ()"))
    with pytest.raises(CellError) as caught:
        load_cell(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (SCHEME.replace('"toy"', '""'), "Scheme.name: found ''; allowed: a text of 1 to 100 characters"),
        (SCHEME.replace('"toy"', "3"), "Scheme.name: found 3; allowed: a text of 1 to 100 characters"),
        (SCHEME.replace('"toy"', '"a b"'), "Scheme.name: found 'a b'; allowed: letters, digits and _"),
        (SCHEME.replace('"toy"', '"' + "a" * 101 + '"'), "Scheme.name: found 'aaa"),
        (SCHEME.replace('kernels", gates)', 'kernels", 3)'), "Scheme.gates: found 3; allowed: a function of a La"),
        (
            SCHEME.replace("gates)\n", 'gates, "speed")\n'),
            "Scheme.target: found 'speed'; allowed: None, 'time_scale",
        ),
    ],
)
def test_a_scheme_that_is_not_valid_names_its_file(code: str, message: str, write: Any) -> None:
    path = write(code)
    with pytest.raises(PluginError) as caught:
        load_scheme(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_named_as_a_member_says_how_it_is_loaded(kind: str, write: Any) -> None:
    """A name never runs a file."""
    path = write("raise AssertionError('it ran')")
    with pytest.raises(ArgumentError) as caught:
        REGISTRIES[kind].get(path)
    assert caught.value.hint == f"critinit.load_{kind}({path!r}) runs the file and makes its {kind} known"


def test_what_a_file_prints_goes_to_standard_error(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    load_scheme(write("print('hello')\n" + SCHEME))
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("name", "parts", "is_path"),
    [
        ("gru", ("gru", None), False),
        ("own.py", ("own.py", None), True),
        ("own.py:Name", ("own.py", "Name"), True),
        ("./own", ("./own", None), True),
        ("C:/x/own.py", ("C:/x/own.py", None), True),
        ("C:/x/own.py:Name", ("C:/x/own.py", "Name"), True),
        ("gru:Name", ("gru:Name", None), False),
    ],
)
def test_files_and_names_are_told_apart(name: str, parts: tuple[str, str | None], is_path: bool) -> None:
    assert file_and_name(name) == parts
    assert is_file(name) is is_path


# ---- what is no valid distribution, adapter or layout ----------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("kernel", ('    distribution: Literal["toy"] = "toy"\n', ""), "Member.distribution: found None; allowed: dis"),
        ("kernel", ('= "toy"', '= "no name"'), "Member.distribution: found 'no name'; allowed: distribution: Lit"),
        ("kernel", ("def draw", "def drawn"), "Member: found no draw; allowed: every abstract method, and the fields"),
        ("kernel", ("variance: numbers.NonNegative", "width: numbers.NonNegative"), "Member: found no variance; allow"),
        ("bias", ("mean: numbers.Finite", "middle: numbers.Finite"), "Member: found no mean; allowed: every abstract"),
        ("bias", ("def quantile", "def quantiles"), "Member: found no quantile; allowed: every abstract method, and"),
    ],
)
def test_what_a_distribution_lacks_is_named(kind: str, change: tuple[str, str], message: str) -> None:
    code = MEMBERS[kind].replace("@register_distribution\n", "")
    assert change[0] in code
    space: dict[str, Any] = {"__name__": "published_in_a_test"}
    exec(compile(code.replace(*change), "member.py", "exec"), space)
    with pytest.raises(PluginError) as caught:
        REGISTRIES[kind].register(space["Member"])
    assert str(caught.value).startswith(message)


def test_a_kernel_says_how_it_acts() -> None:
    code = MEMBERS["kernel"].replace("EntryKernel", "Kernel").replace("@register_distribution\n", "")
    code = code.replace("    def draw", "    def describe(self):\n        return 'toy'\n\n    def draw")
    space: dict[str, Any] = {"__name__": "published_in_a_test"}
    exec(compile(code, "member.py", "exec"), space)
    with pytest.raises(PluginError, match=r"^Member\.family: found nothing; allowed: KernelFamily\.INDEPENDENT, "):
        REGISTRIES["kernel"].register(space["Member"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", [3, "toy", None, dict])
def test_what_is_no_member_is_refused(kind: str, item: Any) -> None:
    with pytest.raises(CritinitError) as caught:
        REGISTRIES[kind].register(item)
    assert caught.value.found
    assert "\n" not in str(caught.value)


def test_a_registry_of_one_kind_knows_nothing_of_another() -> None:
    """Each has an entry-point group of its own."""
    groups = [registry.group for registry in REGISTRIES.values()]
    assert groups == [
        f"critinit.{plural}" for plural in ("cells", "schemes", "kernels", "biases", "adapters", "layouts")
    ]
    assert all(isinstance(registry, Registry) for registry in REGISTRIES.values())


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        (
            "draw",
            "np.zeros((1, 7))",
            r"Own\.draw: found an array of shape \(1, 7\); allowed: an array of shape \(9, 7\)",
        ),
        ("draw", "0.0", r"Own\.draw: found float; allowed: an array of shape \(9, 7\)"),
        ("draw", "np.full((9, 7), np.nan)", r"Own\.draw: found NaN or infinity; allowed: finite numbers"),
        ("draw", "1 / 0", r"Own\.draw: found ZeroDivisionError: division by zero; the distribution own is not"),
        ("check", "None", r"Own\.check: found None; allowed: a tuple of critinit\.distributions\.goodness\.Outcome"),
        ("check", "()", r"Own\.check: found \(\); allowed: a tuple of"),
        ("check", "(0.5,)", r"Own\.check: found \(0\.5,\); allowed: a tuple of"),
        ("check", "1 / 0", r"Own\.check: found ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_distribution_of_ones_own_does_wrong_is_one_clear_line(method: str, answer: str, message: str) -> None:
    class Own(EntryKernel):
        distribution: Literal["own"] = "own"
        variance: float

        def draw(self, drawing: Any) -> Any:
            return eval(answer) if method == "draw" else np.ones((drawing.rows, drawing.columns))

        def check(self, observed: Any) -> Any:
            return eval(answer)

        def describe(self) -> str:
            return "own"

    own = Own(variance=1.0)
    with pytest.raises(PluginError, match=message):
        own.tests(Observed(own.sample(np.random.default_rng(0), 9, 7), 0.0, 1.0))
