from __future__ import annotations

import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from mp.results import plot_command as results_plot_command
from mp.results.command import results
from schemas.errors import HostError, UsageError
from tests.mp.results.stored_paths import MINUTE_US, NOW_US, answer, store_all

HISTORY = ("history", "10.0.0.1", "10.9.9.9")


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_plot_command, "now_us_of_host", lambda: NOW_US)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    store_all(url, [answer(number, NOW_US - number * MINUTE_US, lost=number % 3) for number in range(1, 90)])
    return url


def plot(url: str, *arguments: str) -> Result:
    done = CliRunner().invoke(results, ["plot", *arguments, "--database", url, "--config", "/dev/null"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def size_of_png(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("what", [HISTORY, ("answer", "00000007")], ids=["history", "answer"])
def test_a_picture_is_a_file_of_sensible_size(tmp_path: Path, url: str, what: tuple[str, ...]) -> None:
    png, svg = tmp_path / "picture.png", tmp_path / "picture.svg"
    assert plot(url, *what, "-o", str(png)).exit_code == 0
    assert plot(url, *what, "-o", str(svg)).exit_code == 0
    width, height = size_of_png(png)
    assert 1000 < width < 2500 and 300 < height < 1500
    assert 10_000 < png.stat().st_size < 500_000
    assert ElementTree.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert 10_000 < svg.stat().st_size < 1_000_000


def test_the_same_svg_is_the_same_file(tmp_path: Path, url: str) -> None:
    files = [tmp_path / name for name in ("one.svg", "two.svg")]
    for file in files:
        plot(url, "answer", "00000007", "-o", str(file))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_to_draw_is_said_and_leaves_no_file(tmp_path: Path, url: str) -> None:
    path = tmp_path / "picture.png"
    done = plot(url, *HISTORY, "--to", "2025-12-01T00:00:00Z", "-o", str(path))
    assert (done.exit_code, done.stderr) == (0, "inpath: no stored result fits\n")
    assert not path.exists()


def test_only_png_and_svg_are_drawn(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        UsageError, match="output: got '.*/picture.pdf', expected a file that ends in .png or .svg"
    ):
        plot(url, *HISTORY, "-o", str(tmp_path / "picture.pdf"))


@pytest.mark.parametrize("what", [HISTORY, ("answer", "00000007")], ids=["history", "answer"])
def test_without_matplotlib_it_is_said_what_to_install(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib" or name in _DRAWING]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HostError, match=r"matplotlib is not installed, expected: pip install 'inpath\[plot\]'"):
        plot(url, *what, "-o", str(tmp_path / "picture.png"))


_DRAWING = ("mp.results.plots.history", "mp.results.plots.waterfall", "mp.results.plots.style")
