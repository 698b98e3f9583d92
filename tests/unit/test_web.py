"""The page as files: which paths are answered, with what, and that no other path is."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from daemon.door.web import FILES, WEB_CLIENT, Site

SITE = Site.load()


def get(path: str, *, method: str = "GET", **headers: str) -> Response | None:
    listed = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return SITE.answer(Request(path, listed, method=method), path=path)


def found(path: str, **headers: str) -> Response:
    response = get(path, **headers)
    assert response is not None
    return response


def test_every_file_of_the_folder_is_served_and_no_other() -> None:
    """A module that was added but not listed is a 404 in the middle of the page."""
    assert sorted(FILES.values()) == sorted(path.name for path in WEB_CLIENT.iterdir())


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_a_file_comes_whole_and_with_its_type(path: str, name: str) -> None:
    """A module with a wrong type does not run, since sniffing is forbidden."""
    types = {
        "html": "text/html",
        "css": "text/css",
        "js": "text/javascript",
        "svg": "image/svg+xml",
    }
    response = found(path)
    assert response.status_code == 200
    assert response.body == (WEB_CLIENT / name).read_bytes()
    assert response.headers["Content-Length"] == str(len(response.body))
    assert response.headers["Content-Type"].split(";")[0] == types[name.rsplit(".", 1)[1]]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; ")


@pytest.mark.parametrize(
    "path",
    [
        "/index.html/",
        "//",
        "/../daemon/door/web.py",
        "/%2e%2e/pyproject.toml",
        "/./app.js",
        "/app.js%00",
        "/web_client/app.js",
        "app.js",
        "",
        "/APP.JS",
        "/app.js/..",
        "\\app.js",
    ],
)
def test_no_other_path_is_answered(path: str) -> None:
    """A path that reaches the file system reads every file that the daemon may."""
    assert get(path) is None


def test_a_handshake_is_no_page() -> None:
    """`/` is both: the upgrade header tells which."""
    assert get("/", Upgrade="websocket") is None


def test_other_methods_are_left_to_others() -> None:
    """A page in answer to a POST would look like success."""
    assert get("/", method="POST") is None
    head = get("/", method="HEAD")
    assert head is not None
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(found("/").body))


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_the_browser_has_is_not_sent_again(form: str) -> None:
    """The page is asked for every time; that must cost a few bytes."""
    tag = found("/app.js").headers["ETag"]
    response = found("/app.js", If_None_Match=form.format(tag))
    assert response.status_code == 304
    assert response.body == b""
    assert response.headers["ETag"] == tag
    assert found("/app.js", If_None_Match='"other"').status_code == 200


def test_tags_differ_with_the_content(tmp_path: Path) -> None:
    """A page of an older daemon kept by the browser would speak an older protocol."""
    for name in FILES.values():
        (tmp_path / name).write_text("old")
    before = Site.load(tmp_path).answer(Request("/", Headers()), path="/")
    (tmp_path / "index.html").write_text("new")
    after = Site.load(tmp_path).answer(Request("/", Headers()), path="/")
    assert before is not None
    assert after is not None
    assert before.headers["ETag"] != after.headers["ETag"]


def test_half_a_page_is_not_served(tmp_path: Path) -> None:
    """A missing file must stop the start, not the first user."""
    with pytest.raises(FileNotFoundError):
        Site.load(tmp_path)


def test_only_modules_may_be_taken_by_other_origins() -> None:
    """Other pages import the player; nobody may frame or read the page."""
    assert found("/chatterbox-player.js").headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in found("/").headers


def test_whatever_the_page_refers_to_is_served() -> None:
    """Relative, so that the page also works below a path of a reverse proxy; nothing external."""
    referred: list[tuple[str, str]] = []
    for path, name in FILES.items():
        text = (WEB_CLIENT / name).read_text()
        assert not re.findall(
            r"""(?:src|href|from|import)\s*[=(]?\s*["'](?:https?:)?//(?!tts\.)""", text
        )
        referred += [(path, link) for link in re.findall(r'(?:src|href)="([^"#]+)"', text)]
        referred += [(path, link) for link in re.findall(r'from "(\./[^"]+)"', text)]
        referred += [(path, link) for link in re.findall(r'new URL\("(\./[^"]+\.js)"', text)]
    assert len(referred) > 15
    for path, link in referred:
        assert not link.startswith("/")
        assert urljoin(path, link) in FILES, f"{path} refers to {link}"


def test_the_page_holds_nothing_that_its_policy_forbids() -> None:
    """Inline script and style are what the policy stops, for the page as for an attacker."""
    page = (WEB_CLIENT / "index.html").read_text()
    assert "<style" not in page
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    assert not re.findall(r"\s(?:style|on\w+)=", page)
    for path in WEB_CLIENT.glob("*.js"):
        assert "innerHTML" not in path.read_text(), f"{path.name} may turn text into markup"
