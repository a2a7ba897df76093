"""Imports go one way: between rooms, from the command line and the adapters to the core, and never back."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.cli.conftest import environment
from tests.structure.reading import PACKAGES, Module, modules

CORE = [
    {"errors", "_version", "_lazy", "frozen", "foreign", "dual", "showing", "files", "roots"},
    {"plugins"},
    {"cells"},
    {"distributions"},
    {"spec"},
    {"theory"},
    {"schemes", "tensors", "simulation"},
    {"inputs", "weights"},
    {"diagnosis", "refining"},
    {"plotting"},
]
"""The rooms of the core, floor by floor: a room imports from its own and from lower floors' rooms."""

FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "keras", "tensorflow", "equinox", "haiku", "lightning", "transformers"}
ALLOWED_THIRD_PARTY = {"numpy", "scipy", "pydantic", "pydantic_core"}
"""What the core needs."""
OPTIONAL_THIRD_PARTY = {"rich", "matplotlib", "pyarrow", "safetensors", "h5py"}
"""What it imports only where it is used: in functions, with a clear error where it is missing."""


def room(name: str) -> str:
    """The room of a module of the core; "" for the package itself."""
    return [*name.split("."), ""][1]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(CORE) if room(name) in rooms)


@pytest.mark.parametrize("module", [m for m in modules("critinit") if m.name != "critinit"], ids=str)
def test_rooms_import_downwards(module: Module) -> None:
    wrong = []
    for line, name in module.imports():
        if name.split(".")[0] != "critinit":
            continue
        if name == "critinit":
            wrong.append(f"{module.path}:{line} imports the package itself")
        elif floor(name) > floor(module.name):
            wrong.append(f"{module.path}:{line} imports {name} from above")
        elif floor(name) == floor(module.name) and room(name) != room(module.name) and room(module.name) in ROOMS:
            wrong.append(f"{module.path}:{line} imports {name} of the room beside")
    assert wrong == []


ROOMS = set().union(*CORE[-4:])
"""The rooms that stand side by side and know nothing of each other."""


def test_every_module_of_the_core_is_in_a_room() -> None:
    rooms = {room(module.name) for module in modules("critinit") if module.name != "critinit"}
    assert rooms == set().union(*CORE)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_the_core_alone(package: str) -> None:
    """Adapters and the command line import the core and not each other; the core imports neither."""
    others = set(PACKAGES) - {package} - ({"critinit"} if package != "critinit" else set())
    wrong = [
        f"{module.path}:{line} imports {name}"
        for module in modules(package)
        for line, name in module.imports()
        if name.split(".")[0] in others
    ]
    assert wrong == []


@pytest.mark.parametrize("module", modules("critinit"), ids=str)
def test_the_core_needs_numpy_scipy_and_pydantic(module: Module) -> None:
    top = {id(node) for node in module.tree.body}
    for node in ast.walk(module.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        for name in names:
            found = name.split(".")[0]
            if found in sys.stdlib_module_names or found == "critinit":
                continue
            allowed = ALLOWED_THIRD_PARTY | (set() if id(node) in top else OPTIONAL_THIRD_PARTY)
            assert found in allowed, f"{module.path}:{getattr(node, 'lineno', 0)} imports {found}"


@pytest.mark.parametrize("framework", ["torch", "keras", "linen", "nnx", "equinox", "haiku"])
def test_layouts_import_no_framework(framework: str) -> None:
    """At the top: a reader of the framework's own files imports it where it runs."""
    (module,) = [m for m in modules("critinit_adapters") if m.name == f"critinit_adapters.{framework}.layout"]
    code = f"import sys, {module.name}; print(sorted({FRAMEWORKS!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_core_and_the_command_line_imports_no_framework() -> None:
    code = (
        "import sys, critinit, critinit_cli.main; critinit.generate; critinit.apply; critinit.check;"
        "critinit.generate('gru', 20);"
        f"print(sorted({FRAMEWORKS!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
