"""The account of PostgreSQL under root, and clusters that an earlier release ran as `nobody`."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from datas3t.embedded import accounts
from datas3t.embedded.accounts import Account, give, unprivileged_account
from datas3t.embedded.stack import services

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the account")


def test_the_account_is_created_once_and_is_not_nobody() -> None:
    account = unprivileged_account()
    assert account is not None
    assert account == unprivileged_account()
    assert account.name == "datas3t-postgres"
    assert account.uid not in (0, pwd.getpwnam("nobody").pw_uid)


def test_where_no_account_can_be_created_it_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "NAME", "datas3t-missing")
    monkeypatch.setattr(accounts, "_SYSTEM_PATH", "/nonexistent")
    account = unprivileged_account()
    assert account is not None
    assert account.name == "nobody"


def test_a_cluster_of_nobody_keeps_working(data_dir: Path) -> None:
    subprocess.run(["chown", "-R", "nobody", data_dir / "postgres"], check=True)
    with services(data_dir, durable=False) as running:
        running.postgres.ensure_database("another")
    assert "nobody" not in {path.owner() for path in (data_dir / "postgres").rglob("*")}


def test_only_what_belongs_to_the_owner_of_the_folder_is_given_on(tmp_path: Path) -> None:
    account, nobody = Account("other", 12_345, 12_345), pwd.getpwnam("nobody").pw_uid
    outside, folder = tmp_path / "outside", tmp_path / "cluster"
    (folder / "base").mkdir(parents=True)
    outside.touch()
    (folder / "base/file").touch()
    (folder / "link").symlink_to(outside)
    for path in (folder, folder / "base", folder / "base/file", folder / "link"):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    os.link(outside, folder / "hard-link")
    give(folder, account)
    assert outside.stat().st_uid == 0
    for path in (folder, folder / "base", folder / "base/file", folder / "link"):
        assert path.lstat().st_uid == account.uid
