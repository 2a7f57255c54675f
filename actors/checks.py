"""The check of what may be stored or deployed: a template's own check is a stranger's code, and is run like one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from attrs import define

from actors.actor import Guard, Phase, told_cause
from pipaid.engine.definition import check_definition, definition_number
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter, PipaidError
from pipaid.model.instrument import Instrument
from pipaid.model.strategy import StrategyDefinition


@define(eq=False)
class Checks:
    """Check definitions under the guard's eyes; `stalled` are those whose check held the whole daemon up before."""

    template: Callable[[str], type[Template]]
    instruments: Callable[[], Mapping[str, Instrument]]
    guard: Guard
    stalled: frozenset[int] = frozenset()

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
        try:
            self.guard.run_as(Phase.CHECKING, number, check, definition, template, instruments or self.instruments())
        except PipaidError:
            raise
        except BaseException as trouble:  # noqa: BLE001 - a stranger's code, which may raise anything
            raise InvalidParameter(f"{template.id} broke while it checked them: {told_cause(trouble)}") from None
        return template
