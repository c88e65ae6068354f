#!/usr/bin/env python3
"""Run a command, and draw what it writes as an animated SVG: each line appears when it was written.

    scripts/record_svg.py docs/first-command.svg -- scripts/invoke build smoke

A wait of more than WAIT seconds is drawn as one of WAIT; the last line has the seconds that the command took.

The picture needs no script: each line's opacity is animated by CSS, over and over, with a pause at the end.
Where animation is not wanted (`prefers-reduced-motion`), and on paper, all lines are there at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from html import escape
from pathlib import Path

#: Pixels, and characters of the widest line that is drawn.
LINE, MARGIN, WIDTH, COLUMNS = 18, 14, 800, 96

#: Seconds that the whole picture stays before it begins anew.
PAUSE = 6.0

#: Seconds that a wait for the next line is drawn as, at most: nobody watches a picture for minutes.
WAIT = 1.5

STYLE = """
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: #d8dee9; white-space: pre }
.prompt { fill: #a3be8c }
.time { fill: #7b88a1 }
@media screen and (prefers-reduced-motion: no-preference) {
  g.line { animation: %(total).1fs step-end infinite }
}
"""


def record(command: list[str]) -> tuple[list[tuple[float, str]], int]:
    """Run `command`; return its lines with the seconds since its start, and its exit code."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines = [(time.monotonic() - start, line.rstrip()) for line in process.stdout or ()]
    return lines, process.returncode


def shortened(lines: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the lines with their seconds as they are drawn, without what is above WAIT between two."""
    drawn, before, now = [], 0.0, 0.0
    for seconds, line in lines:
        now += min(seconds - before, WAIT)
        before = seconds
        drawn.append((now, line))
    return drawn


def draw(command: str, lines: list[tuple[float, str]]) -> str:
    """Return the picture of a command and of the lines that it wrote at their seconds."""
    took = lines[-1][0] if lines else 0.0
    lines = shortened(lines)
    end = lines[-1][0] if lines else 0.0
    total = end + PAUSE
    height = 2 * MARGIN + LINE * (len(lines) + 2)
    note = ", of which waits are shortened here" if took > end else ""
    rules, shown = [], []
    rows = [*lines, (end, "")]
    for number, (seconds, line) in enumerate(rows):
        share = 100 * seconds / total
        frames = f"0% {{ opacity: 0 }} {share:.2f}% {{ opacity: 1 }} 100% {{ opacity: 1 }}"
        rules.append(f"@keyframes l{number} {{ {frames} }}")
        y = MARGIN + LINE * (number + 2)
        text = f'<text x="{MARGIN}" y="{y}">{escape(line[:COLUMNS])}</text>'
        if number == len(rows) - 1:
            text = f'<text class="time" x="{MARGIN}" y="{y}">{took:.0f} seconds{note}</text>'
        shown.append(f'<g class="line" style="animation-name: l{number}">{text}</g>')
    prompt = f'<text class="prompt" x="{MARGIN}" y="{MARGIN + LINE}">$ {escape(command)}</text>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(command)}, as it ran</title>",
            f"<style>{STYLE % {'total': total}}{chr(10).join(rules)}</style>",
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#2e3440"/>',
            prompt,
            *shown,
            "</svg>",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Run what follows `--`, and write the picture only where that succeeds."""
    if len(arguments) < 3 or arguments[1] != "--":
        sys.stderr.write(__doc__ or "")
        return 2
    target, _, *command = arguments
    lines, code = record(command)
    if code:
        sys.stderr.write(f"error: {command[0]} ended with exit code {code}; {target} is as it was.\n")
        return 1
    Path(target).write_text(draw(" ".join(command), lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
