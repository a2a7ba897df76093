"""The known distributions, by name; the fields of a spec that hold one are validated through here."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from critinit.distributions._base import Bias, Kernel, KernelFamily
from critinit.distributions.constant import ConstantBias
from critinit.distributions.coupled import CoupledBias
from critinit.distributions.identity import IdentityKernel
from critinit.distributions.normal import NormalBias, NormalKernel
from critinit.distributions.orthogonal import OrthogonalKernel
from critinit.distributions.rotation import RotationKernel
from critinit.distributions.spectral_radius import SpectralRadiusKernel
from critinit.distributions.spread import LogUniformTimeBias, UniformGateBias, UniformTimeBias
from critinit.distributions.truncated_normal import TruncatedNormalKernel
from critinit.distributions.uniform import UniformKernel
from critinit.distributions.zero import ZeroKernel
from critinit.errors import PluginError
from critinit.plugins import Registry

__all__ = ["BIASES", "KERNELS", "AnyBias", "AnyKernel", "kernel", "register_distribution"]

P = TypeVar("P", Kernel, Bias)


def _registry(
    kind: str, group: str, base: Any, fields: tuple[str, ...], built_in: tuple[type[P], ...]
) -> Registry[type[P]]:
    def checked(item: object, source: str) -> tuple[str, type[P]]:
        if not (isinstance(item, type) and issubclass(item, base)):
            found = item.__name__ if isinstance(item, type) else type(item).__name__
            allowed = f"a subclass of critinit.distributions.{base.__name__}"
            raise PluginError(found=found, allowed=allowed, source=source)
        member: Any = item
        place = member.__name__
        name = member.model_fields["distribution"].default if "distribution" in member.model_fields else None
        if not isinstance(name, str) or not name.isidentifier():
            allowed = 'distribution: Literal["name"] = "name"'
            raise PluginError(f"{place}.distribution", found=repr(name), allowed=allowed, source=source)
        missing = [*sorted(member.__abstractmethods__), *(f for f in fields if f not in member.model_fields)]
        if missing:
            allowed = "every abstract method, and the fields distribution, " + ", ".join(fields)
            raise PluginError(place, found=f"no {missing[0]}", allowed=allowed, source=source)
        if base is Kernel and not isinstance(getattr(member, "family", None), KernelFamily):
            allowed = ", ".join(f"KernelFamily.{family.name}" for family in KernelFamily)
            raise PluginError(f"{place}.family", found="nothing", allowed=allowed, source=source)
        return name, member

    own = dict(checked(member, "") for member in built_in)
    return Registry(f"{kind} distribution", group=group, built_in=own, checked=checked)


KERNELS: Registry[type[Kernel]] = _registry(
    "kernel",
    "critinit.kernels",
    Kernel,
    ("variance",),
    (
        NormalKernel,
        UniformKernel,
        TruncatedNormalKernel,
        OrthogonalKernel,
        RotationKernel,
        IdentityKernel,
        ZeroKernel,
        SpectralRadiusKernel,
    ),
)
"""The distributions of kernels."""

BIASES: Registry[type[Bias]] = _registry(
    "bias",
    "critinit.biases",
    Bias,
    ("mean", "variance"),
    (ConstantBias, NormalBias, LogUniformTimeBias, UniformTimeBias, UniformGateBias, CoupledBias),
)
"""The distributions of biases."""


def register_distribution(distribution: type[P]) -> type[P]:
    """Make a distribution of your own known by its name, from now on in this process.

    Args:
        distribution: A subclass of ``Kernel`` or ``Bias`` with ``distribution: Literal["name"] = "name"``; it can be
            used as a decorator.

    Returns:
        The class.

    Raises:
        PluginError: It lacks something, or has the name of one of critinit's own.
    """
    given: Any = distribution  # what a user passes can be anything
    if not isinstance(given, type) or not issubclass(given, (Kernel, Bias)):
        allowed = "a subclass of critinit.distributions.Kernel or Bias"
        raise PluginError(found=getattr(given, "__name__", type(given).__name__), allowed=allowed)
    registry: Registry[Any] = KERNELS if issubclass(given, Kernel) else BIASES
    registry.register(given)
    return distribution


def kernel(distribution: str, variance: float | None = None, **parameters: Any) -> Kernel:
    """Return a kernel's distribution by its name.

    Args:
        distribution: The name.
        variance: Its variance; None for a distribution that computes it from its other parameters.
        **parameters: The other parameters, such as ``fan="average"``.

    Raises:
        ArgumentError: There is no such distribution.
        pydantic.ValidationError: It cannot have these parameters.

    Example:
        >>> kernel("orthogonal", 1.0).describe()
        'orthogonal, gain 1'
        >>> kernel("spectral_radius", spectral_radius=0.9, density=0.1).variance
        0.81
    """
    if variance is not None:
        parameters = {"variance": variance, **parameters}
    return KERNELS.get(distribution)(**parameters)


class _ByName:
    """Validates a field by the distribution that it names; its schema refers to the union of all."""

    def __init__(self, base: type[Any], registry: Registry[Any]) -> None:
        self.base, self.registry = base, registry

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"union": self.base.__name__}  # ``critinit.spec.schema`` makes a reference of it

    def validated(self, value: Any) -> Any:
        is_made = isinstance(value, self.base)
        if not is_made and not isinstance(value, dict):
            raise PydanticCustomError("dict_type", "an object", {})
        name = value.distribution if is_made else value.get("distribution")
        found = self.registry.find(name) if isinstance(name, str) else None
        if found is None:
            raise PydanticCustomError(
                "distribution" if is_made or "distribution" in value else "missing",
                "{names}",
                {
                    "field": "distribution",
                    "names": ", ".join(self.registry.names()),
                    "hint": self.registry.hint(name),
                },
            )
        return value if is_made else found.model_validate(value)


AnyKernel = Annotated[Kernel, _ByName(Kernel, KERNELS)]
AnyBias = Annotated[Bias, _ByName(Bias, BIASES)]
