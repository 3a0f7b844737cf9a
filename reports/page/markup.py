"""Tables as text for papers and pages: Markdown, and LaTeX for the booktabs package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .table import MINUS, MISSING, Table


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown."""

    def row(texts: Iterable[str]) -> str:
        return (
            "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for text in texts) + " |"
        )

    rule = row("--:" if numeric else ":--" for numeric in table.numeric)
    body = [row(f"**{cell.text}**" if cell.best else cell.text for cell in cells) for cells in table.rows]
    return "\n".join([row(table.headings), rule, *body, "", table.caption, ""])


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MISSING: "--", MINUS: "$-$"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}"}


def latex_escaped(text: str) -> str:
    """Text with LaTeX's special characters made harmless; what stands between backticks is set as code."""
    escaped = "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", escaped)


def latex(table: Table) -> str:
    """The table in LaTeX, for the booktabs package, with caption and label."""

    def row(texts: Sequence[str]) -> str:
        return " & ".join(texts) + r" \\"

    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    body = [
        row([rf"\textbf{{{latex_escaped(cell.text)}}}" if cell.best else latex_escaped(cell.text) for cell in cells])
        for cells in table.rows
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\small",
        rf"\caption{{{latex_escaped(table.title + '. ' + table.caption)}}}",
    ]
    lines += [rf"\label{{tab:{table.name}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [row([latex_escaped(heading) for heading in table.headings]), r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", r"\end{table}", ""])
