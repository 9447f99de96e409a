from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mp.http.token_file import read_tokens
from mp.token_command import token
from requestor.http.tokens import Scope, token_of
from schemas.errors import HostError, UsageError

SERVICE = 65534
"""User and group of a service that is not root's."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "point.toml").write_text(f'[http]\ntoken_file = "{tmp_path}/tokens.json"\n')
    return tmp_path / "tokens.json"


def run(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(token, [*arguments, "--config", str(file.parent / "point.toml")])


def listed(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(file, "list", "--json").stdout)["tokens"]
    return found


def test_a_new_token_is_printed_once_and_its_file_is_not_for_others(file: Path) -> None:
    made = run(file, "new", "callserver", "--scope", "query", "--scope", "read")
    assert made.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o640
    found = token_of(made.stdout.strip(), read_tokens(file))
    assert found is not None
    assert (found.name, found.scopes) == ("callserver", frozenset((Scope.QUERY, Scope.READ)))
    (shown,) = listed(file)
    assert (shown["id"], shown["scopes"], shown["expired"]) == (found.id, ["query", "read"], False)
    assert made.stdout.strip().rpartition("_")[2] not in run(file, "list").stdout + file.read_text()


def test_a_revoked_token_is_worth_nothing(file: Path) -> None:
    text = run(file, "new", "a", "--expires", "never").stdout.strip()
    run(file, "new", "b")
    first, second = listed(file)
    assert run(file, "revoke", first["id"]).exit_code == 0
    assert [one["id"] for one in listed(file)] == [second["id"]]
    assert token_of(text, read_tokens(file)) is None
    again = run(file, "revoke", first["id"])
    assert isinstance(again.exception, UsageError)


@pytest.mark.parametrize("arguments", [("a b",), ("a", "--expires", "soon"), ("a", "--expires", "0d")])
def test_what_cannot_be_meant_makes_no_token(file: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(run(file, "new", *arguments).exception, UsageError)
    assert not file.exists()


@pytest.mark.parametrize(("owner", "group"), [(0, SERVICE), (SERVICE, SERVICE)])
def test_what_root_writes_the_service_can_read(file: Path, owner: int, group: int) -> None:
    os.chown(file.parent, owner, group)
    assert run(file, "new", "a").exit_code == 0
    status = file.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (owner, group, 0o640)
    assert [one.name for one in read_tokens(file).values()] == ["a"]


@pytest.mark.parametrize(("group", "mode"), [(0, 0o644), (0, 0o660), (SERVICE, 0o640)])
def test_a_file_that_others_may_use_is_refused(file: Path, group: int, mode: int) -> None:
    run(file, "new", "a")
    os.chown(file, 0, group)
    file.chmod(mode)
    refused = run(file, "list")
    assert isinstance(refused.exception, UsageError)
    assert "mode 0600" in str(refused.exception)


def test_a_file_that_others_may_replace_is_refused(file: Path) -> None:
    run(file, "new", "a")
    file.parent.chmod(0o777)
    assert isinstance(run(file, "list").exception, UsageError)


def test_a_directory_that_is_not_there_is_named(file: Path) -> None:
    (file.parent / "point.toml").write_text(f'[http]\ntoken_file = "{file.parent}/none/tokens.json"\n')
    refused = run(file, "new", "a")
    assert isinstance(refused.exception, HostError)
    assert "none" in str(refused.exception)
