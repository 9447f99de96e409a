from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mp.exposition_families import FAMILIES

PACKAGING = Path(__file__).parents[2] / "packaging"
NAME = re.compile(r"\b(?:inpath_\w+|up)\b(?!\")")
OF_PROMETHEUS = {"up"}
LABELS_OF_A_SCRAPE = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PACKAGING / "prometheus" / "inpath.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document = json.loads((PACKAGING / "grafana" / "inpath.json").read_text())
    assert isinstance(document, dict)
    return document


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *shown, *variables]


@pytest.mark.parametrize("query", queries())
def test_every_query_names_metrics_that_exist_and_labels_that_they_have(query: str) -> None:
    families = {family.name: family for family in FAMILIES}
    names = NAME.findall(query)
    assert names
    assert set(names) <= families.keys() | OF_PROMETHEUS
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        known = set(families[name].labels) if name in families else set()
        assert set(re.findall(r"(\w+)=", matchers)) <= known | LABELS_OF_A_SCRAPE


@pytest.mark.parametrize("query", queries())
def test_counters_are_asked_for_their_rate_and_gauges_for_their_value(query: str) -> None:
    for name in NAME.findall(query):
        is_rate = re.search(rf"\b(rate|increase)\({name}\b", query) is not None
        assert is_rate == name.endswith("_total"), name


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_it_is_about(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert "{{ $labels." in rule["annotations"]["summary"]
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_no_two_alerts_and_no_two_panels_have_the_same_name() -> None:
    for names in ([rule["alert"] for rule in rules()], [panel["title"] for panel in panels()]):
        assert len(set(names)) == len(names)


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    document = dashboard()
    assert document["schemaVersion"] >= 36
    assert document["uid"] == document["title"] == "inpath"
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def test_every_panel_has_a_unit_a_source_and_its_own_place() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_the_dashboard_shows_what_an_operator_looks_for_first() -> None:
    shown = " ".join(queries())
    for metric in ("delay_seconds", "loss_ratio", "jitter_seconds", "rtt_seconds", "sample_age_seconds"):
        assert f"inpath_segment_{metric}{{" in shown
