"""Figures as SVG that follows the reader's light or dark mode."""

import io
import re
import zlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from report.colours import FAINT, INK, STYLE, VARIABLES

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "load",
        "font.family": "sans-serif",
        "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
)


def panels(columns: int, rows: int = 1, height: float = 3.1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of the usual width with this many panels."""
    return plt.subplots(rows, columns, figsize=(10.5, height * rows), layout="constrained", squeeze=False, **options)


def svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element with its own colours and title."""
    figure.patch.set_alpha(0)
    written = io.StringIO()
    figure.savefig(written, format="svg", bbox_inches="tight", pad_inches=0.1, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    clips = dict.fromkeys(re.findall(r'<clipPath id="(\w+)"', text))  # random names; a page holds many figures
    for place, clip in enumerate(clips):
        text = text.replace(clip, f"clip-{zlib.crc32(title.encode()):x}-{place}")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    root = f'<svg role="img" aria-label="{label}" style="background:var(--paper)"'  # a page around it may have another
    return re.sub(r"<svg ([^>]*)>", rf"{root} \1><style>{STYLE}</style>", text, count=1)
