from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.requestor.http.serving import Served, served, short_folder


@pytest.fixture(scope="session")
def running() -> Iterator[Served]:
    with short_folder() as folder, served(folder, "rate_per_s = 10000\nburst = 10000\n", tcp=True) as service:
        yield service
