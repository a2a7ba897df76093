"""One language: no framework's name in the core, no word of the old vocabulary anywhere, lines of 120 columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.reading import ROOT, Module, modules

FRAMEWORKS = re.compile(
    r"(?<!\.)\b(torch|pytorch|jax|flax|linen|nnx|keras|tensorflow|equinox|haiku)\b"
    r"|\b(lightning|transformers|huggingface|optax)\b",
    re.IGNORECASE,
)
OF_A_FRAMEWORK = {"critinit.schemes.torch", "critinit.schemes.keras"}
"""The two modules of the core that are about a framework: its default initialization as a scheme."""
NAMES = {
    "critinit.schemes": {
        "from critinit.schemes import chrono, critical, isometry, keras, memory, orthogonal, torch, uniform_gate",
        "for module in (critical, memory, isometry, chrono, uniform_gate, orthogonal, torch, keras)",
    },
    "critinit.tensors.application": {
        'applied = critinit.apply(critinit.generate("gru", T=784), torch.nn.GRU(10, 64), seed=0)',
    },
}
"""Lines that name one all the same: those that list the two modules, and the example of ``apply``."""

OLD_WORDS = {
    r"(?<!circular )\blaws?\b": "distribution, or hyperparameters",
    r"\bGateLaw\b|\bLayerLaw\b|\bCellLaw\b": "GateParameters, LayerParameters, MemoryDistribution",
    r"\blayer_law\b|\bgrid_law\b": "layer_parameters, grid_parameters",
    r"\bdrives?\b": "pre-activation variance",
    r"\bCircumstances\b": "LayerContext",
    r"\btold\b(?! apart)": "given, or stated",
    r"\bwritten signal\b|\bwritten_signal\b": "early-input response",
    r"\bsurvival\b": "retention",
    r"\bkeep times?\b|\bkeep_times?\b": "time constants",
    r"(?<!critinit's )\bown cells?\b|\bown_cells?\b": "custom cell",
    r"\bnull_(variance|constant|power)\b": "padding",
    r"\bcheckpoints/laws\b": "goodness-of-fit tests",
}
"""What was said before, as a pattern, and the word to say."""

SOURCES = [
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted((ROOT / "cli").rglob("*.py")),
    *sorted((ROOT / "adapters").rglob("*.py")),
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "schemas").glob("*.json"))]


@pytest.mark.parametrize("module", [m for m in modules("critinit") if m.name not in OF_A_FRAMEWORK], ids=str)
def test_the_core_names_no_framework(module: Module) -> None:
    """Neither in code nor in a text: what is known of one stands in its folder of ``critinit_adapters``."""
    allowed = NAMES.get(module.name, set())
    wrong = [
        f"{module.path}:{number}: {line.strip()}"
        for number, line in enumerate(module.text.splitlines(), 1)
        if FRAMEWORKS.search(line) and line.strip() not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_speaks_the_old_vocabulary(path: Path) -> None:
    wrong = [
        f"{path}:{number}: {line.strip()[:100]} (say: {say})"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for pattern, say in OLD_WORDS.items()
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["src", "cli", "adapters", "tests", "benchmarks"])
def test_lines_fit_120_columns(folder: str) -> None:
    """Without the comments at their ends that only tools read."""
    wrong = [
        f"{path}:{number}"
        for path in sorted((ROOT / folder).rglob("*.py*"))
        if path.suffix in (".py", ".pyi")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(re.sub(r"  # (type: ignore|noqa|fmt:).*", "", line)) > 120
    ]
    assert wrong == []
