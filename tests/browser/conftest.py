"""JupyterLab in headless Chromium. The browser's own network stays on the machine: any other request fails the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

HERE = Path(__file__).resolve().parent
TOKEN = "saekit-test"
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}',
    "apputils-extension/themes": '{"theme": "JupyterLab Light", "adaptive-theme": false}',
}


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The machine's own Chromium when there is one (SAEKIT_CHROMIUM names another), else Playwright's."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("SAEKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    own = {"executable_path": found} if found else {}
    return {**browser_type_launch_args, **own, "args": ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A JupyterLab server with an empty home, its kernels able to import saekit, conftest and tiny."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "root"
    root.mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for name, text in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    env = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "JUPYTER_CONFIG_DIR": f"{home}/config",
        "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
        "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{home}/workspaces",
        "IPYTHONDIR": f"{home}/ipython",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    base = f"http://127.0.0.1:{port}"
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            for _ in range(600):
                assert server.poll() is None, (home / "lab.log").read_text()
                try:
                    urllib.request.urlopen(f"{base}/api/status?token={TOKEN}", timeout=1)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.2)
            yield SimpleNamespace(base=base, root=root, token=TOKEN)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


class Notebook:
    """One open notebook: run a cell by number, read what it printed."""

    def __init__(self, page: Any, lab: Any, name: str, cells: list[str]) -> None:
        self.page = page
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(nb, lab.root / name)
        page.set_default_timeout(60_000)
        page.goto(f"{lab.base}/lab/tree/{name}?token={lab.token}&reset")
        ready = f"window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length >= {len(cells)}"
        page.wait_for_function(ready, timeout=120_000)
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready")

    def run(self, i: int) -> None:
        """Runs cell i and waits until it has finished; its error, if any, fails the test."""
        self.page.evaluate(
            """async i => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = i;
                await window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            i,
        )
        error = self.cell(i).locator("[data-mime-type='application/vnd.jupyter.stderr']")
        assert error.count() == 0, error.first.inner_text()

    def cell(self, i: int) -> Any:
        return self.page.locator(".jp-CodeCell").nth(i)

    def printed(self, i: int) -> str:
        """Runs cell i and returns the text it printed."""
        self.run(i)
        return str(self.cell(i).locator(".jp-OutputArea-output pre").last.inner_text()).strip()

    @property
    def n_cells(self) -> int:
        return int(self.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length"))

    def theme(self, dark: bool) -> None:
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", name)
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(not dark).lower()}'")


@pytest.fixture
def notebook(page: Any, lab: Any, request: pytest.FixtureRequest) -> Any:
    """notebook([cell, ...]) opens a new notebook; afterwards its kernel is shut down."""
    name = f"{request.node.name.split('[')[0]}.ipynb"
    yield lambda cells: Notebook(page, lab, name, cells)
    page.evaluate("window.jupyterapp?.serviceManager?.sessions?.shutdownAll()")


def eventually(read: Any, expected: Any, seconds: float = 15) -> None:
    """Asserts that `read()` comes to equal `expected`: for what the browser sends to Python."""
    end = time.monotonic() + seconds
    while (got := read()) != expected and time.monotonic() < end:
        time.sleep(0.2)
    assert got == expected
