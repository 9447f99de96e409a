from __future__ import annotations

import pytest

from receiver.store.database import Database
from receiver.store.hosts import Host, Rotation, split_hosts
from schemas.errors import StoreError

HOSTS = (Host("h1", 3307), Host("h2", 3306), Host("10.0.0.3", 3308))


@pytest.mark.parametrize(
    "url",
    ["sqlite:////srv/a,b.db", "mysql+pymysql://u:p,w@h1/db", "mysql+pymysql://h1:1/db?charset=a,b", "nothing", ""],
)
def test_a_url_of_one_server_stays_as_it_is(url: str) -> None:
    assert split_hosts(url) == (url, ())


def test_several_servers_keep_their_order_and_the_rest_stays() -> None:
    url = "mysql+pymysql://u:p,w@h1:3307,h2,10.0.0.3:3308/db?charset=utf8mb4"
    assert split_hosts(url) == ("mysql+pymysql://u:p,w@h1:3307/db?charset=utf8mb4", HOSTS)


@pytest.mark.parametrize("hosts", ["h1,", "h1,h2:x", "h1,h2:0", "h1,h2:65536", ",h2"])
def test_a_server_that_is_none_is_refused_without_the_password(hosts: str) -> None:
    with pytest.raises(StoreError, match="the URL cannot be read") as caught:
        Database(f"mysql+pymysql://u:pa55@{hosts}/db")
    assert "pa55" not in str(caught.value)


def test_the_name_shows_all_servers_and_no_password() -> None:
    name = Database("mysql+pymysql://u:pa55@h1:3307,h2,h3:3308/db?ssl_key=s3cret").name
    assert name == "mysql+pymysql://u:***@h1:3307,h2:3306,h3:3308/db"


def test_a_server_that_failed_is_left_once_whoever_says_so_how_often() -> None:
    rotation = Rotation(HOSTS)
    rotation.advance(HOSTS[0])
    rotation.advance(HOSTS[0])
    assert rotation.current == HOSTS[1]
    rotation.advance(HOSTS[1])
    rotation.advance(HOSTS[2])
    assert rotation.current == HOSTS[0]
