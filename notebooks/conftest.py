"""nbval compares text; pictures, widgets and HTML are run but not compared."""


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += (
            "text/html",
            "application/javascript",
            "application/vnd.plotly.v1+json",
            "application/vnd.jupyter.widget-view+json",
            "image/png",
            "image/svg+xml",
            "stderr",
        )
