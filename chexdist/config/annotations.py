"""What a setting's annotation says besides its type: its unit, or whose names it may have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Unit:
    """What a number counts, in the plural; for the documentation alone."""

    name: str


class OneOf:
    """A string that is one of `names`, such as those of a registry, read once when the settings are defined.

    `summary` gives a name's documentation, one line; it is called when the documentation is wanted. `check`
    says of another string whether it is allowed too: it returns False, or raises ValueError with the reason.
    """

    def __init__(
        self,
        names: Iterable[str],
        summary: Callable[[str], str] | None = None,
        check: Callable[[str], bool] | None = None,
    ) -> None:
        self.names, self.summary, self.check = tuple(names), summary, check

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        names = core_schema.literal_schema([*self.names])
        check = self.check
        if check is None:
            return names

        def validate(value: object, names: core_schema.ValidatorFunctionWrapHandler) -> object:
            return value if isinstance(value, str) and check(value) else names(value)

        return core_schema.no_info_wrap_validator_function(validate, names)
