"""Every PromQL query of every dashboard and alert rule, on a real Prometheus that scrapes real workers."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from agents.worker import ROLES
from infra.connect import environment
from infra.stack.processes import spawn
from settings.sections import Settings
from streams import metrics
from streams.admin import create_topics
from tests.engines import HTTP, answers, free_port, prometheus, until
from tests.harness import REPLAY, city, expected_windows, send, stored
from tests.infra.test_dashboards import boards, targets

RULES = Path(__file__).parents[2] / "infra" / "grafana" / "provisioning" / "alerting" / "rules.yaml"
#: Counters and gauges that a healthy run never touches: their queries run, and give nothing.
MAY_BE_SILENT = {
    "aq_sink_errors_total", "aq_dlq_total", "aq_late_events_total", "aq_qc_flags_total",
    # Of the fleet, which a replay has none of.
    "aq_fleet_stations", "aq_fleet_troubles", "aq_fleet_unwell",
    # Of a network, which makes estimates where `network.enabled` is set.
    "aq_network_imputed_total",
}  # fmt: skip
QUERIES = [
    *((f"{board}: {title} {ref}", target["expr"]) for board, title, ref, target in targets("prometheus")),
    *(
        (f"alert: {rule['title']}", query["model"]["expr"])
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        for query in rule["data"]
        if query["datasourceUid"] == "skyfuse-prometheus"
    ),
]


def names(expr):
    return set(re.findall(r"\baq_\w+", expr))


def test_every_metric_that_is_asked_for_is_one_that_workers_have():
    known = set()
    for family in metrics.REGISTRY.collect():
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
        known |= {family.name + suffix for suffix in suffixes[family.type]}
    for where, expr in QUERIES:
        assert names(expr) <= known, where


def test_labels_that_are_asked_for_exist():
    labels = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            labels[metric._name] = set(metric._labelnames) | {"le"}
    for where, expr in QUERIES:
        found = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names(expr)}
        used = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expr) for label in group.split(",")}
        used |= set(re.findall(r"[{,]\s*(\w+)\s*[!=]", expr))
        assert used - {"job"} <= set().union(*(labels[name] for name in found), set()), where


@pytest.fixture(scope="module")
def scraped(tmp_path_factory, broker):
    """Workers of every role that have worked through a made-up city, and a Prometheus that saw it."""
    folder = tmp_path_factory.mktemp("workers")
    settings = Settings(
        data_dir=folder / "data",
        kafka={"bootstrap": broker.bootstrap, "prefix": f"m{folder.name[-4:]}.", "partitions": 2},
        window=REPLAY,
    )
    create_topics(settings)
    settings.data_dir.mkdir()
    ports = {role: free_port() for role in ROLES}
    window = settings.window
    env = {
        **environment(settings),
        "PATH": "/usr/bin:/bin",
        "SKYFUSE_CONFIG": "",
        "SKYFUSE_KAFKA__PARTITIONS": "2",
        "SKYFUSE_WINDOW__IDLE_TIMEOUT": "off",
        "SKYFUSE_WINDOW__DISORDER": f"PT{window.disorder.total_seconds():g}S",
        "SKYFUSE_WINDOW__ALLOWED_LATENESS": f"PT{window.allowed_lateness.total_seconds():g}S",
    }
    children = [
        spawn(
            # Served beyond the own loopback address, as compose.yaml has it: Prometheus is elsewhere there.
            [
                *(sys.executable, "-m", "cli.main", "worker", role),
                *("--web-host", "0.0.0.0", "--web-port", str(port)),
            ],
            name=role, log=folder / f"{role}.log", env=env,
        )
        for role, port in ports.items()
    ]  # fmt: skip
    try:
        with prometheus(folder, [f"127.0.0.2:{port}" for port in ports.values()]) as url:
            records = city(seed=3, stations=4, minutes=5, partitions=2)
            # One message that is refused, so that dead letters are counted.
            records.insert(5, records[4].__class__(records[4].topic, b"st-0", b"{"))
            alive = [f"http://127.0.0.1:{port}/livez" for port in ports.values()]
            until(lambda: all(answers(one) for one in alive), "workers to be there", 60)
            _scrapes(url, len(ports))
            send(settings, records)
            wanted = expected_windows([one for one in records if one.value != b"{"])
            until(lambda: set(stored(settings)) >= wanted, "the estimates", 90)
            _scrapes(url, len(ports))
            yield url, [f"http://127.0.0.1:{port}" for port in ports.values()]
    finally:
        for child in children:
            child.interrupt()
        for child in children:
            child.stop(10.0)


def ask(url, expr):
    """The samples of an instant query; fails on an error of Prometheus's."""
    answer = HTTP.request("POST", f"{url}/api/v1/query", fields={"query": expr})
    body = json.loads(answer.data)
    assert body["status"] == "success", (expr, body)
    return body["data"]["result"]


def _scrapes(url, targets):
    """Wait for three more scrapes of every target, so that rates have two points."""

    def count():
        found = ask(url, 'count_over_time(up{job="skyfuse"}[10m])')
        return [int(one["value"][1]) for one in found]

    before = sum(count())
    until(lambda: len(count()) == targets and sum(count()) >= before + 3 * targets, "scrapes", 30)


def fill(expr):
    return expr.replace("$__rate_interval", "5m").replace("$__range", "1h")


@pytest.mark.engine
@pytest.mark.broker
@pytest.mark.slow
def test_every_query_runs_and_shows_something(scraped):
    url, _ = scraped
    silent = []
    for where, expr in QUERIES:
        result = ask(url, fill(expr))
        if not result and not names(expr) & MAY_BE_SILENT:
            silent.append((where, expr))
        for sample in result:
            grouped = " or " not in expr and re.search(r"by \(([^)]*)\)", expr)
            labels = set(grouped[1].replace(" ", "").split(",")) - {"le"} if grouped else set()
            assert set(sample["metric"]) >= labels
    roles = {one["metric"]["role"] for one in ask(url, "aq_build_info")}
    if "alert" not in roles:
        silent = [one for one in silent if "aq_alert" not in one[1]]
    assert not silent


@pytest.mark.engine
@pytest.mark.broker
@pytest.mark.slow
def test_numbers_agree_with_what_the_workers_say(scraped):
    url, workers = scraped
    total = 0.0
    for worker in workers:
        text = HTTP.request("GET", f"{worker}/metrics").data.decode()
        total += sum(float(m) for m in re.findall(r"^aq_window_emitted_total\{[^}]*\} (\S+)", text, re.M))
        assert HTTP.request("GET", f"{worker}/readyz").status == 200
    (sample,) = ask(url, "sum(aq_window_emitted_total)")
    assert float(sample["value"][1]) == total > 0
    (letters,) = ask(url, "sum(aq_dlq_total)")
    assert float(letters["value"][1]) == 1


def test_no_alert_rule_takes_silence_for_health():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        assert rule["noDataState"] == "Alerting", rule["title"]
        assert rule["execErrState"] == "Error", rule["title"]
        assert rule["annotations"]["summary"]
        refs = {query["refId"] for query in rule["data"]}
        assert rule["condition"] in refs
        assert {query["datasourceUid"] for query in rule["data"]} <= {
            "skyfuse-prometheus", "skyfuse-influx", "__expr__",
        }  # fmt: skip
    assert len({rule["uid"] for rule in rules}) == len(rules)


def test_dashboards_name_only_provisioned_data_sources():
    file = RULES.parents[1] / "datasources" / "skyfuse.yaml"
    provisioned = {source["uid"] for source in yaml.safe_load(file.read_text())["datasources"]}
    for board in boards().values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                assert target["datasource"]["uid"] in provisioned
