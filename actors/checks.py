"""The check of what may be stored or deployed: a template's own check is a stranger's code, and is run like one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TypeVar

from attrs import define

from actors.actor import Guard, Phase, told_cause
from pipaid.engine.definition import asks_models, check_definition, definition_number, models_of
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter, InvalidState, PipaidError
from pipaid.model.instrument import Instrument
from pipaid.model.strategy import StrategyDefinition

Result = TypeVar("Result")


def _known(provider: str, model: str) -> str:
    """Stand in where it does not matter which models there are."""
    return ""


@define(eq=False)
class Checks:
    """Check definitions under the guard's eyes; `stalled` are those whose check held the whole daemon up before.

    `lacks` says what an operator has to add before a model of a provider can be asked, or nothing.
    """

    template: Callable[[str], type[Template]]
    instruments: Callable[[], Mapping[str, Instrument]]
    guard: Guard
    stalled: frozenset[int] = frozenset()
    lacks: Callable[[str, str], str] = _known

    def checked(
        self,
        definition: StrategyDefinition,
        instruments: Mapping[str, Instrument] | None = None,
        *,
        capital: Decimal | None = None,
        leverage: int | None = None,
    ) -> type[Template]:
        """Return the template of what may be stored; raise InvalidParameter with every bad field of what may not."""
        template = self.template(definition.template_id)
        check = partial(check_definition, capital=capital, leverage=leverage)
        number = definition_number(definition, template)
        if number in self.stalled:
            raise InvalidParameter(
                f"the check of just this definition by {template.id} held the whole daemon up before; "
                "change its params, or install a new version of the template"
            )
        self._run(number, template, check, definition, template, instruments or self.instruments())
        return template

    def lacking(self, definition: StrategyDefinition, template: type[Template]) -> tuple[str, ...]:
        """Return what an operator has to add before a strategy with a valid definition may run."""
        if not asks_models(template):
            return ()
        models = self._run(definition_number(definition, template), template, models_of, definition, template)
        return tuple(lack for provider, model in models if (lack := self.lacks(provider, model)))

    def able(self, definition: StrategyDefinition, template: type[Template]) -> None:
        """Raise InvalidState for a strategy that would ask models which nobody has configured."""
        lacking = self.lacking(definition, template)
        if lacking:
            raise InvalidState("; ".join(lacking))

    def _run(self, number: int, template: type[Template], callback: Callable[..., Result], *args: object) -> Result:
        try:
            return self.guard.run_as(Phase.CHECKING, number, callback, *args)
        except PipaidError:
            raise
        except BaseException as trouble:  # noqa: BLE001 - a stranger's code, which may raise anything
            raise InvalidParameter(f"{template.id} broke while it checked them: {told_cause(trouble)}") from None
