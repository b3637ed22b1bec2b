"""The alert rules speak of metrics that exist, with labels they have; what they do over time is `make alerts`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.core import telemetry
from service.features.billing.flows import metrics  # noqa: F401 - declared where they are used
from service.features.erasure.flows import metrics as erasure_metrics  # noqa: F401
from service.features.files.flows import look  # noqa: F401
from service.features.imports.flows import metrics as import_metrics  # noqa: F401
from service.features.privacy.flows import metrics as privacy_metrics  # noqa: F401
from service.features.sources.flows import metrics as source_metrics  # noqa: F401
from service.features.support import jobs as support_jobs  # noqa: F401
from service.features.webhooks.flows import metrics as webhook_metrics  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
RULE_FILES = sorted((ROOT / "ops" / "alerts").glob("*.yml"))
CLAUSE = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
KEYWORDS = {"and", "or", "unless", "bool", "offset", "Inf", "NaN"}
LEAST_METRICS = 6


def rules() -> list[dict[str, Any]]:
    return [
        rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
    ]


def metrics_in(expression: str) -> set[str]:
    """Names of series in a PromQL expression: identifiers that are neither functions, labels nor keywords."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", CLAUSE.sub("", bare))
    return {name for name in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare) if name not in KEYWORDS}


def exposed(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Series name -> label names, for everything the service registers."""
    found: dict[str, set[str]] = {}
    for collector in set(registry._collector_to_names):
        assert isinstance(collector, MetricWrapperBase), collector
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        for suffix in suffixes[str(collector._type)]:
            found[collector._name + suffix] = set(collector._labelnames)
    return found


EXPOSED = exposed(telemetry.REGISTRY)


def test_the_scan_reads_promql() -> None:
    expression = '(avg_over_time(a_b{pool="x"}[1m]) / c >= 0.9) and on (instance) (rate(d_total[2m]) > 0) or e > Inf'
    assert metrics_in(expression) == {"a_b", "c", "d_total", "e"}


def test_every_metric_in_the_rules_is_exposed() -> None:
    used = {name for rule in rules() for name in metrics_in(rule["expr"])}
    assert len(used) >= LEAST_METRICS
    missing = used - set(EXPOSED)
    assert not missing, f"the rules name metrics that service/core/telemetry.py does not register: {sorted(missing)}"


def test_simulations_feed_only_series_that_exist() -> None:
    seen = 0
    for file in sorted((ROOT / "ops" / "alerts" / "tests").glob("*.yml")):
        for case in yaml.safe_load(file.read_text())["tests"]:
            for series in case["input_series"]:
                name, _, labels = series["series"].partition("{")
                given = set(re.findall(r"(\w+)=", labels)) - {"instance", "job"}
                assert given == EXPOSED[name], f"{name} has labels {EXPOSED[name]}, the simulation gives {given}"
                seen += 1
    assert seen >= 10


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_is_simulated_firing_and_silent(rule: dict[str, Any]) -> None:
    fires = silent = 0
    for file in sorted((ROOT / "ops" / "alerts" / "tests").glob("*.yml")):
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case.get("alert_rule_test", ()):
                if check["alertname"] == rule["alert"]:
                    fires += bool(check["exp_alerts"])
                    silent += not check["exp_alerts"]
    assert fires >= 1
    assert silent >= 2, "show that it stays silent on its harmless neighbour, and that it resolves"


def test_prometheus_evaluates_every_rule_file_and_names_the_runbooks() -> None:
    config = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["/etc/prometheus/alerts/*.yml"]
    assert "runbooks" in config["global"]["external_labels"], "the alerts' runbook_url begins with this label"
    compose = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
    assert "../ops/alerts:/etc/prometheus/alerts:ro" in compose["services"]["prometheus"]["volumes"]
    assert RULE_FILES
