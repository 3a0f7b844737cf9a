"""What there is to reproduce of a paper, before anything is run: its numbers, its figures, and what each part needs."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ...suite.plan import names
from ...suite.plan.estimate import spoken
from ...suite.plan.expand import size
from ...suite.plan.forecast import CERTIFIED_SECONDS
from ...suite.plan.spec import Spec
from ...tasks import load as load_task
from ..page.table import count, listed
from .entries import PaperPart
from .manifest import Manifest, is_the_papers


class Overview(NamedTuple):
    """What ``reproduce`` does of a paper, in words.

    Args:
        reports: the paper's tables and figures that values are of, with their number.
        judges: where our number of each value comes from, with their number.
        draws: the titles of the figures; those of the report by their names.
        parts: of each part, its cells, models, time and values.
        run: the commands, with what each of them runs and needs.
    """

    reports: list[str]
    judges: list[str]
    draws: list[str]
    parts: list[str]
    run: list[str]


def spec_of(manifest: Manifest, part: PaperPart, model: str | None) -> Spec | None:
    """The benchmark of a part on a model; None for one that needs a language model where none is given."""
    if part.model and model is None:
        return None
    if isinstance(part.benchmark, str):
        return Spec.load(part.benchmark)
    contents = part.elsewhere if part.elsewhere and not is_the_papers(model, part.model or "") else part.benchmark
    spec = Spec.of({"name": f"{manifest.name}-{part.name}", **contents})
    if part.model is None:
        return spec
    return spec.model_copy(update={"grid": tuple(each.model_copy(update={"model": (model,)}) for each in spec.grid)})


def overview(manifest: Manifest) -> Overview:
    """What there is to reproduce of a paper. Cells are counted without loading a model."""
    values = manifest.values
    sources = Counter(value.source or "without a source" for value in values)
    how = Counter(
        "taken again from points published with the paper: no run"
        if value.points
        else f"measured in the part {value.part}"
        if value.measured
        else "with nothing here that measures them"
        for value in values
    )
    nothing = "no value: figures alone, of what is run and, where it was published, of what the paper reports"
    return Overview(
        [f"{source}: {count(n)}" for source, n in sources.items()],
        [f"{count(n)} {words}" for words, n in how.items()] or [nothing],
        manifest.drawn,
        [_part(manifest, part) for part in manifest.part],
        _commands(manifest),
    )


def _commands(manifest: Manifest) -> list[str]:
    """The commands that reproduce a paper, with what each of them runs and needs."""
    command = f"circuitmeter reproduce {manifest.name}"
    usual = [part.name for part in manifest.part if part.model is None]
    of_models = list(dict.fromkeys(part.model for part in manifest.part if part.model))
    found = []
    if usual:
        found.append(f"{command}: runs {listed(usual)} into results/{manifest.name}; needs no download and no extra")
    if of_models:
        asked = " or ".join(f"--model {model}" for model in of_models)
        found.append(
            f"{command} {asked}: runs all parts on it; the weights come from the hub, or from a folder; no extra"
        )
        found.append(
            f"{command} --model mini: the same parts on a model of the package; tests none of the paper's numbers"
        )
    found.append(f"{command} --from-store-only: runs nothing; takes what the store holds and what was published")
    return found


def _part(manifest: Manifest, part: PaperPart) -> str:
    """Cells, models, time and values of a part."""
    own = spec_of(manifest, part, part.model)
    assert own is not None  # its model is given
    cells = f"{count(size(own))} cells"
    if part.model is None:
        time = _time(own)
        said = f"{cells} on models that come with the package{time and f', {time}'}"
    else:
        there = spec_of(manifest, part, "mini") if part.elsewhere else None
        others = f", or {count(size(there))} on another model" if there else ""
        said = f"{cells} on {part.model}{others}; how long depends on the model, and the run says it"
    n = sum(value.part == part.name and value.measured is not None for value in manifest.values)
    return f"{part.name}: {said}; {f'{count(n)} values' if n else 'figures alone'}"


def _time(spec: Spec) -> str:
    """About how long cells on certified models take, as ``plan`` reckons it; nothing where others are among them."""
    sources = {name for grid in spec.grid for pattern in grid.task for name in names.tasks(pattern)}
    certified = all(load_task(source).truth for source in sources)
    return f"about {spoken(size(spec) * CERTIFIED_SECONDS)} on one worker" if certified else ""
