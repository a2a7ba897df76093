"""The known distributions, by name; the fields of a spec that hold one are validated through here."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from critinit.distributions._base import Bias, Kernel
from critinit.distributions.constant import ConstantBias
from critinit.distributions.coupled import CoupledBias
from critinit.distributions.identity import IdentityKernel
from critinit.distributions.normal import NormalBias, NormalKernel
from critinit.distributions.orthogonal import OrthogonalKernel
from critinit.distributions.spectral_radius import SpectralRadiusKernel
from critinit.distributions.spread import LogUniformTimeBias, UniformGateBias, UniformTimeBias
from critinit.distributions.truncated_normal import TruncatedNormalKernel
from critinit.distributions.uniform import UniformKernel
from critinit.distributions.zero import ZeroKernel
from critinit.errors import PluginError
from critinit.plugins import Registry

__all__ = ["BIASES", "KERNELS", "AnyBias", "AnyKernel", "kernel", "register_distribution"]

P = TypeVar("P", Kernel, Bias)


def _registry(kind: str, group: str, base: type[P], built_in: tuple[type[P], ...]) -> Registry[type[P]]:
    def checked(item: object, source: str) -> tuple[str, type[P]]:
        if not (isinstance(item, type) and issubclass(item, base)):
            found = item.__name__ if isinstance(item, type) else type(item).__name__
            raise PluginError(found=found, allowed=f"a subclass of critinit.distributions.{base.__name__}", source=source)
        name = item.model_fields["distribution"].default if "distribution" in item.model_fields else None
        if not isinstance(name, str) or not name.isidentifier():
            allowed = 'distribution: Literal["name"] = "name"'
            raise PluginError(f"{item.__name__}.distribution", found=repr(name), allowed=allowed, source=source)
        missing = sorted(getattr(item, "__abstractmethods__", ()))
        if missing:
            raise PluginError(item.__name__, found=f"no {missing[0]}", allowed="every abstract method", source=source)
        return name, item

    own = dict(checked(member, "") for member in built_in)
    return Registry(f"{kind} distribution", group=group, built_in=own, checked=checked)


KERNELS: Registry[type[Kernel]] = _registry(
    "kernel",
    "critinit.kernels",
    Kernel,
    (
        NormalKernel,
        UniformKernel,
        TruncatedNormalKernel,
        OrthogonalKernel,
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
    (ConstantBias, NormalBias, LogUniformTimeBias, UniformTimeBias, UniformGateBias, CoupledBias),
)  # fmt: skip
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
    registry: Any = KERNELS if isinstance(distribution, type) and issubclass(distribution, Kernel) else BIASES
    registry.register(distribution)
    return distribution


def kernel(distribution: str, variance: float, **parameters: Any) -> Kernel:
    """Return a kernel's distribution by its name.

    Example:
        >>> kernel("orthogonal", 1.0).describe()
        'orthogonal, gain 1'
    """
    return KERNELS.get(distribution)(variance=variance, **parameters)


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
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("dict_type", "an object", {})
        found = self.registry.find(value["distribution"]) if isinstance(value.get("distribution"), str) else None
        if found is None:
            name = value.get("distribution", "")
            raise PydanticCustomError(
                "distribution" if "distribution" in value else "missing",
                "{names}",
                {
                    "field": "distribution",
                    "names": ", ".join(self.registry.names()),
                    "hint": self.registry.hint(name),
                },
            )
        return found.model_validate(value)


AnyKernel = Annotated[Kernel, _ByName(Kernel, KERNELS)]
AnyBias = Annotated[Bias, _ByName(Bias, BIASES)]
