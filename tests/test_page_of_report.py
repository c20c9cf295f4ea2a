"""The load tests' report in a real browser."""

import json
from pathlib import Path

from playwright.sync_api import Browser

from made_up import made_up
from stack import load


def test_a_report_can_be_read_on_a_telephone(tmp_path: Path, browser: Browser) -> None:
    folder = made_up(tmp_path / "run")
    conditions = json.loads((folder / "run.json").read_text())
    conditions["scenarios"] |= {f"made_up_{number}": conditions["scenarios"]["made_up"] for number in range(10)}
    (folder / "run.json").write_text(json.dumps(conditions | {"loaded": f"http://{'long' * 30}.example"}))
    assert load("--report", folder).returncode == 0
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((folder / "report.html").as_uri())
    for details in page.locator("details").all():
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    label = page.locator("svg text").first
    assert label.evaluate("text => text.getBoundingClientRect().height") > 8
    page.close()
