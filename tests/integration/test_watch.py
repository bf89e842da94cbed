"""The dashboard and the alert rules on a real Prometheus that scrapes both services and the gateway."""
import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.parse
import urllib.request

import pytest
import yaml

from conftest import ROOT, Stack, free_port, wait_for
from images import encode, gradient
from name_server import Dns
from test_gateway import Gateway
from tools import tool

ROOM = ROOT / "infra/grafana"
RULES = [rule for group in yaml.safe_load((ROOM / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
PANELS = json.loads((ROOM / "dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
WORDS = {"sum", "max", "min", "count", "by", "on", "unless", "or", "offset", "rate", "increase", "histogram_quantile", "min_over_time"}
# series that a healthy system does not have; their names are those of our table
RARE = r'code="503"|code=~"5|objects_expired_total|sign_ins_total|sealed_objects_total|catalogue_failures_total|broker_'


def names_of(expression):
    """The metrics that it names."""
    text = re.sub(r'"[^"]*"|\[[^]]*\]|\{[^}]*\}|\b(?:by|on) \([^)]*\)', " ", re.sub(r'"[^"]*"', '""', expression))
    return set(re.findall(r"\b[a-z_]\w*", text)) - WORDS


def filled(expression):
    return expression.replace("$__rate_interval", "1m").replace("$job", ".*")


class Prometheus:
    def __init__(self, folder, targets):
        self.folder, self.port, self.process = folder, free_port(), None
        config = yaml.safe_load((ROOM / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOM / name) for name in config["rule_files"]]
        assert {job["job_name"] for job in config["scrape_configs"]} == targets.keys()
        for job in config["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self):
        program, environment = tool("prometheus")
        with open(self.folder / "prometheus.log", "ab") as log:
            self.process = subprocess.Popen(
                [program, f"--config.file={self.folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{self.port}",
                 f"--storage.tsdb.path={self.folder}/tsdb"], env=environment | {"GOMAXPROCS": "1"}, stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def api(self, path, **fields):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=30) as reply:
            return json.load(reply)["data"]

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def is_up(self, targets):
        with contextlib.suppress(OSError):
            return len(self.query("up == 1")) == targets
        return False


def test_promtool_accepts_the_rules_and_they_fire():
    program, environment = tool("promtool")
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"],
                    ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([program, *command], cwd=ROOM, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_says_what_to_do():
    tried = (ROOM / "alerts_test.yml").read_text()
    for rule in RULES:
        assert f'alertname="{rule["alert"]}"' in tried
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].count(".") >= 1


def test_every_metric_that_is_named_exists():
    header = (ROOT / "common/base/metrics.h").read_text()
    ours = dict(re.findall(r'X\(METRIC_\w+, "(\w+)", (\w+)', header))
    exist = {name + suffix for name, kind in ours.items()
             for suffix in (("_bucket", "_sum", "_count") if kind == "HISTOGRAM" else ("",))}
    exist |= set(re.findall(r"# TYPE (process_\w+) ", (ROOT / "common/base/metrics.c").read_text()))
    named = set().union(*(names_of(rule["expr"]) for rule in RULES), *(names_of(query) for query in QUERIES))
    assert len(named) > 15
    theirs = {name for name in named if name.startswith("haproxy_")} | {"up"}  # seen on a real scrape, below
    assert named - theirs <= exist, named - theirs - exist
    unseen = set(ours) - {re.sub("_(bucket|count|sum)$", "", name) for name in named}
    assert not unseen, f"neither on the dashboard nor in a rule: {unseen}"


@pytest.mark.long
@pytest.mark.timeout(240)
def test_every_query_answers_on_a_real_scrape(tmp_path, services):
    tool("haproxy"), tool("prometheus")
    services.append(Stack(tmp_path))
    stack = services[0].start()
    with Dns() as dns, contextlib.ExitStack() as running:
        dns.names |= {"preprocess": ["127.0.0.1"], "classify": ["127.0.0.1"]}
        gateway = Gateway(tmp_path, dns, PREPROCESS=f"preprocess:{stack.preprocess.port}",
                          CLASSIFY=f"classify:{stack.classify.port}")
        running.callback(gateway.stop)
        gateway.start()
        for pool in ("preprocess", "classify"):
            gateway.wait_up(1, pool)
        for victim in stack.preprocess.sandboxes():  # whichever worker comes next has a loss
            os.kill(victim, signal.SIGKILL)
        for n in range(3):
            stack.result(gateway.upload(encode(gradient(64 + n, 48))).json())
        check_the_scrapes(stack)
        targets = {"preprocess": stack.preprocess.port, "classify": stack.classify.port, "gateway": gateway.metrics_port}
        prometheus = running.enter_context(Prometheus(tmp_path, targets))
        wait_for(lambda: prometheus.is_up(3), "all targets to be scraped")
        for expression in QUERIES:
            if re.search(RARE, expression):
                prometheus.query(filled(expression))  # an error of the query is an error here
            else:
                wait_for(lambda expression=expression: prometheus.query(filled(expression)), f"a value of {expression}", 20)
        rules = wait_for(lambda: [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]
                                  if rule["health"] == "ok"], "the rules")
        assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
        assert not prometheus.query('ALERTS{alertstate="firing"}')


def check_the_scrapes(stack):
    program, environment = tool("promtool")
    for service in (stack.preprocess, stack.classify):
        text = service.get("/metrics").body
        done = subprocess.run([program, "check", "metrics"], input=text, env=environment, capture_output=True, check=False)
        complaints = [line for line in done.stderr.decode().splitlines() if not line.startswith("process_")]
        assert not complaints, complaints
