"""The operation table: each operation declared once; control socket, command line, HTTP and OpenAPI derive from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pipaid.dialect import shapes
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model import account, binding, job, market, reply, report, request, signal, webhook
from pipaid.model.parsing import parse_request
from pipaid.model.reply import Reply
from pipaid.model.request import Request

READ: Final = "strategies:read"
WRITE: Final = "strategies:write"
ADMIN: Final = "admin"
BACKTEST_READ: Final = "backtest:read"
BACKTEST_WRITE: Final = "backtest:write"
HOOKS_READ: Final = "webhooks:read"
HOOKS_WRITE: Final = "webhooks:write"
PUBLIC: Final = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    `scope` is what a key needs, empty for none; `weight` is charged to its rate budget. Where `weight_max` is more than
    that, each request has a weight of its own, and `weight` is that of the lightest. `mutating` ones are refused on
    the observing socket and may carry an idempotency key. `admin_only` ones have no signed form: the socket's file
    permissions are the authentication. `method` and `path` are empty where there is no HTTP form, `http_status` is that
    of success. `id_field` names the argument that addresses an object. The reply of a `secret` one holds, in its
    `shown_once`, what may not be kept; a `streaming` one is answered by many frames; an `urgent` one does not wait
    for the mutations that its sender asked for before. A `daemon_wide` one acts on all accounts, so besides the scope
    it takes the owner's account, or else the scope `admin`. One of the `dialect` is taken from bearers too, and its
    refusals have the form that is spoken there.
    """

    name: str
    summary: str
    request: type[Request]
    reply: type[Reply]
    scope: str
    weight: int
    weight_max: int = 0
    mutating: bool = False
    admin_only: bool = False
    method: str = ""
    path: str = ""
    http_status: int = 200
    id_field: str | None = None
    secret: bool = False
    shown_once: str = "secret"
    streaming: bool = False
    urgent: bool = False
    daemon_wide: bool = False
    dialect: bool = False


def _read(name: str, summary: str, asked: type[Request], answered: type[Reply], **more: Any) -> Operation:
    return _row(name, summary, asked, answered, **({"scope": READ, "weight": 2, "method": "GET"} | more))


def _write(name: str, summary: str, asked: type[Request], answered: type[Reply], **more: Any) -> Operation:
    common = {"scope": WRITE, "weight": 5, "method": "POST", "mutating": True}
    return _row(name, summary, asked, answered, **(common | more))


def _public(name: str, summary: str, asked: type[Request], answered: type[Reply], **more: Any) -> Operation:
    path = f"/v1/market/{name.rpartition('.')[2].replace('_', '-')}"
    return _read(name, summary, asked, answered, scope=PUBLIC, path=path, **more)


def _admin(name: str, summary: str, asked: type[Request], answered: type[Reply], **more: Any) -> Operation:
    return _row(name, summary, asked, answered, **({"scope": ADMIN, "weight": 2, "admin_only": True} | more))


def _row(name: str, summary: str, asked: type[Request], answered: type[Reply], **more: Any) -> Operation:
    id_field = "id" if "id" in asked.__struct_fields__ else None
    return Operation(name=name, summary=summary, request=asked, reply=answered, id_field=id_field, **more)


_STRATEGIES: Final = "/v1/strategies"
_STRATEGY: Final = "/v1/strategies/{id}"
_JOBS: Final = "/v1/backtest/jobs"
_HOOKS: Final = "/v1/webhooks"
_HOOK: Final = "/v1/webhooks/{id}"
_SPOKEN: Final = "/api/v1/strategies"
_SPOKEN_ONE: Final = "/api/v1/strategies/{id}"

_ROWS: Final = (
    _write(
        "strategy.create", "Create a strategy in draft", request.StrategyCreate, reply.StrategyObject,
        path=_STRATEGIES, http_status=201,
    ),
    _read(
        "strategy.list", "List strategies, newest first", request.StrategyList, reply.StrategyPage, path=_STRATEGIES
    ),
    _read("strategy.get", "Show a strategy", request.Addressed, reply.StrategyObject, weight=1, path=_STRATEGY),
    _write(
        "strategy.update", "Change a draft or paused strategy", request.StrategyUpdate, reply.StrategyObject,
        method="PATCH", path=_STRATEGY,
    ),
    _write(
        "strategy.delete", "Delete a strategy that is not deployed", request.Addressed, reply.Deleted,
        method="DELETE", path=_STRATEGY,
    ),
    _write(
        "strategy.deploy", "Let a draft or paused strategy trade", request.StrategyDeploy, reply.StrategyObject,
        weight=10, path=f"{_STRATEGY}/deploy",
    ),
    _write(
        "strategy.pause", "Open nothing new; exits go on", request.StrategyLeave, reply.StrategyObject,
        path=f"{_STRATEGY}/pause",
    ),
    _write(
        "strategy.stop", "End a strategy for good", request.StrategyLeave, reply.StrategyObject,
        path=f"{_STRATEGY}/stop",
    ),
    _write(
        "strategy.reset", "Bring a strategy from error to paused", request.Addressed, reply.StrategyObject,
        path=f"{_STRATEGY}/reset",
    ),
    _write(
        "strategy.trigger", "Evaluate on the last closed candle now", request.Addressed, reply.Triggered,
        path=f"{_STRATEGY}/trigger", http_status=202,
    ),
    _write(
        "strategy.bind", "Have a strategy trade on one more account", binding.StrategyBind, binding.BindingObject,
        method="PATCH", path=f"{_STRATEGY}/bind/{{account_id}}",
    ),
    _write(
        "strategy.unbind", "Have a strategy trade on an account no more", binding.StrategyUnbind, binding.Unbound,
        method="DELETE", path=f"{_STRATEGY}/bind/{{account_id}}",
    ),
    _read(
        "strategy.bindings", "List the accounts that a strategy is bound to", request.Addressed, binding.BindingList,
        path=f"{_STRATEGY}/bindings",
    ),
    _read(
        "strategy.orders", "List a strategy's orders", request.StrategyOrders, reply.OrderPage,
        path=f"{_STRATEGY}/orders",
    ),
    _read(
        "strategy.positions", "List a strategy's positions", request.StrategyPositions, reply.PositionPage,
        path=f"{_STRATEGY}/positions",
    ),
    _read(
        "strategy.trades", "List a strategy's closed trades", request.StrategyTrades, reply.TradePage,
        path=f"{_STRATEGY}/trades",
    ),
    _read(
        "strategy.runs", "List the evaluations that decided something", request.StrategyRuns, reply.RunPage,
        path=f"{_STRATEGY}/runs",
    ),
    _read(
        "strategy.why", "Explain what a strategy did at a moment, and why", request.StrategyWhy, report.Why,
        weight=10, path=f"{_STRATEGY}/why",
    ),
    _read(
        "strategy.stats", "Show a strategy's win rate, profit and costs", request.StrategyStats,
        report.StrategyStatistics, path=f"{_STRATEGY}/stats",
    ),
    _read(
        "strategy.state", "Show what a strategy holds and remembers", request.Addressed, report.StrategyState,
        path=f"{_STRATEGY}/state",
    ),
    _read("run.get", "Show one evaluation with its steps", request.Addressed, reply.RunObject, path="/v1/runs/{id}"),
    _read("template.list", "List templates", request.Nothing, report.TemplateList, path="/v1/templates"),
    _read(
        "template.get", "Show a template and its params", request.Addressed, report.TemplateObject,
        path="/v1/templates/{id}",
    ),
    _read("signal.list", "List signals with their params", request.Nothing, signal.SignalList, path="/v1/signals"),
    _read("signal.get", "Show a signal", signal.SignalGet, signal.SignalObject, weight=1, path="/v1/signals/{id}"),
    _read("kill.get", "Show the kill switch", request.Nothing, report.KillSwitch, path="/v1/kill-switch"),
    _write(
        "kill.activate", "Block entries everywhere", request.KillActivate, report.KillSwitch,
        path="/v1/kill-switch/activate", urgent=True, daemon_wide=True,
    ),
    _write(
        "kill.deactivate", "Allow entries again", request.KillDeactivate, report.KillSwitch,
        path="/v1/kill-switch/deactivate", daemon_wide=True,
    ),
    _read(
        "kill.logs", "List changes of the kill switch", request.KillLogs, report.KillLogPage,
        path="/v1/kill-switch/logs",
    ),
    _read("risk.get", "Show the account's caps", request.Nothing, report.RiskObject, path="/v1/risk"),
    _write(
        "risk.set", "Change the account's caps", request.RiskSet, report.RiskObject, method="PUT", path="/v1/risk",
        daemon_wide=True,
    ),
    _write(
        "backtest.create", "Queue a backtest", job.BacktestCreate, job.JobObject,
        scope=BACKTEST_WRITE, weight=20, path=_JOBS, http_status=201,
    ),
    _read(
        "backtest.list", "List backtests, newest first", job.BacktestList, job.JobPage,
        scope=BACKTEST_READ, weight=5, path=_JOBS,
    ),
    _read(
        "backtest.get", "Show a backtest with its result", request.Addressed, job.JobObject,
        scope=BACKTEST_READ, path=f"{_JOBS}/{{id}}",
    ),
    _write(
        "backtest.cancel", "End a backtest that waits or runs", job.BacktestCancel, job.JobObject,
        scope=BACKTEST_WRITE, path=f"{_JOBS}/{{id}}/cancel",
    ),
    _write(
        "webhook.create", "Have events delivered to an address; the secret is shown once", webhook.WebhookCreate,
        webhook.WebhookWithSecret, scope=HOOKS_WRITE, path=_HOOKS, http_status=201, secret=True,
    ),
    _read(
        "webhook.list", "List webhooks, newest first", webhook.WebhookList, webhook.WebhookPage,
        scope=HOOKS_READ, path=_HOOKS,
    ),
    _read(
        "webhook.get", "Show a webhook", request.Addressed, webhook.WebhookObject,
        scope=HOOKS_READ, weight=1, path=_HOOK,
    ),
    _write(
        "webhook.update", "Change a webhook, pause it or make it active again", webhook.WebhookUpdate,
        webhook.WebhookObject, scope=HOOKS_WRITE, method="PATCH", path=_HOOK,
    ),
    _write(
        "webhook.delete", "Delete a webhook and what waits for it", request.Addressed, reply.Deleted,
        scope=HOOKS_WRITE, method="DELETE", path=_HOOK,
    ),
    _write(
        "webhook.test", "Send made-up data to a webhook, once", webhook.WebhookTest, webhook.WebhookTested,
        scope=HOOKS_WRITE, weight=10, path=f"{_HOOK}/test",
    ),
    _write(
        "webhook.rotate_secret", "Give a webhook a new secret, which is shown once", request.Addressed,
        webhook.WebhookWithSecret, scope=HOOKS_WRITE, path=f"{_HOOK}/rotate-secret", secret=True,
    ),
    _read(
        "webhook.deliveries", "List what was delivered to a webhook and what waits, newest first",
        webhook.WebhookDeliveries, webhook.DeliveryPage, scope=HOOKS_READ, path=f"{_HOOK}/deliveries",
    ),
    _public(
        "market.exchange_info", "List instruments with the rules of their orders", market.MarketInstruments,
        market.ExchangeInfo, weight=10,
    ),
    _public(
        "market.klines", "Show candles of a symbol", market.MarketCandles, market.CandleRows, weight=1, weight_max=10
    ),
    _public("market.depth", "Show the book of a symbol", market.MarketDepth, market.DepthObject, weight_max=10),
    _public(
        "market.ticker", "Show the last 24 hours of symbols", market.MarketTicker, market.Tickers, weight_max=40
    ),
    _public(
        "market.trades", "Show the last market trades of a symbol", market.MarketTrades, market.MarketTradeList,
        weight=5,
    ),
    _admin("events.tail", "Follow events as they happen", request.EventsTail, Reply, streaming=True),
    _admin("events.stop", "End a tail of this connection", request.EventsStop, report.TailsStopped),
    _admin(
        "key.create", "Create an API key; its secret is shown once", request.KeyCreate, report.KeyWithSecret,
        weight=5, mutating=True, secret=True,
    ),
    _admin("key.list", "List API keys", request.Page, report.KeyPage),
    _admin("key.revoke", "End an API key", request.Addressed, report.KeyObject, weight=5, mutating=True),
    _admin(
        "key.rotate", "Give an API key a new secret", request.KeyRotate, report.KeyWithSecret,
        weight=5, mutating=True, secret=True,
    ),
    _admin(
        "account.create", "Create an account, which owns what is made with its keys", account.AccountCreate,
        account.AccountObject, weight=5, mutating=True,
    ),
    _admin("account.list", "List accounts, newest first", request.Page, account.AccountPage),
    _admin(
        "token.create", "Make a bearer token for a user; it is shown once", account.TokenCreate, account.TokenObject,
        weight=5, mutating=True, secret=True, shown_once="token",
    ),
    _admin(
        "token.rotate", "Void every token made so far", request.Nothing, account.TokensRotated, weight=5, mutating=True
    ),
    _admin("ping", "Ask whether the daemon answers", request.Nothing, report.Pong, weight=0),
    _admin("status", "Show the daemon at a glance", request.Nothing, report.DaemonStatus),
    _admin(
        "health", "Tell whether the daemon is healthy", request.Nothing, report.Health,
        scope=PUBLIC, weight=0, method="GET", path="/health",
    ),
    _admin(
        "condition.logs", "List what kept the daemon from doing all it should", request.ConditionLogs,
        report.ConditionPage,
    ),
    _admin("actors", "Show the supervision tree", request.Nothing, report.ActorTree),
    _admin(
        "metrics", "Show counters and gauges", request.Nothing, report.Metrics,
        scope=PUBLIC, weight=0, method="GET", path="/metrics",
    ),
    _admin(
        "reload", "Read the configuration again: certificates, log level, tighter caps at once; all else at a restart",
        request.Nothing, report.Reloaded, weight=5, mutating=True,
    ),
    _admin(
        "drain", "Take no entries any more, until a restart; exits go on", request.Nothing, report.Draining,
        weight=5, mutating=True,
    ),
    _admin("shutdown", "End the daemon in order", request.Nothing, report.ShuttingDown, weight=5, mutating=True),
    _admin("log.level", "Change what is logged", request.LogLevel, report.LogLevelSet, weight=5, mutating=True),
    _admin(
        "sim.halt", "Halt a strategy as if beyond repair (simulated venue)", request.Addressed, reply.StrategyObject,
        weight=5, mutating=True,
    ),
    _admin(
        "sim.fault", "Let something go wrong at the simulated venue", request.SimFault, report.FaultList,
        weight=5, mutating=True,
    ),
    _admin(
        "sim.faults", "List what can go wrong at the simulated venue, and what did", request.Nothing, report.FaultList
    ),
    _admin(
        "sim.calm", "Let nothing go wrong at the simulated venue any more", request.Nothing, report.FaultList,
        weight=5, mutating=True,
    ),
)  # fmt: skip
_DIALECT: Final = (
    _read(
        "dialect.list", "List strategies, newest first", shapes.ListAsked, shapes.Listing, dialect=True, path=_SPOKEN
    ),
    _write(
        "dialect.create", "Create a strategy out of rules, or out of a question to a model", shapes.CreateAsked,
        shapes.Told, dialect=True, path=_SPOKEN, http_status=201,
    ),
    _read(
        "dialect.registry", "List templates", request.Nothing, shapes.Registry, dialect=True, path=f"{_SPOKEN}/registry"
    ),
    _read("dialect.get", "Show a strategy", request.Addressed, shapes.Told, weight=1, dialect=True, path=_SPOKEN_ONE),
    _write(
        "dialect.update", "Change a strategy that does not trade", shapes.UpdateAsked, shapes.Told,
        dialect=True, method="PATCH", path=_SPOKEN_ONE,
    ),
    _write(
        "dialect.delete", "Delete a strategy, for who made it", request.Addressed, shapes.Gone,
        dialect=True, method="DELETE", path=_SPOKEN_ONE,
    ),
    _write(
        "dialect.status", "Bring a strategy to a status", shapes.StatusAsked, shapes.Told,
        weight=10, dialect=True, method="PATCH", path=f"{_SPOKEN_ONE}/status",
    ),
    _write(
        "dialect.activate_all", "Deploy a strategy on every account", shapes.ActivateAsked, shapes.Told,
        weight=10, dialect=True, path=f"{_SPOKEN_ONE}/activate-all",
    ),
    _write(
        "dialect.deactivate_all", "Pause a strategy on every account", request.Addressed, shapes.Told,
        dialect=True, path=f"{_SPOKEN_ONE}/deactivate-all",
    ),
    _write(
        "dialect.trigger", "Evaluate on the last closed candle now", request.Addressed, shapes.Evaluated,
        dialect=True, path=f"{_SPOKEN_ONE}/trigger", http_status=202,
    ),
    _write(
        "dialect.bind", "Have a strategy trade on one more account", binding.StrategyBind, shapes.Bound,
        dialect=True, method="PATCH", path=f"{_SPOKEN_ONE}/bind/{{account_id}}",
    ),
    _write(
        "dialect.unbind", "Have a strategy trade on an account no more", binding.StrategyUnbind, shapes.Parted,
        dialect=True, method="DELETE", path=f"{_SPOKEN_ONE}/bind/{{account_id}}",
    ),
    _read(
        "dialect.bindings", "List the accounts that a strategy is bound to", request.Addressed, shapes.Bindings,
        dialect=True, path=f"{_SPOKEN_ONE}/bindings",
    ),
    _read(
        "dialect.runs", "List the newest evaluations that decided something", shapes.RunsAsked, shapes.Runs,
        dialect=True, path=f"{_SPOKEN_ONE}/runs",
    ),
    _read(
        "dialect.stats", "Show a strategy's win rate, profit and costs", shapes.StatsAsked, shapes.Stats,
        dialect=True, path=f"{_SPOKEN_ONE}/stats",
    ),
)  # fmt: skip

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType({row.name: row for row in (*_ROWS, *_DIALECT)})


def objection_to(operation: Operation, *, speaks_for: str, scopes: Collection[str]) -> str:
    """Return why whoever speaks for an account with these scopes may not have an operation; nothing if they may."""
    if operation.scope == PUBLIC:
        return ""
    if operation.daemon_wide:
        if ADMIN in scopes or (speaks_for == account.OWNER and operation.scope in scopes):
            return ""
        return (
            f"{operation.name} acts on the whole daemon: it takes a key with the scope {ADMIN}, or one of the account "
            f"{account.OWNER} with the scope {operation.scope}"
        )
    return "" if operation.scope in scopes else f"the scope {operation.scope} is missing"


def operation_named(name: str) -> Operation:
    """Return an operation; refuse a name that the table does not hold."""
    try:
        return OPERATIONS[name]
    except KeyError:
        from difflib import get_close_matches  # Importing it takes longer than most operations.

        near = get_close_matches(name[:64], OPERATIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`pipaid --help` lists them"
        raise NotFound(f"there is no operation {name[:64]!r}; {hint}") from None


def decode_request(operation: Operation, args: object) -> Request:
    """Return the request out of JSON text or decoded JSON; raise InvalidParameter that names every bad field."""
    if isinstance(args, bytes | msgspec.Raw):
        try:
            args = msgspec.json.decode(args)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as trouble:
            raise InvalidParameter(f"args are not JSON: {trouble}"[:200]) from None
    return parse_request(operation.request, args)
