"""A configuration is read whole: every value has a source, and every mistake a place, a reason and a remedy."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from pipaid.config import Config, Examined, Mistake, Mistaken, examine, load_config
from pipaid.config.fields import hints_of
from pipaid.config.sections import FeeTier, RiskCaps
from pipaid.engine.book import Caps
from pipaid.venues.opening import terms_of
from tests.worlds import make_world

TEN_MISTAKES = """\
[daemon]
exit_at_end = "yes"
strategis = ["x/*.toml"]

[market]
kind = "replya"
speed = 0
symbols = ["BTCUSDT", "ethusdt"]

[desk]
taker_bps = 5.50

[stream]
host = "0.0.0.0"
port = "5002"

[supervision]
backoff_min_s = 60

[risks]
data_age_max_s = 5
"""

DECLARED = """\
[[strategy]]
name = "{name}"
template_id = "tpl_dca"
symbols = ["BTCUSDT"]
timeframe = "1m"
capital = "500"
params = {{ interval = "1d", buy_amount = "100" }}
"""


def written(folder: Path, text: str, name: str = "pipaid.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def examined(folder: Path, text: str, **variables: str) -> Examined:
    return examine(written(folder, text), make_world(**variables))


def only_mistake(folder: Path, text: str, **variables: str) -> Mistake:
    (mistake,) = examined(folder, text, **variables).mistakes
    return mistake


def value_of(found: Examined, key: str) -> tuple[str, str]:
    (effective,) = [each for each in found.values if each.key == key]
    return effective.value, effective.source


def test_an_empty_file_and_no_file_are_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "")

    assert load_config(path, make_world()) == Config(path=path)
    assert load_config(None, make_world()) == Config()


def test_ten_mistakes_are_reported_at_once_each_at_its_line(tmp_path: Path) -> None:
    found = examined(tmp_path, TEN_MISTAKES)

    assert found.config is None
    places = {mistake.key: mistake.place.removeprefix(f"{tmp_path}/pipaid.toml:") for mistake in found.mistakes}
    assert places == {
        "daemon.exit_at_end": "2",
        "daemon.strategis": "3",
        "market.kind": "6",
        "market.speed": "7",
        "market.symbols": "8",
        "desk.taker_bps": "11",
        "stream.host": "14",
        "stream.port": "15",
        "supervision.backoff_min_s": "18",
        "risks": "20",
    }
    assert all(mistake.wrong and mistake.allowed and mistake.remedy for mistake in found.mistakes)


def test_faults_that_exclude_each_other_befall_no_more_than_all_there_is(tmp_path: Path) -> None:
    shares = 'lost = "0.5"\nlate = "0.5"\noutage = "1"\ndropped = "0.7"\n'
    assert examine(written(tmp_path, f"[desk.faults]\n{shares}"), make_world()).mistakes == ()

    found = examine(written(tmp_path, f'[desk.faults]\n{shares}refused = "0.1"\ncut = "0.4"\n'), make_world())

    assert [(mistake.key, mistake.place.rpartition(":")[2]) for mistake in found.mistakes] == [
        ("desk.faults.refused", "6"),
        ("desk.faults.cut", "7"),
    ]
    assert found.mistakes[0].wrong == "lost, late, refused together befall more than all there is"


def test_all_mistakes_stand_in_what_is_raised(tmp_path: Path) -> None:
    with pytest.raises(Mistaken) as caught:
        load_config(written(tmp_path, TEN_MISTAKES), make_world())

    assert len(caught.value.mistakes) == 10
    assert caught.value.message.startswith("10 mistakes:")
    assert "pipaid.toml:11: desk.taker_bps: 5.50 is a float, which cannot hold money" in caught.value.message
    assert caught.value.code == "INVALID_PARAMETER"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('[daemon]\nexit_at_end = "on"', "write: exit_at_end = true"),
        ("[desk]\ntaker_bps = 5.50", 'write: taker_bps = "5.50"'),
        ('[stream]\nport = "6000"', "write: port = 6000"),
        ("[stream]\nport = 70000", "write: port = 65535"),
        ('[market]\nsymbols = ["BTCUSDT", "ethusdt"]', 'write: symbols = ["BTCUSDT", "ETHUSDT"]'),
        ('[market]\nsymbols = "BTCUSDT"', 'write: symbols = ["BTCUSDT"]'),
        ('[log]\nlevel = "INFO"', 'write: level = "info"'),
        ("[logg]", "did you mean `log`?"),
        ("[log]\nlevle = 1", "did you mean `level`?"),
        (
            "[[strategy]]\nname = 'a'",
            "strategies stand in files of their own: `pipaid apply FILE`, or name the file in daemon.strategies",
        ),
        ("[log]\nzzzzz = 1", "remove the line"),
        ("log = 3", "write [log] on a line of its own, and its keys below"),
        ("[risk.account]\nleverage_max = 500", "write: leverage_max = 125"),
        ('[control]\nmode = "660"', "write an allowed value, or remove the line for the default"),
    ],
)
def test_the_remedy_is_what_to_write(tmp_path: Path, text: str, remedy: str) -> None:
    assert only_mistake(tmp_path, text).remedy == remedy


@pytest.mark.parametrize(
    ("text", "place", "wrong"),
    [
        ("[log]\nlevel = = 3\n", "2", "not TOML: Invalid value at column 9"),
        ("[log]\n[log]\n", "2", "not TOML: Cannot declare ('log',) twice at column 5"),
        ("a = " + "[" * 5000, "1", "not TOML: "),
        ("[log]\n\n[market]\nseed = 0x" + "f" * 5000, "4", "not TOML: market.seed is a whole number of more than 64"),
        ("[market]\nsymbols = [\n1,\n[9223372036854775808]]", "4", "not TOML: market.symbols.1.0 is a whole number of"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, text: str, place: str, wrong: str) -> None:
    mistake = only_mistake(tmp_path, text)

    assert mistake.place == f"{tmp_path}/pipaid.toml:{place}"
    assert mistake.wrong.startswith(wrong)


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "pipaid.toml"
    path.write_bytes(b'[log]\nlevel = "\xff"\n')

    (mistake,) = examine(path, make_world()).mistakes

    assert (mistake.place, mistake.wrong) == (f"{path}:2", "not TOML: byte 0xff is not UTF-8")


@pytest.mark.parametrize(
    "text", ["0x" + "f" * 5000, "9" * 5000, "9223372036854775808", "[" * 5000, "[0x" + "f" * 99 + "]"]
)
def test_no_variable_is_worse_than_refused(tmp_path: Path, text: str) -> None:
    for name in (
        "MARKET__SEED",
        "DESK__TAKER_BPS",
        "GUARD__BUDGET_MS",
        "DAEMON__EXIT_AT_END",
        "MARKET__SYMBOLS",
        "LOG__LEVEL",
    ):
        mistake = only_mistake(tmp_path, "", **{f"PIPAID__{name}": text})

        assert mistake.place == f"environment PIPAID__{name}"


def test_a_folder_that_nothing_can_be_called_holds_no_credential(tmp_path: Path) -> None:
    assert examined(tmp_path, "", CREDENTIALS_DIRECTORY="x" * 5000).config is not None


def test_a_number_is_shown_to_its_last_digit(tmp_path: Path) -> None:
    assert value_of(examined(tmp_path, "[daemon]\nshutdown_s = 5.731621"), "daemon.shutdown_s")[0] == "5.731621"
    assert value_of(examined(tmp_path, "[daemon]\nshutdown_s = 5.50"), "daemon.shutdown_s")[0] == "5.5"


def test_a_missing_file_is_a_mistake_and_not_the_defaults(tmp_path: Path) -> None:
    found = examine(tmp_path / "absent.toml", make_world())

    assert found.config is None
    assert "cannot be read" in found.mistakes[0].wrong


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, '[stream]\nport = 6000\nhost = "::1"\n[daemon]\nstate_dir = "a"\n')
    world = make_world(PIPAID__STREAM__PORT="6001", PIPAID__DAEMON__STATE_DIR="b", STATE_DIRECTORY="/never")

    found = examine(path, world, overrides={"daemon.state_dir": "c"})

    assert found.config is not None
    assert value_of(found, "stream.port") == ("6001", "environment PIPAID__STREAM__PORT")
    assert value_of(found, "stream.host") == ('"::1"', f"{path}:3")
    assert value_of(found, "stream.ping_s") == ("20", "default")
    assert value_of(found, "daemon.state_dir") == ('"c"', "command line")


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("PIPAID__MARKET__SPEED", "max", "market.speed", '"max"'),
        ("PIPAID__MARKET__SPEED", "60.5", "market.speed", "60.5"),
        ("PIPAID__MARKET__SYMBOLS", "BTCUSDT, ETHUSDT", "market.symbols", '["BTCUSDT", "ETHUSDT"]'),
        ("PIPAID__MARKET__SYMBOLS", '["SOLUSDT"]', "market.symbols", '["SOLUSDT"]'),
        ("PIPAID__DESK__TAKER_BPS", "4.50", "desk.taker_bps", '"4.5"'),
        ("PIPAID__RISK__ACCOUNT__EXPOSURE_MAX", "1000", "risk.account.exposure_max", '"1000"'),
        ("PIPAID__RISK__DAEMON__ORDER_NOTIONAL_MAX", "off", "risk.daemon.order_notional_max", '"off"'),
        ("PIPAID__CONTROL__MODE", "0600", "control.mode", '"0600"'),
        ("PIPAID__DAEMON__EXIT_AT_END", "true", "daemon.exit_at_end", "true"),
        ("STATE_DIRECTORY", "/var/lib/pipaid", "daemon.state_dir", '"/var/lib/pipaid"'),
        ("RUNTIME_DIRECTORY", "/run/pipaid:/run/other", "daemon.runtime_dir", '"/run/pipaid"'),
    ],
)
def test_a_variable_is_read_as_it_would_be_written(name: str, text: str, key: str, value: str) -> None:
    found = examine(None, make_world(**{name: text}))

    assert value_of(found, key) == (value, f"environment {name}")


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("PIPAID__STREAM__PROT", "1", "did you mean PIPAID__STREAM__PORT?"),
        ("PIPAID__STREAM__PORT", "x", "set PIPAID__STREAM__PORT to an allowed value, or unset it"),
        ("PIPAID__LOG__LEVEL", "Debug", "set PIPAID__LOG__LEVEL=debug"),
        ("PIPAID__QQQQ", "1", "remove it"),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str, remedy: str) -> None:
    (mistake,) = examine(None, make_world(**{name: text})).mistakes

    assert (mistake.place, mistake.remedy) == (f"environment {name}", remedy)


def test_an_unknown_key_of_the_command_line_is_a_mistake() -> None:
    found = examine(None, make_world(), overrides={"daemon.sate_dir": "x"})

    assert found.mistakes[0].place == "command line"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    assert only_mistake(tmp_path, f"[stream]\nping_s = {text}").key == "stream.ping_s"
    assert only_mistake(tmp_path, f'[desk]\nmaker_bps = "{text}"').key == "desk.maker_bps"


def test_patterns_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "candles").mkdir()
    written(tmp_path / "candles", "", "BTCUSDT-1m-x.csv")
    written(tmp_path, DECLARED.format(name="second"), "b.toml")
    written(tmp_path, DECLARED.format(name="first"), "a.toml")
    text = (
        '[daemon]\nstrategies = ["[ab].toml"]\n'
        '[market]\nkind = "replay"\nfiles = ["candles/*.csv"]\nspeed = "max"\nstart = "2025-06-01T00:00:00Z"'
    )

    config = examined(tmp_path, text).config

    assert config is not None
    assert config.market.files == (str(tmp_path / "candles/*.csv"),)
    assert [declaration.name for declaration in config.declarations] == ["first", "second"]
    assert config.market.speed == "max"
    assert config.market.start_ms == 1_748_736_000_000
    assert config.path == tmp_path / "pipaid.toml"
    assert config.strategy_files == (tmp_path / "a.toml", tmp_path / "b.toml")


def test_mistakes_in_declared_strategies_are_mistakes_of_the_configuration(tmp_path: Path) -> None:
    written(tmp_path, DECLARED.format(name="first").replace("1m", "1min"), "a.toml")

    found = examined(tmp_path, '[daemon]\nstrategies = ["a.toml"]\n[log]\nlevel = 3')

    assert [mistake.place.rpartition("/")[2] for mistake in found.mistakes] == ["pipaid.toml:4", "a.toml:5"]


def test_differences_are_named_by_key(tmp_path: Path) -> None:
    before = load_config(None, make_world())
    text = '[log]\nlevel = "debug"\n[risk.account]\nleverage_max = 3\nexposure_max = "9"\n[stream]\nport = 1'
    after = load_config(written(tmp_path, text), make_world())

    assert after.differences(before) == [
        "stream.port", "risk.account.exposure_max", "risk.account.leverage_max", "log.level",
    ]  # fmt: skip
    assert after.differences(before, besides=["log.level", "risk.account"]) == ["stream.port"]
    assert after.differences(after) == []


def test_a_changed_declaration_is_a_difference(tmp_path: Path) -> None:
    text = '[daemon]\nstrategies = ["a.toml"]'
    written(tmp_path, DECLARED.format(name="first"), "a.toml")
    before = load_config(written(tmp_path, text), make_world())
    written(tmp_path, DECLARED.format(name="other"), "a.toml")

    assert load_config(written(tmp_path, text), make_world()).differences(before) == ["daemon.strategies"]


def test_every_cap_of_the_engine_can_be_configured() -> None:
    assert set(hints_of(RiskCaps)) == set(attrs.fields_dict(Caps))
    assert set(RiskCaps.__annotations__) == set(attrs.fields_dict(Caps))


def test_a_replay_without_candles_says_how_to_get_some(tmp_path: Path) -> None:
    none_named = only_mistake(tmp_path, '[market]\nkind = "replay"')
    none_found = only_mistake(tmp_path, '[market]\nkind = "replay"\nfiles = ["no/*.csv"]')

    assert "none are named" in none_named.wrong
    assert none_found.place.endswith(":3")
    for mistake in (none_named, none_found):
        assert "open_time_ms,open,high,low,close,volume" in mistake.remedy


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[market]\nsymbols = []", "market.symbols"),
        ('[market]\nsymbols = ["BTCUSDT", "BTCUSDT"]', "market.symbols"),
        ('[market]\nstart = "2025-13-01"', "market.start"),
        ('[market]\nstart = "yesterday"', "market.start"),
        ('[daemon]\nstrategies = ["no/*.toml"]', "daemon.strategies"),
        ('[stream]\nallowed_origins = ["example.org"]', "stream.allowed_origins"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, key: str) -> None:
    assert only_mistake(tmp_path, text).key == key


def test_sockets_lie_in_the_runtime_directory_or_in_the_state_directory() -> None:
    beside_state = load_config(None, make_world())
    in_runtime = load_config(None, make_world(RUNTIME_DIRECTORY="/run/pipaid"))

    assert beside_state.control_socket == Path("var/control.sock")
    assert in_runtime.observe_socket == Path("/run/pipaid/observe.sock")
    assert in_runtime.control.mode_bits == 0o660
    assert in_runtime.risk.account.drawdown_pct_max == Decimal("0.30")


ROWS = '{ volume = "0", maker_bps = "3", taker_bps = "6" }, { volume = "1000", maker_bps = "2", taker_bps = "4" }'


def test_tiers_are_tables_and_shown_as_they_are_written(tmp_path: Path) -> None:
    found = examined(tmp_path, f"[backtest]\nslots = 2\ntiers = [{ROWS}]")

    assert found.config is not None
    assert found.config.backtest.tiers == (
        FeeTier(Decimal(0), Decimal(3), Decimal(6)),
        FeeTier(Decimal(1000), Decimal(2), Decimal(4)),
    )
    assert value_of(found, "backtest.tiers") == (f"[{ROWS}]", f"{tmp_path}/pipaid.toml:3")
    assert value_of(examined(tmp_path, "", PIPAID__BACKTEST__TIERS=f"[{ROWS}]"), "backtest.tiers")[0] == f"[{ROWS}]"


@pytest.mark.parametrize(
    ("tiers", "wrong", "remedy"),
    [
        ("[]", "no tier begins at a volume of 0", 'the first with volume = "0"'),
        (f"[{ROWS.replace('1000', '0')}]", "the tier from 0 on stands after the one from 0 on", "put them in order"),
        ('["0 2 5"]', '"0 2 5" is not a table', "write an allowed value"),
        ('[{ volume = "0", maker_bps = "2" }]', "taker_bps is missing in", "write an allowed value"),
        (f"[{ROWS.replace('taker_bps', 'taker')}]", "there is no key taker in", "write an allowed value"),
        (f"[{ROWS.replace('6', '6000')}]", 'taker_bps: "6000" is out of range', f"[{ROWS.replace('6', '1000')}]"),
        ("[{ volume = 0.5, maker_bps = 2, taker_bps = 5 }]", "volume: 0.5 is a float", 'volume = "0.5"'),
    ],
)
def test_tiers_that_leave_open_what_is_paid_are_mistakes(tmp_path: Path, tiers: str, wrong: str, remedy: str) -> None:
    mistake = only_mistake(tmp_path, f"[backtest]\ntiers = {tiers}")

    assert (mistake.key, mistake.place) == ("backtest.tiers", f"{tmp_path}/pipaid.toml:2")
    assert wrong in mistake.wrong
    assert remedy in mistake.remedy


def test_slots_of_backtests_have_a_range(tmp_path: Path) -> None:
    assert only_mistake(tmp_path, "[backtest]\nslots = 65").allowed == "from 1 to 64"


def test_a_desk_may_fill_as_much_as_is_asked_for(tmp_path: Path) -> None:
    found = examined(tmp_path, '[desk]\nfill_ratio_max = "off"')

    assert found.config is not None
    assert found.config.desk.fill_ratio_max is None
    assert terms_of(found.config.desk).fill_ratio_max == 0
