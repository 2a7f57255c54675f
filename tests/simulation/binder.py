"""Somebody who binds strategies of a simulated world to accounts and parts them again."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from attrs import define, field

from pipaid.model.account import OWNER
from tests.simulation.hand import Hand, Order

ACCOUNTS_MAX = 2
SHARES = ("1", "0.5", "0.3")
# How often each is wished for.
WISHES = {"strategy.bind": 6, "strategy.unbind": 4, "strategy.trigger": 3, "strategy.bindings": 1}


@define(eq=False)
class Binder(Hand):
    """Keep what was promised by each answer: who follows where, and who does not any more."""

    accounts: list[str] = field(factory=list[str])
    # By leader and account, the strategy that was promised to follow there.
    bound: dict[tuple[str, str], str] = field(factory=dict[tuple[str, str], str])
    parted: set[str] = field(factory=set[str])
    # What was asked of a daemon that died before it answered.
    cut: list[str] = field(factory=list[str])

    busy_s: ClassVar[tuple[float, float]] = (2, 10)

    def note_cut(self) -> None:
        """Take note that a daemon has died."""
        if self.unanswered is not None:
            self.cut.append(self.unanswered.op)

    def forget(self, leader: str) -> None:
        """Take note that somebody may delete a leader: nothing is promised of it any more."""
        for leads, account in list(self.bound):
            if leads == leader:
                del self.bound[leads, account]

    def _wish(self) -> Order | None:
        key = f"key-{self.chance.randrange(2**40)}"
        if len(self.accounts) < ACCOUNTS_MAX:
            return Order("account.create", {"name": f"account {len(self.accounts)}"}, key)
        followers = {*self.bound.values(), *self.parted} - {leader for leader, _ in self.bound}
        leaders = sorted({*self.world.person.last} - self.world.operator.ended - followers)
        if not leaders:
            return None
        (op,) = self.chance.choices(list(WISHES), list(WISHES.values()))
        args: dict[str, Any] = {"id": self.chance.choice(leaders)}
        if op == "strategy.bind":
            own = (args["id"], OWNER) in self.bound
            args["account_id"] = self.chance.choice(self.accounts if own else [OWNER, *self.accounts])
        elif op == "strategy.unbind":
            if not self.bound:
                return None
            args["id"], args["account_id"] = self.chance.choice(sorted(self.bound))
        if op == "strategy.bind":
            args["capital_share"] = self.chance.choice(SHARES)
            args["enabled"] = self.chance.random() < 0.8
        return Order(op, args, key)

    def _asking(self, order: Order) -> None:
        if order.op == "strategy.bind":
            self.world.person.paused -= self.world.checks.followers(order.args["id"])
        elif order.op == "strategy.unbind":
            self.bound.pop((order.args["id"], order.args["account_id"]), None)

    def _obeyed(self, order: Order, result: bytes) -> None:
        answer = msgspec.json.decode(result)
        match order.op:
            case "account.create":
                self.accounts.append(answer["id"])
            case "strategy.bind":
                self.bound[order.args["id"], order.args["account_id"]] = answer["strategy_id"]
            case "strategy.unbind" if answer["strategy_id"] != order.args["id"]:
                self.parted.add(answer["strategy_id"])
                self.world.operator.ended.add(answer["strategy_id"])
            case _:
                pass
