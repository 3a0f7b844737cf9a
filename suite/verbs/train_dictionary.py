"""``circuitmeter train-dictionary``: a sparse autoencoder of a model's activations at one site."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, ModelError, SpecError
from .arguments import add_computing, add_problem, positive_number, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.features.site import Site
    from ..model.features.training import DictionaryTraining, TrainingRecipe
    from ..model.features.transformer import FeatureTransformer
    from ..model.transformer import Transformer
    from ..plan.subject import Subject

NAME = "train-dictionary"
HELP = "Train a sparse autoencoder on a model's activations at one site."
EPILOG = (
    "The folder has the layout of SAELens, and `--dictionary DIR@SITE` of the other verbs reads it. The same command "
    "again goes on where it was stopped. Sites: resid_pre.L, resid_post.L, attn_out.L, z.L, mlp_out.L."
)
SAVE_EVERY = 200  # steps
_CHECKPOINT = "training.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_problem(parser)
    add_computing(parser)
    parser.add_argument("--site", required=True, metavar="SITE", help="where, such as mlp_out.3 or resid_pre.5")
    parser.add_argument("--features", type=positive_number, default=512, metavar="N", help="how many (default: 512)")
    parser.add_argument(
        "--k",
        type=whole_number,
        default=0,
        metavar="N",
        help="features active at once (TopK); 0 trains a ReLU dictionary with --sparsity (default)",
    )
    parser.add_argument(
        "--sparsity", type=float, default=3e-3, metavar="X", help="weight of the L1 term (default: 0.003)"
    )
    parser.add_argument("--steps", type=positive_number, default=4000, metavar="N", help="of Adam (default: 4000)")
    parser.add_argument(
        "--rows", type=positive_number, default=512, metavar="N", help="activations a step (default: 512)"
    )
    parser.add_argument("--rate", type=float, default=3e-3, metavar="X", help="learning rate (default: 0.003)")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="where the dictionary is written")


def run(options: argparse.Namespace) -> int:
    from ...reports.page.table import number, percent
    from ..model.features.scores import dictionary_scores
    from ..model.features.site import Site
    from ..model.features.training import DictionaryTraining, TrainingRecipe
    from ..model.load.dictionary import save_dictionary
    from . import subjects
    from .output import keeping, note

    site = Site.parse(options.site)
    if site.place == "transcoder":
        raise SpecError("a transcoder is read and not trained here; train a dictionary at mlp_out instead.")
    recipe = TrainingRecipe(
        options.features, options.k, options.sparsity, options.steps, options.rows, options.rate, options.seed
    )
    refuse_dictionary(options.out)
    on = subjects.outlined(options)
    probe(on.model, site)
    on = subjects.with_model_loaded(on, options)
    activations = activations_at(on, site)
    training = DictionaryTraining(activations, recipe, _saved(options.out, recipe, site, on))
    if training.step:
        note(f"going on from step {training.step} of {recipe.steps}")
    with keeping(lambda: _checkpoint(options.out)):
        _train(training, options.out, recipe, site, on)
    dictionary = training.dictionary()
    save_dictionary(dictionary, options.out, site)
    (options.out / _CHECKPOINT).unlink(missing_ok=True)
    found = dictionary_scores(dictionary, activations)
    print(
        f"{dictionary.n_features} features of {len(activations):,} activations at {site} of {on.model_source}: "
        f"{number(found.unexplained, 3)} of the variance is not reconstructed, {number(found.l0, 1)} features are "
        f"active at once, {percent(found.dead)} never: {options.out}"
    )
    return 0


def _checkpoint(folder: Path) -> str:
    """What an interrupted training leaves behind, in words."""
    path = folder / _CHECKPOINT
    return f"{path} is kept, and the same command goes on from it" if path.exists() else "nothing of it is kept"


def activations_at(on: Subject, site: Site) -> Tensor:
    """What a dictionary at ``site`` decomposes, at every token of the prompts: float32 [N, S], on the CPU.

    Raises:
        ModelError: the model has no such site.
        DataError: too few tokens to train on.
    """
    import torch

    from ..intervention.evaluator import default_batch_size
    from ..model.device import send

    model, data, at_site, rows = on.model, on.data, probe(on.model, site), []
    with torch.no_grad():
        for batch in data.batches(default_batch_size(model, data.clean.shape[1])):
            whole = at_site.values_at(site, model.input_nodes(send(batch.clean, model.device)))[1]
            rows.append(whole[send(batch.valid, model.device)].float().cpu())
    found = torch.cat(rows)
    if len(found) < 2:
        raise DataError(f"{len(found)} tokens are too few to train a dictionary on; give more prompts.")
    return found


def probe(model: Transformer, site: Site) -> FeatureTransformer:
    """The model with a feature of nothing at ``site``. Raises ModelError where the model has no such site."""
    import torch

    from ..model.features.dictionary import FeatureDictionary
    from ..model.features.transformer import FeatureTransformer

    config = model.config
    width = config.n_heads * config.d_head if site.place == "z" else config.d_model
    nothing = FeatureDictionary(torch.zeros(width, 1), torch.zeros(1), torch.zeros(1, width), torch.zeros(width))
    return FeatureTransformer.of(model, {site: (nothing, [0])})


def refuse_dictionary(folder: Path) -> None:
    """Raises ModelError where the folder holds a dictionary already."""
    from ..model.load.dictionary import DICTIONARY_WEIGHTS

    if (folder / DICTIONARY_WEIGHTS).exists():
        raise ModelError(f"{folder} holds a dictionary already; choose another --out, or remove it.")


def _train(training: DictionaryTraining, folder: Path, recipe: TrainingRecipe, site: Site, on: Subject) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from ...reports.page.table import number

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("training", total=recipe.steps, completed=training.step)
        for step, loss in training.run():
            progress.update(bar, completed=step, description=f"loss {number(loss, 4)}")
            if step % SAVE_EVERY == 0 and step < recipe.steps:
                _save(training, folder, recipe, site, on)


def _identity(recipe: TrainingRecipe, site: Site, on: Subject) -> dict[str, str]:
    """What a checkpoint must agree in to be gone on from."""
    return {
        "recipe": repr(recipe),
        "site": str(site),
        "model": on.model.weights_hash,
        "data": on.data.hash,
    }


def _save(training: DictionaryTraining, folder: Path, recipe: TrainingRecipe, site: Site, on: Subject) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{_CHECKPOINT}.new"
    state = {name: part.contiguous() for name, part in training.state.items()}
    save_file(state, beside, metadata=_identity(recipe, site, on))
    beside.replace(folder / _CHECKPOINT)


def _saved(folder: Path, recipe: TrainingRecipe, site: Site, on: Subject) -> dict[str, Tensor] | None:
    """The state of an interrupted training of the very same dictionary; ``None`` when no such training was interrupted.

    Raises:
        ModelError: the folder holds another training's.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / _CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != _identity(recipe, site, on):
                raise ModelError(
                    f"{path} is of a training with another model, other prompts or settings; choose another --out."
                )
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); remove it to begin anew.") from error
