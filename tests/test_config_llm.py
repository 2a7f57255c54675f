"""Models are configured by provider and price, with keys that are kept; each mistake is told with its remedy."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipaid.config import examine
from pipaid.config.layers import NAMED_MAX
from pipaid.model.consult import Tariff
from tests.house.tree import ROOT
from tests.test_config import examined, only_mistake, value_of
from tests.worlds import make_world

MODEL = '[llm.providers.main.models."small-4.1"]\nread = "0.25"\nwritten = "1.25"\n'
LOCAL = '[llm.providers.main]\nkind = "openai"\nbase_url = "http://127.0.0.1:8080/v1"\nallow_private_targets = true\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "main.key"
    path.write_text("sk-0123456789\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_without_a_provider_nobody_is_asked(tmp_path: Path) -> None:
    config = examined(tmp_path, "").config

    assert config is not None
    assert (dict(config.llm.providers), config.llm.tariffs) == ({}, {})


def test_a_provider_is_what_its_table_says(tmp_path: Path, key: Path) -> None:
    head = '[llm]\nmoney_per_day_max = "2.5"\n[llm.providers.main]\nkind = "anthropic"\nkey_file = "main.key"\n'
    found = examined(tmp_path, f"{head}concurrent_max = 2\n{MODEL}")
    assert found.config is not None, found.mistakes

    (provider,) = found.config.llm.providers.values()
    assert (provider.kind, provider.key_file, provider.concurrent_max) == ("anthropic", key, 2)
    assert found.config.llm.tariffs == {("main", "small-4.1"): Tariff(read=Decimal("0.25"), written=Decimal("1.25"))}
    assert found.config.llm.money_per_day_max == Decimal("2.5")
    value, source = value_of(found, 'llm.providers.main.models."small-4.1".read')
    assert (value, source[-13:]) == ('"0.25"', "pipaid.toml:8")
    assert value_of(found, "llm.providers.main.patience_s") == ("60", "default")


def test_an_endpoint_of_this_machine_needs_no_key(tmp_path: Path) -> None:
    assert examined(tmp_path, LOCAL + MODEL).config is not None


def test_the_example_that_is_commented_out_works(tmp_path: Path, key: Path) -> None:
    shipped = (ROOT / "config/pipaid.toml").read_text(encoding="utf-8").partition("#   [llm.providers")
    example = "".join(shipped[1:]).replace("\n#", "\n").lstrip("# ")

    config = examined(tmp_path, example).config

    assert config is not None
    provider = config.llm.providers["main"]
    assert provider.key_file == key
    assert list(provider.models) == ["NAME-OF-A-MODEL"]


def test_a_key_may_come_as_a_credential_and_a_value_from_the_environment(tmp_path: Path, key: Path) -> None:
    credential = key.rename(tmp_path / "pipaid.llm-main")
    text = '[llm.providers.main]\nkind = "openai"\n' + MODEL

    found = examined(tmp_path, text, CREDENTIALS_DIRECTORY=str(tmp_path), PIPAID__LLM__PROVIDERS__MAIN__PATIENCE_S="5")

    assert found.config is not None, found.mistakes
    assert found.config.llm.providers["main"].key_file == credential
    assert value_of(found, "llm.providers.main.key_file")[1] == "credential pipaid.llm-main"
    assert found.config.llm.providers["main"].patience_s == 5.0


@pytest.mark.parametrize(
    ("text", "key", "wrong"),
    [
        ("[llm]\nmoney_per_day = 1\n", "llm.money_per_day", "no such key"),
        ('[llm]\nmoney_per_day_max = "off"\n', "llm.money_per_day_max", '"off" is not a decimal number'),
        ("[llm]\nmoney_per_day_max = 2.50\n", "llm.money_per_day_max", "2.50 is a float"),
        ("[llm]\nproviders = 5\n", "llm.providers", "5 stands where a table must be"),
        ("[llm.providers]\nmain = 5\n", "llm.providers.main", "5 stands where a table must be"),
        (LOCAL + "retries = 3\n" + MODEL, "llm.providers.main.retries", "no such key"),
        (LOCAL.replace('kind = "openai"\n', "") + MODEL, "llm.providers.main.kind", "it is missing"),
        (LOCAL.replace("openai", "openia") + MODEL, "llm.providers.main.kind", "none of the choices"),
        (LOCAL, "llm.providers.main.models", "it names no model"),
        (LOCAL + MODEL.replace('read = "0.25"\n', ""), 'llm.providers.main.models."small-4.1".read', "it is missing"),
        (LOCAL + MODEL + 'cached = "1"\n', 'llm.providers.main.models."small-4.1".cached', "no such key"),
        (LOCAL + MODEL.replace('"1.25"', '"-1"'), 'llm.providers.main.models."small-4.1".written', "out of range"),
        (LOCAL + MODEL.replace("small-4.1", "small 4.1"), 'llm.providers.main.models."small 4.1"', "is no name for it"),
        (LOCAL.replace("main", "Main") + MODEL.replace("main", "Main"), "llm.providers.Main", "is no name for it"),
        (LOCAL.replace("allow_private_targets = true\n", "") + MODEL, "llm.providers.main.base_url", "https://"),
        (LOCAL.replace("http://127.0.0.1:8080/v1", "https://me:pw@models.example.com") + MODEL,
         "llm.providers.main.base_url", "must"),
        ('[llm.providers.main]\nkind = "openai"\n' + MODEL, "llm.providers.main.key_file", "answers nobody"),
    ],
    ids=str,
)  # fmt: skip
def test_each_mistake_is_told(tmp_path: Path, text: str, key: str, wrong: str) -> None:
    found = examined(tmp_path, text)

    mistake = next(each for each in found.mistakes if each.key == key)
    assert wrong in mistake.wrong
    assert mistake.remedy
    assert found.config is None


@pytest.mark.parametrize(
    ("content", "mode", "wrong"),
    [
        ("sk-0123456789", 0o644, "others may read it"),
        ("short", 0o600, "is no key"),
        ("two words", 0o600, "is no key"),
        ("schlüssel-12345", 0o600, "is no key"),
        ("sk-01234\r\nX-Evil: 1", 0o600, "is no key"),
        ("", 0o600, "has 0 bytes"),
    ],
)
def test_a_key_that_is_not_kept_or_none_is_refused(tmp_path: Path, content: str, mode: int, wrong: str) -> None:
    path = tmp_path / "main.key"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)

    mistake = only_mistake(tmp_path, LOCAL + 'key_file = "main.key"\n' + MODEL)

    assert mistake.key == "llm.providers.main.key_file"
    assert wrong in mistake.wrong
    assert content not in str(mistake) or not content


def test_a_key_that_is_not_there_is_missed(tmp_path: Path) -> None:
    mistake = only_mistake(tmp_path, LOCAL + 'key_file = "main.key"\n' + MODEL)

    assert "cannot read the secret" in mistake.wrong
    assert f"chmod 600 {tmp_path / 'main.key'}" in mistake.remedy


def test_there_are_no_more_providers_than_can_be_looked_over(tmp_path: Path) -> None:
    many = "".join((LOCAL + MODEL).replace("main", f"m{number}") for number in range(NAMED_MAX + 1))

    found = examined(tmp_path, many)

    assert [(each.key, each.wrong) for each in found.mistakes] == [("llm.providers", "101 tables stand there")]


def test_a_reload_says_that_models_wait_for_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "pipaid.toml"
    path.write_text(LOCAL + MODEL, encoding="utf-8")
    before = examine(path, make_world()).config
    path.write_text(LOCAL + MODEL.replace("1.25", "1.50"), encoding="utf-8")
    after = examine(path, make_world()).config

    assert before is not None
    assert after is not None
    assert after.differences(before) == ["llm.providers"]
