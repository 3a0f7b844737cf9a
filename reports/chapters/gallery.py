"""The figures of a report: which there are, what each is called, and the caption that explains it."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from ..card.figure import card
from ..card.tables import share_table, value_table, verdict_table
from ..card.words import varying
from ..draw.auc_by_method import auc_by_method
from ..draw.cost import cost
from ..draw.evaluation import MOST, compared, evaluation
from ..draw.faithfulness import faithfulness, own_curves
from ..draw.mismatch import mismatch
from ..draw.panels import LEADING, MOST_LINES, has_bands
from ..draw.precision_recall import precision_recall
from ..draw.roc import roc
from ..draw.structures import structures
from ..draw.true_size import true_size
from ..read.curves import curve_tables
from ..read.results import Results


class Drawn(NamedTuple):
    """A figure with its title and the caption that explains it."""

    figure: Figure
    title: str
    caption: str


def gallery(results: Results) -> tuple[dict[str, Drawn], pd.DataFrame]:
    """The figures by name; and the mean curves drawn."""
    means, _ = curve_tables(results.store, results.recovery)
    drawn = _recovery(results, means)
    if len(results.faithfulness):
        drawn |= _evaluation(results)
    if len(results.structures):
        drawn["structures"] = Drawn(
            structures(results.structures),
            "Structures found and missed",
            "A structure is found when the edges ranked first, as many as its smallest minimal circuit has, are a "
            "minimal circuit of that ablation; a tie across that border counts as missed. Methods that find most stand "
            "at the top, structures that most methods find at the left. Empty: not run, or undefined.",
        )
    return drawn, means


def _recovery(results: Results, means: pd.DataFrame) -> dict[str, Drawn]:
    """How well known circuits are found."""
    lines = "Each method is judged by the truth of the ablation it was run with. Lines are means over programs."
    if means["label"].nunique() > MOST_LINES:
        lines += f" The {LEADING} methods with the highest curves are told apart; all others are grey."

    def band(kind: str) -> str:
        shown = has_bands(means[means["kind"] == kind])
        return lines + " Shaded bands are pointwise 95 % bootstrap intervals over programs." * shown

    return {
        "auc_by_method": Drawn(
            auc_by_method(results.recovery, results.aggregate),
            "Area under the ROC curve",
            "Small dots are programs (mean over seeds and variants), large markers medians, bars 95 % bootstrap "
            "intervals over programs; the dashed line is chance. Each method is judged by "
            "the truth of the ablation it was run with.",
        ),
        "roc": Drawn(
            roc(means),
            "ROC curves",
            "How many true edges are found for how many false ones, as edges are added by absolute score. "
            f"{band('roc')} The diagonal is chance.",
        ),
        "precision_recall": Drawn(
            precision_recall(means),
            "Precision-recall curves",
            "How pure the ranking is down to each share of the true edges; few edges are true, so this tells more than "
            f"the ROC. {band('precision-recall')}",
        ),
        "true_size": Drawn(
            true_size(results.aggregate),
            "At the true size",
            "Precision and recall of the circuit with as many edges as the true one, medians over programs with 95 % "
            "bootstrap intervals. The two differ where a method scores too few edges above zero.",
        ),
        "cost": Drawn(
            cost(results.aggregate),
            "Cost against recovery",
            "Median number of passes over one example (forward and backward alike) that a cell takes, against the "
            "median area under the ROC curve with its interval. Methods that run no model stand at the "
            "left edge; the dashed line is chance.",
        ),
        "mismatch": Drawn(
            mismatch(results.mismatch),
            "Truth mismatch",
            "Median average precision when what was found under one ablation (rows) is scored against the true circuit "
            "of another (columns). Framed: both agree, which is how methods are judged elsewhere on this page. "
            "Blue is low, yellow high.",
        ),
    }


def _evaluation(results: Results) -> dict[str, Drawn]:
    """How faithful the circuits are."""
    sizes = list(results.faithfulness["size"].unique())
    size = sizes[0]  # the true one where there is one, else the smallest
    which = "the true size" if size == "true" else f"{100 * float(size):g} % of the edges"
    drawn, methods = {}, compared(results.faithfulness, size)["label"].nunique()
    if methods:
        which += f" (the {MOST} best of {methods} methods, by the mean of framed squares; the table has all)" * (
            methods > MOST
        )
        drawn["evaluation"] = Drawn(
            evaluation(results.faithfulness, size),
            "Faithfulness by discovery and evaluation ablation",
            f"Median faithfulness over tasks of circuits of {which}, found under one ablation (rows) and evaluated "
            "under another (columns): 1 is the full model, 0 the model with everything cut. Framed: both agree. Empty: "
            "not run; hatched: the setting has no meaning there; dotted: it has one, but no number, because the full "
            "model does no more than nothing.",
        )
    if len(results.areas):
        band, curves = " Shaded bands are 95 % bootstrap intervals over tasks.", own_curves(results.faithfulness)
        drawn["faithfulness"] = Drawn(
            faithfulness(results.faithfulness),
            "Faithfulness against circuit size",
            "Median over tasks of circuits of each size, found and evaluated under the same ablation. The dashed "
            "line is the full model." + band * has_bands(curves, "faithfulness_low", "faithfulness_high"),
        )
    found = results.sensitivity.card
    if found is not None:
        drawn["sensitivity"] = Drawn(
            card(value_table(found), share_table(found), verdict_table(found), varying(found)),
            "Sensitivity card",
            f"Circuits of {found['subject']}, in every setting in which they were evaluated: median faithfulness over "
            "programs with its 95 % bootstrap interval, ranks, and below them what each setting is. Where the circuit "
            "itself is cut, 1 less the faithfulness is shown, so that 1 speaks for the circuit in every setting. "
            "Shares of the variance have bars only where settings differ by more than noise.",
        )
    return drawn
