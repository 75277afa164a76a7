"""Files that clients upload, and what is known of models."""

import asyncio
import contextlib
import io
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from replicate.client import Client

from mockserver import Tenant
from mockserver.backend.files import signature_of
from mockserver.backend.store import Bounds, Store
from mockserver.contract.api_error import ApiError
from mockserver.http.uploads import read_upload
from tests.helpers.documents import CONTRACT, KONTEXT

FILES = "/replicate/v1/files"


def png(width: int = 300, height: int = 200) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "png")
    return out.getvalue()


def upload(
    client: httpx.Client, content: bytes | None = None, name: str = "in.png", **fields: str
) -> httpx.Response:
    return client.post(
        FILES,
        files={"content": (name, png() if content is None else content, "image/png")},
        data=fields,
    )


def test_a_file_goes_through_its_life(client: httpx.Client, tenant: Tenant) -> None:
    response = upload(client, metadata='{"customer": 7}')
    assert response.status_code == 201
    file = response.json()
    assert file["name"] == "in.png"
    assert file["content_type"] == "image/png"
    assert file["size"] == len(png())
    assert file["checksums"] == {"sha256": sha256(png()).hexdigest(), "md5": md5(png()).hexdigest()}
    assert file["metadata"] == {"customer": 7}
    assert file["urls"]["get"] == f"{tenant.url}{FILES}/{file['id']}"
    assert client.get(file["urls"]["get"]).json() == file
    assert client.get(FILES).json()["results"] == [file]
    content = client.get(file["urls"]["get"] + "/download")
    assert content.content == png()
    assert content.headers["content-disposition"] == "attachment"
    gone = client.delete(file["urls"]["get"])
    assert (gone.status_code, gone.content) == (204, b"")
    for path in ("", "/download"):
        assert client.get(file["urls"]["get"] + path).status_code == 404
    assert client.get(FILES).json()["results"] == []
    assert tenant.verdict()["ok"]


def test_files_are_a_tenants_own(client: httpx.Client) -> None:
    url = upload(client).json()["urls"]["get"]
    client.headers["Authorization"] = "Bearer somebody-else"
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404


def test_they_are_listed_newest_first(client: httpx.Client) -> None:
    ids = [upload(client, name=f"{number}.png").json()["id"] for number in range(3)]
    assert [file["id"] for file in client.get(FILES).json()["results"]] == ids[::-1]


def test_a_file_is_gone_after_a_day_of_the_tenants_time(
    client: httpx.Client, tenant: Tenant
) -> None:
    file = upload(client).json()
    tenant.advance(24 * 3600 - 60)
    assert client.get(file["urls"]["get"]).status_code == 200
    tenant.advance(61)
    assert client.get(file["urls"]["get"]).status_code == 404
    assert client.get(FILES).json()["results"] == []


def test_a_file_as_input_image_gives_the_picture_its_ratio(client: httpx.Client) -> None:
    for width, height, expected in [(300, 200, (1248, 832)), (200, 300, (832, 1248))]:
        url = upload(client, png(width, height)).json()["urls"]["get"]
        prediction = client.post(
            KONTEXT, json={"input": {"prompt": "p", "input_image": url}}
        ).json()
        for _ in range(2):
            prediction = client.get(prediction["urls"]["get"]).json()
        assert Image.open(io.BytesIO(client.get(prediction["output"]).content)).size == expected


def test_a_file_that_is_no_picture_leaves_the_ratio_as_usual(client: httpx.Client) -> None:
    url = upload(client, b"no picture").json()["urls"]["get"]
    prediction = client.post(KONTEXT, json={"input": {"prompt": "p", "input_image": url}})
    assert prediction.status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"files": {"other": ("a", b"a")}}, 422, "content is required"),
        (
            {"files": {"content": ("a", b"a")}, "data": {"metadata": "[]"}},
            422,
            "metadata must be a JSON object",
        ),
        (
            {"files": {"content": ("a", b"a")}, "data": {"metadata": "{"}},
            422,
            "metadata must be a JSON object",
        ),
        ({"json": {"content": "a"}}, 415, "multipart/form-data"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "not valid multipart",
        ),
        (
            {
                "content": b'--b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\nx\r\n--b',
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            400,
            "it ends before its closing boundary",
        ),
        *(
            (
                {
                    "content": b'--b\r\nContent-Disposition: form-data; name="content"; filename="\\ud800+2AA-"\r\n'
                    b"Content-Type: text/plain\r\n\r\nx\r\n--b--\r\n",
                    "headers": {
                        "Content-Type": f"multipart/form-data; boundary=b; charset={charset}"
                    },
                },
                400,
                "not valid multipart",
            )
            for charset in ("undefined", "unicode_escape", "utf-7")
        ),
    ],
)
def test_what_is_no_upload_is_refused(
    client: httpx.Client, request_: dict[str, Any], status: int, message: str
) -> None:
    response = client.post(FILES, **request_)
    assert response.status_code == status
    assert message in response.json()["detail"]
    assert (
        CONTRACT.by_id["uploadFile"].check_response(status, "application/json", response.json())
        == []
    )


UPLOAD = (
    b'--abc\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\nx\r\n--abc--\r\n'
)


@pytest.mark.parametrize(
    "boundary",
    ["boundary*=undefined''abc", "boundary*=idna''abc", "boundary*=abc; boundary*0=abc"],
)
def test_a_boundary_that_cannot_be_read_is_refused_and_recorded(
    client: httpx.Client, tenant: Tenant, boundary: str
) -> None:
    headers = {"Content-Type": f"multipart/form-data; {boundary}"}
    response = client.post(FILES, content=UPLOAD, headers=headers)
    assert response.status_code == 400
    assert "not valid multipart/form-data" in response.json()["detail"]
    assert [exchange["response"]["status"] for exchange in tenant.requests()] == [400]


PARAMETER_PIECES = ["boundary", "charset", "*", "*0", "*1*", "=", "''", "'", '"', ";", " ", "\\"]
CHARSETS = ["undefined", "idna", "punycode", "utf-7", "utf-16", "unicode_escape", "hex", "mbcs"]


@given(
    st.lists(
        st.sampled_from([*PARAMETER_PIECES, *CHARSETS, "abc", "%ff", "%00"])
        | st.text(st.characters(max_codepoint=255), max_size=4),
        max_size=12,
    ).map("".join)
)
@example("boundary*=undefined''abc")
@example("boundary*=abc; boundary*0=abc")
@example("boundary*0=a; boundary*2*=''bc")
@example("boundary=abc; charset=undefined")
def test_no_content_type_makes_an_upload_an_internal_error(parameters: str) -> None:
    with contextlib.suppress(ApiError):
        upload = asyncio.run(read_upload(f"multipart/form-data; {parameters}", UPLOAD))
        assert upload.content == b"x"


@pytest.mark.thorough
def test_a_file_over_the_limit_is_refused_and_others_are_served(client: httpx.Client) -> None:
    limit = CONTRACT.by_id["uploadFile"].max_body
    assert limit is not None
    response = upload(client, b"x" * limit)
    assert response.status_code == 413
    assert upload(client, b"x" * (CONTRACT.max_body + 1)).status_code == 201
    assert client.get(FILES).status_code == 200


def test_a_name_is_only_a_name(client: httpx.Client, tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "a\x00b", '"><script>', "x" * 1000):
        assert upload(client, name=name).status_code == 201


@pytest.mark.parametrize(
    ("name", "kind"), [("x" * 1025, "text/plain"), ("x", "text/" + "x" * 1020)]
)
def test_a_name_has_a_length(client: httpx.Client, name: str, kind: str) -> None:
    response = client.post(FILES, files={"content": (name, b"x", kind)})
    assert (response.status_code, "have at most 1024 characters" in response.json()["detail"]) == (
        400,
        True,
    )


def test_files_are_bounded(client: httpx.Client) -> None:
    from mockserver.backend.files import StoredFile, Upload
    from mockserver.backend.memory import FILE, TENANT
    from mockserver.clock import Clock

    store = Store(
        1, Clock, Bounds(files_per_tenant=2, bytes_per_tenant=TENANT + 1 + 2 * FILE + 100)
    )
    tenant = store.tenant("t")
    for size in (10, 20, 30):
        store.put_file(
            tenant, StoredFile(tenant.next_file_id(), Upload.of("n", "t/t", b"x" * size), 0)
        )
    assert [len(file.content) for file in tenant.files.values()] == [20, 30]
    store.put_file(tenant, StoredFile(tenant.next_file_id(), Upload.of("n", "t/t", b"x" * 80), 0))
    held = FILE + len(b"{}" + b"n" + b"t/t") + 80
    base = TENANT + len("t")
    assert (len(tenant.files), tenant.meter.bytes, store.counts()["bytes"]) == (
        1,
        base + held,
        base + held,
    )
    store.reset("t")
    assert store.counts()["bytes"] == base


def test_the_official_python_client_uploads_uses_and_deletes(
    tenant: Tenant, tmp_path: Path
) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(png())
    client = Client(api_token=tenant.token, base_url=tenant.base_url)
    file = client.files.create(path, metadata={"customer": 7})
    assert client.files.get(file.id).metadata == {"customer": 7}
    assert [item.id for item in client.files.list()] == [file.id]
    with path.open("rb") as handle:
        assert client.run(
            "black-forest-labs/flux-kontext-max", input={"prompt": "p", "input_image": handle}
        )
    client.files.delete(file.id)
    assert len(client.files.list()) == 1  # the one that run() uploaded
    client._client.close()
    assert tenant.verdict()["ok"]


def signed(tenant: Tenant, secret: str, identifier: str, expiry: int) -> str:
    query = {
        "owner": "acme",
        "expiry": expiry,
        "signature": signature_of(secret, "acme", identifier, str(expiry)),
    }
    return f"{tenant.url}{FILES}/{identifier}/download?{urlencode(query)}"


def test_a_signed_url_needs_no_token_until_it_expires(client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze("2030-03-17T17:46:40Z")
    identifier, now = upload(client).json()["id"], 1_900_000_000
    secret = client.get("/replicate/v1/webhooks/default/secret").json()["key"]
    good = signed(tenant, secret, identifier, now + 60)
    assert httpx.get(good).content == png()
    assert httpx.get(good, headers={"Authorization": f"Bearer {tenant.token}"}).status_code == 200
    for wrong in (
        good.replace("acme", "mallory"),
        good.replace(f"expiry={now + 60}", f"expiry={now + 61}"),
        good.partition("&signature")[0],
        good.partition("?")[0],
        signed(tenant, "whsec_" + "AAAA" * 8, identifier, now + 60),
    ):
        refused = httpx.get(wrong)
        assert (refused.status_code, refused.headers["content-type"]) == (
            404,
            "application/problem+json",
        )
        assert refused.json()["detail"].startswith("File not found.")
    tenant.advance(61)
    assert httpx.get(good).status_code == 404
    assert tenant.verdict()["ok"], "such a download is the uploader's own"


def test_a_model_is_looked_up(client: httpx.Client, tenant: Tenant) -> None:
    official = Client(api_token=tenant.token, base_url=tenant.base_url)
    model = official.models.get("black-forest-labs/flux-kontext-max")
    assert (model.owner, model.name) == ("black-forest-labs", "flux-kontext-max")
    official._client.close()
    response = client.get("/replicate/v1/models/acme/none")
    assert response.status_code == 404
    assert "black-forest-labs/flux-kontext-max" in response.json()["detail"]


def test_after_a_reset_a_picture_is_that_of_the_new_file(
    client: httpx.Client, tenant: Tenant
) -> None:
    drawn = []
    for size in ((1000, 300), (300, 1000)):
        file = upload(client, png(*size)).json()
        requested = {"input": {"prompt": "a", "input_image": file["urls"]["get"]}}
        created = client.post(KONTEXT, json=requested, headers={"Prefer": "wait"}).json()
        drawn.append(
            (created["id"], Image.open(io.BytesIO(client.get(created["output"]).content)).size)
        )
        tenant.reset()
    (first, wide), (second, tall) = drawn
    assert first == second
    assert wide[0] > wide[1]
    assert tall[0] < tall[1]
