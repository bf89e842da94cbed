"""The bench's own parts, where a defect would not show: uploads that repeat, wrong arithmetic, missing figures."""
import http.server
import io
import json
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from conftest import BUILD, ROOT, SLOW, free_port

sys.path.insert(0, str(ROOT / "tests/bench"))
import background  # noqa: E402
import bench  # noqa: E402
import figures  # noqa: E402
import request_cost  # noqa: E402


def load(port, *arguments):
    done = subprocess.run([BUILD / "bench/load", "--port", str(port), *map(str, arguments)], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def pictures(tmp_path):
    """One file of each format that the client can mark."""
    paths = []
    picture = Image.effect_noise((320, 240), 60).convert("RGB")
    for extension in ("jpg", "png", "webp"):
        paths.append(tmp_path / f"picture.{extension}")
        picture.save(paths[-1])
    return paths


# ---- the load client

@pytest.mark.parametrize("form", [[], ["--multipart"]], ids=["raw", "form"])
def test_every_upload_is_another(preprocess, pictures, tmp_path, form):
    got = load(preprocess.port, "--count", 30, "--connections", 4, "--replies", tmp_path / "replies", *form, *pictures)
    assert (got["requests"], got["answered"], got["failed"]) == (30, 30, 0)
    replies = [json.loads(line) for line in (tmp_path / "replies").read_text().splitlines()]
    assert len({reply["id"] for reply in replies}) == 30


def test_two_runs_share_no_upload(preprocess, pictures, tmp_path):
    for name in ("one", "two"):
        load(preprocess.port, "--count", 3, "--replies", tmp_path / name, *pictures)
    ids = [json.loads(line)["id"] for name in ("one", "two") for line in (tmp_path / name).read_text().splitlines()]
    assert len(set(ids)) == 6


def test_marked_pictures_are_the_same_pictures(preprocess, pictures, tmp_path):
    """What is stored of a marked file has the pixels of what is stored of the plain one."""
    load(preprocess.port, "--count", 3, "--connections", 1, "--replies", tmp_path / "replies", "--path",
         "/preprocess?format=png", *pictures)
    for path, line in zip(pictures, (tmp_path / "replies").read_text().splitlines()):
        plain = preprocess.upload(path.read_bytes(), "?format=png", f"image/{path.suffix[1:].replace('jpg', 'jpeg')}").json()
        stored = [preprocess.get(f"/images/{i}").body for i in (plain["id"], json.loads(line)["id"])]
        pixels = [Image.open(io.BytesIO(data)).tobytes() for data in stored]
        assert plain["id"] != json.loads(line)["id"] and pixels[0] == pixels[1], path


def test_failures_are_counted_by_status(preprocess, pictures, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(pictures[0].read_bytes()[:1000])
    got = load(preprocess.port, "--count", 5, broken)
    assert (got["requests"], got["failed"], got["failures"]) == (0, 5, {"422": 5})


def test_broken_connections_are_failures(pictures):
    got = load(free_port(), "--count", 5, *pictures)
    assert (got["requests"], got["failures"]) == (0, {"broken": 5})


def test_a_joined_request_ends_with_its_result(stack, pictures, tmp_path):
    stack.objects.mkdir(exist_ok=True)
    got = load(stack.preprocess.port, "--count", 12, "--connections", 3, "--results", stack.objects, "--replies",
               tmp_path / "replies", *pictures)
    assert (got["requests"], got["failed"]) == (12, 0)
    replies = [json.loads(line) for line in (tmp_path / "replies").read_text().splitlines()]
    assert len(replies) == 12
    for reply in replies:
        assert json.loads((stack.objects / f"{reply['id']}.jpg.json").read_text())["id"] == reply["id"]


def test_json_bodies_in_turn(stack, pictures, tmp_path):
    load(stack.preprocess.port, "--count", 3, "--replies", tmp_path / "replies", *pictures)
    got = load(stack.classify.port, "--count", 9, "--path", "/classify", "--json", tmp_path / "replies", "--replies",
               tmp_path / "labels")
    assert (got["requests"], got["failed"]) == (9, 0)
    assert all(json.loads(line)["label"] for line in (tmp_path / "labels").read_text().splitlines())


# ---- its open loop

class Slow(http.server.BaseHTTPRequestHandler):
    """503 to everybody, after 0.3 s; to the others among them without saying when to come back."""
    protocol_version = "HTTP/1.1"
    seen = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.3)
        Slow.seen += 1
        self.send_response(503)
        if Slow.seen % 2:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def slow_port():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.idle
@pytest.mark.measures_time
def test_an_open_loop_does_not_wait_for_replies(slow_port, pictures, measurement):
    """40 a second for a second, though each takes 0.3 s on any of its connections."""
    got = load(slow_port, "--rate", 40, "--seconds", 1, "--connections", 100, *pictures)
    assert got["answered"] <= 41 and got["failed"] == got["requests"] == 0
    assert got["refused"] == got["answered"] and abs(got["without_retry_after"] - got["refused"] / 2) <= 2
    measurement.must(got["answered"] >= 38, f"{got['answered']} answered")
    assert got["refused_ms"]["p50"] >= 300
    measurement.must(got["refused_ms"]["p50"] < 600 * SLOW, f"refused after {got['refused_ms']['p50']} ms")


def test_an_open_loop_counts_from_the_planned_time(slow_port, pictures):
    """With one connection 40 a second have to wait, and the wait counts."""
    got = load(slow_port, "--rate", 40, "--seconds", 2, "--connections", 1, *pictures)
    assert got["refused"] <= 7
    assert got["refused_ms"]["max"] > 1200 and got["late_ms"]["max"] > 900


def test_an_open_loop_tells_accepted_from_refused(preprocess, pictures):
    got = load(preprocess.port, "--rate", 20, "--seconds", 1, "--connections", 50, *pictures)
    assert got["requests"] >= 10 and got["refused"] == got["failed"] == 0 and got["latency_ms"]["p50"] > 0


# ---- the arithmetic, on made-up numbers

def slices(per_second, p50=10.0, p99=15.0, **more):
    return {"connections": 8, "requests": 100, "failed": 0, "failures": {}, "per_second": per_second,
            "corrected_per_second": per_second, "less_sink_per_second": per_second, "cpu_ms_per_request": 4.0,
            "client_cpu_ms_per_request": 1.0, "latency_ms": {"p50": p50, "p95": p50, "p99": p99}} | more


FLOORS = {"a": 1000, "c": 1000, "e": 2000, "d": 100, "tensor": 1000, "b": 500, "stored_tensor": 1000, "put": 1000, "a+e": 500,
          "tensor+b": 300}


def one_round(**more):
    return FLOORS | {"cpu_ms": dict.fromkeys(FLOORS, 1.0)} | {
        f"{name}_{n}": slices(rate) for name, rate in (("preprocess", 300), ("classify", 300), ("joined", 100))
        for n in (8, 64)} | more


def verdicts(rounds, **memory):
    table = figures.bounds(rounds, {"preprocess": [10, 19, 30], "classify": [70, 61, 20]},
                           {s: {"sustained_mb": memory.get(s, [100.0] * 8)} for s in ("preprocess", "classify")})
    return {b.name.strip(): (b.figure, b.verdict) for b in table}


def test_correction_for_the_client():
    """Two cores for 10 s, of which the client had 4 CPU seconds: the service had 16 of 20."""
    assert figures.corrected(100, 10, 4, 2) == pytest.approx(125)
    assert figures.corrected(100, 10, 0, 2) == pytest.approx(100)


def test_costs_in_series_add_up():
    assert figures.in_series(1000, 1000, 2000) == pytest.approx(400)
    assert figures.in_series(1000, 500) == pytest.approx(1000 / 3)


def test_bounds():
    got = verdicts([one_round()])
    assert got["/preprocess 500 px, 8 connections, vs 1/(a + c + e)"] == (pytest.approx(0.75), "short")
    assert got["(a) and (e) in one loop, vs 1/(a + e)"] == (pytest.approx(0.75), "")
    assert got["/preprocess vs libvips (d)"] == (pytest.approx(3.0), "met")
    assert got["/classify raw, 8 connections, vs 1/(decode + b)"] == (pytest.approx(0.9), "short")
    # 1 + 1 + 0.5 + 1 + 2 + 1 ms
    assert got["joined, 8 connections, vs 1/(its floors)"] == (pytest.approx(0.65), "short")
    assert got["preprocess: p99 / p50 at 8 connections"] == (pytest.approx(1.5), "met")
    assert got["preprocess: exec to ready"] == (19, "met")
    assert got["classify: exec to ready"] == (61, "short")
    assert got["preprocess: PSS after sustained load"] == (100, "met")


def test_ratios_are_taken_round_by_round():
    """A machine that is slow for a while is slow for the floor and the service alike."""
    slow = one_round(**{k: v / 10 for k, v in FLOORS.items()}, preprocess_8=slices(30))
    rounds = [one_round(), slow, slow, one_round(), one_round()]
    assert verdicts(rounds)["/preprocess vs libvips (d)"] == (pytest.approx(3.0), "met")


def test_catalogue_bounds():
    pages = {"all": {"p50_ms": 1, "p99_ms": 3}, "tag": {"p50_ms": 2, "p99_ms": 11}}
    rounds = [{"preprocess_8": {"cpu_ms_per_request": ms}} for ms in (1, 2, 9)]
    got = figures.catalogue_bounds({"rows": 5, "pages": pages, "upload_cpu_us": {"without": 100, "with": 150}}, rounds)
    assert [(b.figure, b.verdict) for b in got] == [(11, "short"), (pytest.approx(0.025), "met")]
    assert "of 5" in got[0].name


def test_sealed_bound():
    rounds = [{"preprocess_8": {"cpu_ms_per_request": ms}} for ms in (1, 2, 9)]
    got, = figures.sealed_bounds({"seal_cpu_us": 30, "open_cpu_us": 20}, rounds)
    assert (got.figure, got.verdict) == (pytest.approx(0.025), "met")


def test_calls_against_peers():
    """CPU time, round by round; a server that is not there has no line."""
    called = {f"{kind}, {size}": [{"cpu_us": us * cpu, "per_second": 1} for us in (1, 1, 9)]
              for kind, cpu in (("REST, HTTP/1.1", 8), ("REST, HTTP/2", 4), ("gRPC", 5), ("grpc-go", 20)) for size in request_cost.SIZES}
    got = {b.name.removesuffix(", 100 B, CPU time a request"): b.figure for b in request_cost.bounds(called) if "100 B" in b.name}
    assert got == {"REST, HTTP/1.1 vs REST, HTTP/2": 2, "REST, HTTP/2 vs gRPC": 0.8, "grpc-go vs gRPC": 4}
    assert "NOT COMPARED: no python grpcio here" in request_cost.text(called)
    assert request_cost.body("application/grpc", 300) == b"\0\0\0\x01\x2f\x0a\xac\x02" + bytes(300)
    assert request_cost.body("application/proto", 5) == b"\x0a\5" + bytes(5)


def test_operations_against_opencv():
    """The faster side's ratio, pair by pair; without OpenCV there is no figure to compare."""
    got = figures.operation_bounds({"median 5": {"cpu_ms": [10, 20, 5], "opencv_cpu_ms": [13, 26, 5]},
                                    "mean 3": {"cpu_ms": [2.0], "opencv_cpu_ms": [1.0]},
                                    "rotate 90": {"cpu_ms": [2.0], "opencv_cpu_ms": []}})
    assert [(b.name.split(",")[0], b.figure, b.verdict) for b in got] == [
        ("median 5", pytest.approx(1.3), "met"), ("mean 3", 0.5, "short")]


def test_remove_background():
    """1/(1/100 + 1/10) is 9.09 a second; without a model there is nothing to compare."""
    one = {"codec": {"per_second": 100, "cpu_ms": 10}, "model": {"per_second": 10, "cpu_ms": 100},
           "ours": {"per_second": 10 / 1.1 * 0.8, "cpu_ms_per_request": 220}}
    beside = {"alone": slices(400), "together": slices(290)}
    got = background.bounds({"rounds": [one], "beside": [beside], "peak_mb": 399}, 4)
    assert [(b.figure, b.verdict) for b in got] == [
        (pytest.approx(0.8), "short"), (pytest.approx(0.5), ""), (399, "met"), (pytest.approx(290 / 300), "met")]
    assert background.bounds(None, 4) == []


def test_growth_compares_the_last_quarters():
    assert figures.growth([10, 50, 90, 90, 100, 100, 104, 104]) == pytest.approx(1.04)
    growing = verdicts([one_round()], classify=[10, 20, 30, 40, 50, 60, 70, 80])
    assert growing["classify: PSS, last quarter / third quarter"][1] == "short"
    assert figures.growth([1, 2, 3]) is None


def result(**more):
    rounds = [one_round()]
    table = figures.bounds(rounds, {s: [10] for s in ("preprocess", "classify")},
                           {s: {"sustained_mb": [1] * 8} for s in ("preprocess", "classify")})
    return {"bounds": [b.as_json() for b in table], "floors_per_second": {name: [1.0] for name in bench.FLOORS},
            "services": {f"{name}_{n}": [slices(1)] for name, n in bench.expected_services()}} | more


def test_a_whole_result_is_no_complaint():
    assert bench.complaints(result()) == []


@pytest.mark.parametrize("spoil", [
    lambda r: r["bounds"][0].update(figure=None),
    lambda r: r["floors_per_second"]["d"].clear(),
    lambda r: r["services"].pop("uri_64"),
    lambda r: r["services"]["12mp_1"][0].update(requests=0),
    lambda r: r["services"]["classify_8"][0].update(failed=1, failures={"503": 1}),
])
def test_what_is_missing_is_told(spoil):
    spoilt = result()
    spoil(spoilt)
    assert bench.complaints(spoilt)
