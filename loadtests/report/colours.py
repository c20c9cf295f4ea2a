"""The report's colours, for light and dark.

WSGI is vermilion and ASGI blue throughout: Okabe and Ito's palette, which people with any colour vision can tell apart.
"""

# Matplotlib needs colours; these are placeholders that the finished SVG replaces with CSS variables.
INK, FAINT, WSGI, ASGI, HAPROXY, BAD, PAPER = (f"#0{n}0{n}0{n}" for n in range(1, 8))
VARIABLES = {INK: "ink", FAINT: "faint", WSGI: "wsgi", ASGI: "asgi", HAPROXY: "haproxy", BAD: "bad", PAPER: "paper"}
LIGHT = "--ink:#1c1c1c;--faint:#c9c9c9;--wsgi:#b84900;--asgi:#0068a8;--haproxy:#7a7a7a;--bad:#b3001b;--paper:#fff"
DARK = "--ink:#e8e6e3;--faint:#4a4a4a;--wsgi:#ff9a4d;--asgi:#63b8f0;--haproxy:#9a9a9a;--bad:#ff7b8a;--paper:#16181a"
STYLE = f":root{{{LIGHT}}}@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}@media print{{:root{{{LIGHT}}}}}"
COLOURS = {"wsgi": WSGI, "asgi": ASGI, "haproxy": HAPROXY}
