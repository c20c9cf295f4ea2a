"""The front page, in a real browser: it shows what the replicas do."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from handle import SERVICES, run, wait_until
from stack import Stack
from ways import LocalStack

SECONDS = 30_000  # ms, far above noise


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """The page, opened. Afterwards it must have logged no error and contacted no other host."""
    complaints: list[str] = []
    asked: set[str] = set()
    page = browser.new_page(base_url=stack.url, viewport={"width": 1200, "height": 1000}, ignore_https_errors=True)
    page.set_default_timeout(SECONDS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: asked.add(urlsplit(request.url).hostname or ""))
    page.goto("/")
    yield page
    page.close()
    assert not complaints
    assert all(host in ("127.0.0.1", "") or host.split(".")[-1] == "localhost" for host in asked), asked


def card(page: Page, attribute: str) -> str:
    """Scroll to a card and return its selector."""
    selector = f"article[{attribute}]"
    page.locator(selector).scroll_into_view_if_needed()
    return selector


def figure(page: Page, selector: str, name: str) -> str:
    """Return a figure of a card."""
    return page.locator(f'{selector} [data-figure="{name}"]').inner_text()


def count(page: Page, selector: str, name: str) -> int:
    """Return a figure that counts, or 0 if there is none yet."""
    text = figure(page, selector, name)
    return int(text) if text.isdigit() else 0


def seconds(figure: str) -> float:
    """Convert a time as the page shows it, `12 ms` or `1.05 s`, to seconds."""
    number, unit = figure.split()
    return float(number) / {"ms": 1000, "s": 1}[unit]


def lanes(page: Page, service: str) -> dict[str, int]:
    """Return the number of responses in each lane."""
    rows = page.locator(f'article[data-requests="{service}"] .lanes tbody tr').all()
    return {row.locator("th").inner_text(): int(row.locator("td").nth(1).inner_text() or 0) for row in rows}


def test_each_answer_falls_into_the_lane_of_its_replica(page: Page, stack: Stack, service: str) -> None:
    requests = card(page, f'data-requests="{service}"')
    page.get_by_role("button", name=f"Send requests to {service.upper()}").click()
    wait_until(lambda: len(lanes(page, service)) == 3 and min(lanes(page, service).values()) > 5, "the lanes fill")
    page.locator(f"{requests} button").click()
    wait_until(
        lambda: sum(lanes(page, service).values()) == count(page, requests, "responses"), "all responses are counted"
    )
    assert set(lanes(page, service)) == stack.instances(service)
    assert figure(page, requests, "failed") == "0"
    percentiles = [seconds(figure(page, requests, f"p{share}")) for share in (50, 95, 99)]
    assert percentiles == sorted(percentiles)
    assert 0 < percentiles[0] < 1
    assert "Distribution of" in str(page.locator(f"{requests} .spread").get_attribute("aria-label"))


@pytest.mark.full
@pytest.mark.parametrize("fault", ["stopped", pytest.param("killed", marks=pytest.mark.compose)])
def test_the_lane_of_a_replica_that_is_gone_stops_and_others_take_over(
    page: Page, stack: Stack, service: str, fault: str
) -> None:
    requests = card(page, f'data-requests="{service}"')
    page.get_by_role("button", name=f"Send requests to {service.upper()}").click()
    wait_until(lambda: len(lanes(page, service)) == 3, "the lanes fill")
    victim = min(lanes(page, service))
    if fault == "killed":
        run("docker", "kill", victim)  # it stays down; a process would restart too soon
    else:
        stack.stop(victim)
    row = page.locator(f"{requests} .lanes tr", has_text=victim)
    expect(row).to_contain_text("silent", timeout=SECONDS)
    before = lanes(page, service)
    page.wait_for_timeout(1500)
    after = lanes(page, service)
    assert after[victim] == before[victim]
    assert all(after[other] > before[other] for other in before if other != victim)
    assert figure(page, requests, "failed") == "0"
    stack.start(victim)
    expect(row).not_to_contain_text("silent", timeout=SECONDS)
    stack.wait_whole()


@pytest.mark.parametrize("path", ["/asgi/events", "/wsgi/events"])
def test_an_event_stream_resumes_elsewhere_with_no_tick_lost(page: Page, stack: Stack, path: str) -> None:
    stream = card(page, f'data-path^="{path}"')
    page.locator(f"{stream} button").click()
    wait_until(lambda: figure(page, stream, "tick").isdigit(), "it ticks")
    victim, tick = figure(page, stream, "replica"), int(figure(page, stream, "tick"))
    stack.kill(*stack.pids(victim))
    wait_until(lambda: count(page, stream, "reopened") >= 1, "it is opened again")
    wait_until(lambda: int(figure(page, stream, "tick")) > tick + 3, "it ticks on")
    assert figure(page, stream, "lost") == "0"
    expect(page.locator(f"{stream} .log")).to_contain_text("none lost")
    page.locator(f"{stream} button").click()
    stack.wait_whole()


@pytest.mark.full
@pytest.mark.parametrize(("fault", "code"), [("drained", "1012"), ("killed", "1006")])
def test_a_websocket_that_is_closed_is_opened_again(page: Page, stack: Stack, fault: str, code: str) -> None:
    socket = card(page, 'data-path^="/asgi/ws"')
    page.locator(f"{socket} button").click()
    wait_until(lambda: figure(page, socket, "round trip")[0].isdigit(), "it echoes")
    victim = figure(page, socket, "replica")
    if fault == "drained":
        stack.stop(victim)
    else:
        stack.kill(*stack.pids(victim))
    wait_until(lambda: count(page, socket, "reopened") >= 1, "it is opened again")
    assert fault == "killed" or figure(page, socket, "replica") != victim  # a killed replica may be back by then
    expect(page.locator(f"{socket} .log")).to_contain_text(code)
    if fault == "drained":
        stack.start(victim)
    stack.wait_whole()


@pytest.mark.compose
@pytest.mark.full
def test_a_replica_that_is_added_gets_a_lane_and_one_that_is_taken_away_falls_silent(page: Page, stack: Stack) -> None:
    requests = card(page, 'data-requests="asgi"')
    scale = ("docker", "compose", "up", "--detach", "--no-recreate")
    page.get_by_role("button", name="Send requests to ASGI").click()
    wait_until(lambda: len(lanes(page, "asgi")) == 3, "the lanes fill")
    run(*scale, "--scale=asgi=4")
    wait_until(lambda: len(lanes(page, "asgi")) == 4, "there is one more lane")
    run(*scale, "--scale=asgi=3")
    expect(page.locator(f"{requests} .lanes tr", has_text="silent")).to_have_count(1, timeout=SECONDS)
    assert figure(page, requests, "failed") == "0"
    stack.wait_whole()


def test_its_links_lead_to_the_statistics_the_api_and_locust(page: Page, stack: Stack) -> None:
    links = page.get_by_role("navigation").get_by_role("link").evaluate_all("all => all.map(link => link.href)")
    locust = [] if isinstance(stack, LocalStack) else [f"http://127.0.0.1:{os.environ.get('LOCUST_PORT', '8089')}/"]
    assert links == [f"{stack.admin}/stats;no-maint", f"{stack.url}/asgi/docs", *locust]
    for link in links[:2]:
        assert httpx.get(link).status_code == 200


def test_it_speaks_of_what_runs(page: Page, stack: Stack) -> None:
    said = page.locator("body").inner_text()
    words = ("container", "docker", "scripts/local")
    assert [word in said for word in words] == (
        [False, False, True] if isinstance(stack, LocalStack) else [True, True, False]
    )


def test_more_waiting_requests_than_threads_wait_in_rows_on_wsgi_alone(page: Page) -> None:
    page.get_by_label("Requests to each").fill("24")
    page.locator("#wait button").click()
    took = {}
    for service in SERVICES:
        waiting = card(page, f'data-waiting="{service}"')
        wait_until(lambda: figure(page, waiting, "answered") == "24", "all are answered")  # noqa: B023
        assert figure(page, waiting, "failed") == "0"
        assert page.locator(f"{waiting} .bars i").count() == 48
        took[service] = seconds(figure(page, waiting, "took"))
    assert took["wsgi"] > 2  # three replicas with four threads each: two batches of 1 s
    assert took["asgi"] < took["wsgi"]


@pytest.mark.full
def test_a_service_that_is_down_is_shown_and_so_is_its_return(page: Page, stack: Stack, service: str) -> None:
    requests = card(page, f'data-requests="{service}"')
    stream = card(page, f'data-path^="/{service}/events"')
    page.locator(f"{stream} button").click()
    wait_until(lambda: figure(page, stream, "tick").isdigit(), "it ticks")
    tick = int(figure(page, stream, "tick"))
    stack.stop_service(service)
    wait_until(partial(no_replica, stack, service), "HAProxy has seen it")
    page.locator(f"{requests} button").click()
    expect(page.locator("#health")).to_contain_text(f"0 {service.upper()}", timeout=SECONDS)
    expect(page.locator(f"{requests} p.bad")).to_contain_text("503", timeout=SECONDS)
    expect(page.locator(f"{requests} .lanes tr.bad")).to_contain_text("failed")
    expect(page.locator(f"{stream} .log")).to_contain_text("not opened: 503")
    stack.start_service(service)
    expect(page.locator("#health")).to_contain_text(f"3 {service.upper()}", timeout=SECONDS)
    wait_until(lambda: int(figure(page, requests, "responses")) > 10, "responses come")
    wait_until(lambda: int(figure(page, stream, "tick")) > tick + 10, "it ticks on")
    assert figure(page, stream, "lost") == "0", "it asks for what came while nobody could send it"
    expect(page.locator(f"{requests} p.bad")).to_be_empty(timeout=60_000)  # old failures leave the 30 s shown
    stack.wait_whole()


def no_replica(stack: Stack, service: str) -> bool:
    return stack.up_servers(service) == 0


@pytest.mark.parametrize("width", [320, 1400])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_role("button", name="Send requests to ASGI").click()
    page.get_by_role("button", name="Open WSGI: Server-Sent Events").click()
    page.locator("#wait button").click()
    wait_until(lambda: lanes(page, "asgi") and page.locator(".bars i").count(), "there is something to be seen")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_text_stands_out_from_its_ground(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    value = "name => getComputedStyle(document.body).getPropertyValue(`--${name}`)"
    for ground in ("paper", "card"):
        for ink in ("ink", "soft", "wsgi", "asgi", "bad"):
            lighter, darker = sorted((luminance(page.evaluate(value, name)) for name in (ink, ground)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour.strip().removeprefix("#")
    step = len(digits) // 3
    red, green, blue = (int((digits[at : at + step] * 2)[:2], 16) / 255 for at in range(0, 3 * step, step))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_is_used_with_the_keyboard_alone(page: Page) -> None:
    button = page.get_by_role("button", name="Send requests to ASGI")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Stop requests to ASGI")).to_be_focused()
    wait_until(lambda: lanes(page, "asgi"), "answers come")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    expect(page.locator('article[data-requests="asgi"] output')).to_have_text("11")
    unnamed = page.locator("button, input, canvas, [role=img], [role=log]").evaluate_all(
        "all => all.filter(one => !one.ariaLabel && !one.labels?.length && !one.textContent.trim()).length"
    )
    assert unnamed == 0
