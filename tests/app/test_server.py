"""What the server answers, without a browser: pictures in, matches and files out, and everything that it refuses."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import h5py
import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from lfnet.app.pictures import Pictures
from lfnet.app.requests import DownloadRequest, MatchRequest, TargetRequest, read_request
from lfnet.app.server import PAGE, listen, make_application
from lfnet.app.service import Service
from lfnet.errors import UserError
from lfnet.integrations import hloc
from lfnet.integrations.arrays import from_arrays
from support.pictures import png_header

HOME = "http://127.0.0.1:8765"
SMALL = {"keypoints": 200, "size": 320}


@pytest.fixture
def client(service: Service) -> TestClient:
    """The server, as its own page sees it."""
    return TestClient(make_application(service, 8765), base_url=HOME)


def put(client: TestClient, content: bytes) -> httpx.Response:
    return client.post("/pictures", content=content)


@pytest.fixture
def token(client: TestClient, coffee_file: bytes) -> str:
    return put(client, coffee_file).json()["token"]


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", **options)
    return content.getvalue()


def test_the_page_and_its_parts_are_served_under_a_strict_policy(client: TestClient) -> None:
    for address, (_, kind) in PAGE.items():
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    for address in ("/page.html", "/../pyproject.toml", "/samples/dog.jpg", "/pictures/unknown"):
        assert client.get(address).status_code in (404, 410), address


def test_one_picture_with_itself_is_matched_where_the_sliders_say(client: TestClient, token: str) -> None:
    request = {"first": token, "second": token, "pose": {"turn": 40, "zoom": 0.8}, "network": SMALL, "scores": True}
    answer = client.post("/match", json=request)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["first"]["width"], found["first"]["height"]) == (320, 213)
    assert 60 < len(found["matches"]) == len(found["inliers"]) == len(found["right"])
    assert np.mean(found["right"]) > 0.5
    assert np.mean(np.array(found["right"])[found["inliers"]]) > 0.9
    corners = np.array([[0, 0, 1], [319, 0, 1], [319, 212, 1], [0, 212, 1]], float).T
    places = [matrix @ corners for matrix in map(np.array, (found["model"], found["second"]["matrix"]))]
    places = [place[:2] / place[2] for place in places]
    assert np.abs(places[0] - places[1]).max() < 3, "the homography found is that of the sliders"
    assert set(found["stages"]) == {"turn", "detect", "describe", "match", "verify"}
    assert min(found["stages"].values()) >= 0
    assert all(drawing.startswith("data:image/webp;base64,") for drawing in found["scores"])
    again = client.post("/match", json={**request, "pose": {"turn": 41, "zoom": 0.8}, "geometry": "fundamental"}).json()
    assert again["kept"], "the first picture is not looked at again"
    assert 0 < sum(again["inliers"]) <= len(again["matches"])


def test_both_packaged_weights_can_be_chosen(client: TestClient, token: str) -> None:
    names = client.get("/about").json()["weights"]
    assert set(names) >= {"lfnet-cpu", "lfnet-lean"}
    for weights in names:
        request = {"first": token, "second": token, "network": {**SMALL, "weights": weights}, "geometry": "none"}
        found = client.post("/match", json=request).json()
        assert all(found["right"]), "a picture as it came is the same picture"
        assert found["model"] is None
    request["network"]["weights"] = "../../etc/passwd"
    answer = client.post("/match", json=request)
    assert answer.status_code == 400
    assert "expected one of lfnet-cpu, lfnet-lean" in answer.json()["error"]


def test_the_target_is_painted_by_the_pose(client: TestClient, token: str) -> None:
    found = client.post("/target", json={"second": token, "pose": {"turn": 30, "zoom": 1.0}}).json()
    assert set(found["drawings"]) == {"view_j", "scores_j", "warped", "view_i", "scores_i", "target"}
    assert found["dots"] > 30
    assert 0.7 < found["seen"] < 1
    whole = client.post("/target", json={"second": token}).json()
    assert whole["seen"] == 1
    assert whole["drawings"]["view_i"] == found["drawings"]["view_i"]
    assert whole["drawings"]["target"] != found["drawings"]["target"]


def test_features_are_in_pixels_of_the_picture_as_it_came(client: TestClient, token: str, tmp_path: Path) -> None:
    match = {"first": token, "second": token, "network": SMALL}
    names = ["<img src=x onerror=alert(1)>.jpg", "../../b.jpg"]
    files = {}
    for kind in ("h5", "npz", "csv"):
        answer = client.post("/features", json={"match": match, "format": kind, "names": names})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == f'attachment; filename="features.{kind}"'
        files[kind] = answer.content
    (tmp_path / "features.h5").write_bytes(files["h5"])
    with h5py.File(tmp_path / "features.h5", "r") as file:
        assert hloc.list_names(file) == sorted(["<img src=x onerror=alert(1)>.jpg", "b.jpg"])
        features = hloc.read_features(file, "b.jpg")
    assert features.image_size == (600, 400)
    assert 300 < features.keypoints[:, 0].max() < 600
    arrays = np.load(io.BytesIO(files["npz"]))
    second = from_arrays({name[7:]: arrays[name] for name in arrays if name.startswith("second_")})
    assert np.array_equal(second.keypoints, features.keypoints)
    rows = files["csv"].decode().splitlines()
    assert rows[0].startswith("picture,x,y,scale,orientation,score,descriptor_0,")
    assert len(rows) == 1 + 2 * len(features)
    assert np.allclose(np.array(rows[-1].split(",")[1:3], float), features.keypoints[-1], rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not a picture in any known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n", "not a picture in any known format"),
        (png_header(60_000, 60_000), "more than the limit of 50 megapixels"),
        (jpeg(np.zeros((8, 300, 3), np.uint8)), "300 x 8 pixels are too few"),
    ],
)
def test_files_that_are_no_use_are_refused_in_one_line(client: TestClient, content: bytes, message: str) -> None:
    answer = put(client, content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_file_cut_short_is_refused_and_the_next_one_is_not(client: TestClient, coffee_file: bytes) -> None:
    answer = put(client, coffee_file[:20_000])
    assert (answer.status_code, "damaged or cut short" in answer.json()["error"]) == (400, True)
    assert put(client, coffee_file).status_code == 201


def test_exif_turns_the_picture_and_goes_no_further(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "<script>alert(1)</script>"
    sent = put(client, jpeg(np.zeros((60, 90, 3), np.uint8), exif=exif))
    assert sent.json()["size"] == [60, 90], "upright"
    shown = client.get(f"/pictures/{sent.json()['token']}")
    assert shown.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(shown.content))
    assert picture.size == (60, 90)
    assert not picture.getexif()
    assert b"script" not in shown.content + sent.content


def test_bodies_and_their_time_are_bounded(
    service: Service, coffee_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "limits", replace(service.limits, upload_bytes=30_000, upload_seconds=0.2))
    application = make_application(service, 8765)
    client = TestClient(application, base_url=HOME)
    answer = put(client, coffee_file)
    assert (answer.status_code, answer.json()["error"]) == (413, "more than 0.0286102 MB; send a smaller file")
    assert client.post("/match", content=b" " * 100_000).status_code == 413

    async def slowly() -> httpx.Response:
        async def parts() -> Any:
            yield b"a"
            await anyio.sleep(30)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url=HOME) as slow:
            return await slow.post("/pictures", content=parts())

    assert anyio.run(slowly).status_code == 408


def test_a_picture_that_takes_too_long_to_decode_ends_its_process_alone(
    service: Service, client: TestClient, token: str, coffee_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, matcher = service.decoder.pid, service.matcher.pid
    with monkeypatch.context() as hurried:
        hurried.setattr(service.decoder, "seconds", 0.2)
        os.kill(decoder, signal.SIGSTOP)  # It answers never, however fast the machine is.
        answer = put(client, coffee_file)
    assert (answer.status_code, "took longer than 0.2 seconds" in answer.json()["error"]) == (503, True)
    assert put(client, coffee_file).status_code == 201
    assert service.decoder.pid not in (None, decoder)
    assert service.matcher.pid == matcher
    assert client.get(f"/pictures/{token}").status_code == 200, "what is held stays"


def test_more_requests_than_may_wait_are_refused(
    service: Service, coffee_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "limits", replace(service.limits, waiting=0))
    answer = put(TestClient(make_application(service, 8765), base_url=HOME), coffee_file)
    assert (answer.status_code, "too many requests" in answer.json()["error"]) == (503, True)


def test_a_picture_that_is_let_go_is_gone(client: TestClient, token: str) -> None:
    assert client.get(f"/pictures/{token}").status_code == 200
    assert client.delete(f"/pictures/{token}").status_code == 204
    assert client.get(f"/pictures/{token}").status_code == 410
    assert client.post("/match", json={"first": token, "second": token}).status_code == 410


def test_only_the_newest_of_a_page_is_answered_and_every_page_has_its_answer(
    service: Service, coffee_file: bytes
) -> None:
    application = make_application(service, 8765)

    async def ask(pages: list[str]) -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url=HOME, timeout=600) as client:
            token = (await client.post("/pictures", content=coffee_file)).json()["token"]
            codes = [0] * len(pages)

            async def one(number: int) -> None:
                pose = {"turn": 7.0 * number, "zoom": 1.0}
                values = {"first": token, "second": token, "pose": pose, "network": SMALL}
                answer = await client.post("/match", json=values, headers={"x-page": pages[number]})
                codes[number] = answer.status_code

            async with anyio.create_task_group() as group:
                for number in range(len(pages)):
                    group.start_soon(one, number)
            return codes

    same = anyio.run(ask, ["one"] * 10)
    assert same.count(200) == 1
    assert same.count(409) == 9
    assert anyio.run(ask, [f"page {number}" for number in range(10)]) == [200] * 10


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (MatchRequest, b"{", "expected a request in JSON"),
        (MatchRequest, b"[1]", "expected a table"),
        (MatchRequest, b'{"first": "a"}', "missing"),
        (MatchRequest, b'{"first": "a", "second": "b", "colour": 1}', "unknown setting colour"),
        (MatchRequest, b'{"first": "a", "second": "b", "pose": {"turn": NaN}}', "turn: expected a number in"),
        (MatchRequest, b'{"first": "a", "second": "b", "network": {"size": 100000}}', "size: expected a number in"),
        (MatchRequest, b'{"first": "a", "second": "b", "geometry": "essential"}', "geometry: expected one of"),
        (TargetRequest, b'{"second": 5}', "second: expected str, got 5"),
        (DownloadRequest, b'{"match": {"first": "a", "second": "b"}, "format": "exe"}', "format: expected one of"),
    ],
)
def test_requests_that_cannot_be_meant_are_told_why(kind: type, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_request(kind, content)


def test_a_port_that_is_taken_is_told() -> None:
    message = r"--port \d+: Address already in use; give another one"
    with listen(0) as taken, pytest.raises(UserError, match=message):
        listen(taken.getsockname()[1])


def test_a_picture_sent_is_the_one_held_and_no_file_is_made(
    service: Service, client: TestClient, coffee_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "pictures", Pictures())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    token = put(client, coffee_file).json()["token"]
    assert len(service.pictures) == 1
    assert service.pictures.get(token).pixels.shape == (400, 600, 3)
    client.post("/match", json={"first": token, "second": token, "network": SMALL})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bare() -> TestClient:
    """A server whose workers are not needed and not started."""
    return TestClient(make_application(Service(), 8765), base_url=HOME)


@pytest.mark.parametrize(
    ("headers", "method", "address", "allowed"),
    [
        ({}, "GET", "/about", True),
        ({"host": "localhost:8765"}, "GET", "/about", True),
        ({"host": "127.0.0.1:8766"}, "GET", "/about", False),
        ({"host": "127.0.0.1"}, "GET", "/about", False),
        ({"host": "rebound.example:8765"}, "GET", "/", False),
        ({"host": "127.0.0.1:8765.example"}, "GET", "/", False),
        ({"origin": HOME}, "DELETE", "/pictures/x", True),
        ({"origin": "http://localhost:8765"}, "DELETE", "/pictures/x", True),
        ({"origin": "http://127.0.0.1:9999"}, "DELETE", "/pictures/x", False),
        ({"origin": "https://127.0.0.1:8765"}, "DELETE", "/pictures/x", False),
        ({"origin": "https://elsewhere.example"}, "DELETE", "/pictures/x", False),
        ({"origin": "null"}, "DELETE", "/pictures/x", False),
        ({"sec-fetch-site": "same-origin"}, "GET", "/about", True),
        ({"sec-fetch-site": "cross-site"}, "GET", "/about", False),
        ({"sec-fetch-site": "same-site"}, "GET", "/page.js", False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "GET", "/", True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "GET", "/about", False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "GET", "/", False),
    ],
)
def test_other_hosts_and_origins_are_refused(
    bare: TestClient, headers: dict[str, str], method: str, address: str, allowed: bool
) -> None:
    answer = bare.request(method, address, headers=headers)
    assert (answer.status_code < 300) == allowed, answer.text
    assert allowed or answer.status_code == 403
    assert "content-security-policy" in answer.headers
    assert "access-control-allow-origin" not in answer.headers
