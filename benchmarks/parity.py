"""Our methods beside the outputs of released codes: the largest differences.

    python benchmarks/parity.py FOLDER

The folder has what released codes gave on one small GPT-2: ``gpt2-2x3`` (a Hugging Face folder),
``prompts.json``, one file per code (``eapig.json``, ``acdc.json``, ``acdc_masks.json``, ``cd_t_tol0.safetensors``,
``edge_pruning.json``, ``discogp.json``; ``discogp_grouped.json`` and ``.safetensors`` are of ``llama-2x4``, whose four
heads share keys and values by twos). It is not part of the repository. What RelP, UGS, IBCircuit and the start of Edge
Pruning gave is: tests/released.py has their models and prompts. Prints the rows of docs/parity.md that are computed;
differences are absolute, in the units of the quantity.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from circuitmeter.suite.circuit import EdgeScores
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.plain_runs import Runs
from circuitmeter.suite.methods import METHODS, _masks, _seeds, subnetwork_probing
from circuitmeter.suite.methods._attribution import Prompts
from circuitmeter.suite.methods._masks import hard_concrete, probability_open, soft_gate, to_matrix
from circuitmeter.suite.methods._weights import cut_output_bias, ungrouped, with_weights
from circuitmeter.suite.methods.cd_t import decompose
from circuitmeter.suite.methods.edge_pruning import start_from_scores
from circuitmeter.suite.methods.ugs import read_out
from circuitmeter.suite.model.attention import Rotation
from circuitmeter.suite.model.load.by_name import load_model
from circuitmeter.suite.model.transformer import Transformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import released  # noqa: E402

Row = tuple[str, str, str, float]  # method, released code, quantity, largest difference
EAP_IG = {  # the released names: our method, and its parameters
    "EAP": ("eap", {}),
    "clean-corrupted": ("eap-ig", {"path": "clean-corrupted"}),
    "EAP-IG-inputs": ("eap-ig", {"endpoint": "left"}),
    "EAP-IG-activations": ("eap-ig", {"path": "activations-all", "endpoint": "right"}),
}
PARTS = {"query": "q", "key": "k", "value": "v", "residual": "z"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| method | released code | quantity | largest difference |\n|---|---|---|---|")
    for compare in (
        of_acdc,
        of_hisp,
        of_subnetwork_probing,
        of_cd_t,
        of_edge_pruning,
        of_discogp,
        of_grouped_discogp,
        of_eap_ig,
    ):
        try:
            show(compare(folder))
        except FileNotFoundError as missing:  # one code's outputs are no condition of another's
            print(f"{compare.__name__}: no {missing.filename}; its rows are left out.", file=sys.stderr)
    show(of_edge_pruning_start())
    show(of_relp())
    with released.random_numbers():
        show(of_ugs())
        show(of_ibcircuit())
        show(of_peap())


def show(rows: Iterator[Row]) -> None:
    for method, code, quantity, difference in rows:
        print(f"| `{method}` | {code} | {quantity} | {difference:.1e} |", flush=True)


def model_of(folder: Path, inputs: str, name: str = "gpt2-2x3") -> Transformer:
    return load_model(folder / name, device="cpu", dtype=torch.float64, inputs=inputs)


def prompts_of(folder: Path) -> Data:
    rows = json.loads((folder / "prompts.json").read_text())["equal"]
    clean, corrupt = (torch.tensor([row[name] for row in rows]) for name in ("clean", "corrupt"))
    read = torch.zeros_like(clean, dtype=torch.bool)
    read[:, -1] = True
    answers, wrong = (torch.tensor([[row[name]] for row in rows]) for name in ("answer", "wrong"))
    return Data(clean, corrupt, read, answers=answers, wrong=wrong)


def of_eap_ig(folder: Path) -> Iterator[Row]:
    model, data = model_of(folder, "token"), prompts_of(folder)
    worst: dict[tuple[str, str], float] = {}
    for key, reference in json.loads((folder / "eapig.json").read_text()).items():
        _, _, _, objective, name, ablation, steps = key.split("/")
        method, given = EAP_IG[name]
        ablation = "patch" if ablation == "patching" else ablation
        given = given if steps == "None" else {**given, "steps": int(steps)}
        found = _scores(model, data, method, ablation, objective, given)
        difference = float((found - EdgeScores.from_mapping(model.graph, reference).values).nan_to_num().abs().max())
        row = (method, f"{name}, {ablation}")
        worst[row] = max(worst.get(row, 0.0), difference)
    for (method, quantity), difference in worst.items():
        yield method, "EAP-IG 795f560 (float32)", quantity, difference


def of_acdc(folder: Path) -> Iterator[Row]:
    model, data, code = model_of(folder, "sum"), prompts_of(folder), "ACDC bc99ace"
    for key, reference in json.loads((folder / "acdc.json").read_text()).items():
        objective, ablation, _, tau = key.split("/")
        given = METHODS.get("acdc").resolve({"thresholds": [float(tau)]}, "reference-code")
        native = METHODS.get("acdc").discover(
            model, data, ablation=Ablation.parse(ablation), objective=OBJECTIVES.get(objective), **given
        )
        different = set(native.circuits[0].circuit.names) ^ set(reference["edges"])
        yield "acdc", code, f"edges of one set only, {key}", float(len(different))


def of_hisp(folder: Path) -> Iterator[Row]:
    model, data, code = model_of(folder, "sum"), prompts_of(folder), "ACDC bc99ace"
    worst = {"importances": 0.0, "when each edge is removed": 0.0}
    for key, reference in json.loads((folder / "acdc_masks.json").read_text())["hisp"].items():
        objective, ablation = key.split("/")
        if objective == "kl":
            continue  # its gradient at the clean run is rounding, which we refuse to rank by
        chosen = METHODS.get("hisp")
        found = chosen.discover(
            model,
            data,
            ablation=Ablation.parse(ablation),
            objective=OBJECTIVES.get(objective),
            **chosen.resolve({}, "reference-code"),
        )
        scores = found.scores.values
        for node, theirs in reference["scores"].items():  # the input is never removed: an edge from it is its reader's
            ours = float(scores[0, model.graph.readers.index(node)])
            worst["importances"] = max(worst["importances"], abs(ours - theirs))
        for edge in model.graph.edges:
            gone = [
                node for node, kept in zip(reference["order"], reference["edges"], strict=True) if str(edge) not in kept
            ]
            theirs = reference["scores"][gone[0]] if gone else max(reference["scores"].values())
            difference = abs(float(scores[model.graph.index(str(edge))]) - theirs)
            worst["when each edge is removed"] = max(worst["when each edge is removed"], difference)
    for quantity, difference in worst.items():
        yield "hisp", code, quantity, difference


def of_subnetwork_probing(folder: Path) -> Iterator[Row]:
    model, data, code = model_of(folder, "sum"), prompts_of(folder), "ACDC bc99ace"
    graph, names = model.graph, subnetwork_probing.node_gates(model.graph)
    quantities = ("objective", "regulariser", "gradients", "scores after 60 steps of its loop", "edges of one set only")
    worst = dict.fromkeys(quantities, 0.0)

    def of_nodes(values: dict[str, float]) -> Tensor:
        return torch.tensor([[values[name] for name in names]], dtype=torch.float64)

    for key, reference in json.loads((folder / "acdc_masks.json").read_text())["sp"].items():
        objective, ablation = key.split("/")
        prompts = _masks.TrainingBatches(
            model, data, Ablation.parse(ablation), OBJECTIVES.get(objective), seeds=[0], batch_size=data.n
        )
        ready = prompts.draw()
        with torch.enable_grad():
            gates = of_nodes(reference["log_alpha"]).requires_grad_()
            kept = hard_concrete(gates, of_nodes(reference["u"]).clamp(1e-4, 1 - 1e-4))
            outputs = subnetwork_probing.run_gated(model, kept, ready, to_zero=ablation == "zero")
            found = prompts.weigh(ready, prompts.objective.loss(outputs, ready.targets))[0]
            size = (probability_open(gates) @ subnetwork_probing.module_weights(graph))[0]
            (found + reference["lambda"] * size).backward()
        differences = [
            abs(found.item() - reference["objective"]),
            abs(size.item() - reference["regulariser"]),
            float((gates.grad - of_nodes(reference["gradient"])).abs().max()),
        ]
        training, chosen = reference["training"], METHODS.get("subnetwork-probing")
        drawn = iter([of_nodes(u) for u in (*training["u"], training["read_out_u"])])
        given = {"steps": training["epochs"], "rate": training["rate"], "regularisations": [training["lambda"]]}
        with patch.object(_seeds.Seeds, "uniform", lambda *_, drawn=drawn: next(drawn)):
            trained = chosen.discover(
                model,
                data,
                ablation=Ablation.parse(ablation),
                objective=prompts.objective,
                **chosen.resolve(given, "reference-code"),
            )
        likely = to_matrix(graph, subnetwork_probing.node_edges(graph, of_nodes(training["log_alpha"]).sigmoid())[0])
        differences.append(float((trained.scores.values - likely).nan_to_num().abs().max()))
        differences.append(float(len(set(trained.circuits[0].circuit.names) ^ set(training["edges"]))))
        worst = {name: max(worst[name], each) for name, each in zip(quantities, differences, strict=True)}
    for quantity, difference in worst.items():
        yield "subnetwork-probing", code, quantity, difference


def of_cd_t(folder: Path) -> Iterator[Row]:
    reference, data = load_file(folder / "cd_t_tol0.safetensors"), prompts_of(folder)
    for variant in ("b_O", "zero"):
        model = model_of(folder, "token")
        for block in model.blocks if variant == "zero" else ():
            block.b_O.data.zero_()
        runs = Runs(model, data.batch(torch.arange(data.n)))
        alternatives = Alternatives(model, data, Ablation.parse("patch"), seed=0, batch_size=data.n)
        parts = decompose(
            Prompts(runs, alternatives, OBJECTIVES.get("logit-difference")), oppose=True, keep=True
        ).relevant
        worst = 0.0
        for key, value in reference.items():
            kind, its_variant, source, place, *side = key.split("/")
            if (kind, its_variant) == ("model", variant) and side != ["irrel"]:
                writer = model.graph.writers.index(source)
                ours = parts["logits", 2][writer] if not side else parts[PARTS[place], 1][writer].permute(2, 1, 0, 3)
                worst = max(worst, float((ours - value).abs().max()))
        yield "cd-t", "CD-T 079ecef (its 1e-8 taken as 0)", f"relevant parts, {variant}", worst


def of_edge_pruning(folder: Path) -> Iterator[Row]:
    reference = json.loads((folder / "edge_pruning.json").read_text())
    model, code = model_of(folder, "split"), "Edge Pruning a918efd"
    graph = model.graph

    def edges(name: str) -> Tensor:
        return torch.tensor([reference[name][str(edge)] for edge in graph.edges], dtype=torch.float64)

    def nodes(name: str) -> Tensor:
        return torch.tensor([reference[name][writer] for writer in graph.writers], dtype=torch.float64)

    sampled = hard_concrete(edges("edge_log_alpha"), edges("edge_u"))
    mask = to_matrix(graph, sampled[None]) * hard_concrete(nodes("node_log_alpha"), nodes("node_u"))[:, None]
    found = Evaluator(model, prompts_of(folder), Ablation.parse("patch"), OBJECTIVES.get("kl")).loss(mask)
    yield "edge-pruning", code, "KL divergence of sampled masks", abs(float(found[0]) - reference["kl"])
    yield "edge-pruning", code, "sampled sparsity", abs(1 - float(sampled.mean()) - reference["edge_sparsity"])
    soft, theirs = soft_gate(edges("edge_log_alpha")), edges("soft")
    yield "edge-pruning", code, "gates without noise that are open", float((soft - theirs)[theirs > 0].abs().max())


def of_discogp(folder: Path) -> Iterator[Row]:
    reference = json.loads((folder / "discogp.json").read_text())
    model, data = model_of(folder, "sum"), prompts_of(folder)
    graph = model.graph
    masks = torch.stack([EdgeScores.from_mapping(graph, each).values.nan_to_num() for each in reference["edge_masks"]])
    masks[1] = (1 - masks[1]) * graph.exists
    ready = next(iter(Evaluator(model, data, Ablation.parse("zero"), OBJECTIVES.get("kl")).prepared()))
    theirs = torch.tensor([reference["edge_step"][name] for name in ("logits", "complement_logits")])
    for where, offset in (("constant", None), ("heads", cut_output_bias(model, masks))):
        ours = model.run_cut(masks, ready.alternative, inputs=ready.inputs, read=ready.runs.read, offset=offset)
        yield (
            "discogp",
            "DiscoGP f6ad520 (float32)",
            f"logits of a circuit and of a complement, output_bias={where}",
            float((ours - theirs).abs().max()),
        )


def of_grouped_discogp(folder: Path) -> Iterator[Row]:
    reference = json.loads((folder / "discogp_grouped.json").read_text())
    model, data, code = model_of(folder, "token", "llama-2x4"), prompts_of(folder), "DiscoGP f6ad520, grouped queries"
    graph, exact = model.graph, replace(model.config, rotary_frequencies=None).frequencies
    for block in model.blocks:  # transformers rounds the frequencies to float32, and so do we with its models
        block.rotation = Rotation(exact, model.config.rotary_scale)
    mask = (EdgeScores.from_mapping(graph, reference["edge_logits"]).values.nan_to_num() > 0).double()
    masks = torch.stack([mask, (1 - mask) * graph.exists])
    ready = next(iter(Evaluator(model, data, Ablation.parse("zero"), OBJECTIVES.get("kl")).prepared()))
    theirs = torch.tensor([reference[name] for name in ("circuit", "complement")], dtype=torch.float64)
    ours = model.run_cut(masks, ready.alternative, inputs=ready.inputs, read=ready.runs.read)
    yield "discogp", code, "logits of a circuit and of a complement", float((ours - theirs).abs().max())
    gates, kept = load_file(folder / "discogp_grouped.safetensors"), {}
    for layer in range(model.config.n_layers):
        its = f"blocks.{layer}.attn."
        packed = [gates[its + name].transpose(0, 1).flatten(1) for name in ("W_Q", "_W_K", "_W_V")]
        kept[f"blocks.{layer}.W_QKV"] = torch.cat(packed, 1)
        kept[f"blocks.{layer}.W_O"] = gates[its + "W_O"].flatten(0, 1)
        kept |= {f"blocks.{layer}.{name}": gates[f"blocks.{layer}.mlp.{name}"] for name in ("W_in", "W_out", "W_gate")}
    twin = ungrouped(model)
    for block, other in zip(twin.blocks, model.blocks, strict=True):
        block.rotation = other.rotation
    masked = with_weights(twin, kept)(data.clean)[:, -1]
    theirs = torch.tensor(reference["weights_logits"], dtype=torch.float64)
    yield "discogp", code, "logits of masked weights, grouped=copies", float((masked - theirs).abs().max())


def of_edge_pruning_start() -> Iterator[Row]:
    difference = (start_from_scores(released.start_scores(), 0.8, 0.2) - released.start(0.8)).abs().max()
    yield (
        "edge-pruning",
        "MIB-circuit-track c18eb53 (float32)",
        "log alphas from scores, sparsity 0.8",
        float(difference),
    )


def of_relp() -> Iterator[Row]:
    for name in released.CONFIGS:
        for run, options in released.RELP.items():
            chosen = METHODS.get("relp")
            given = {key: value for key, value in options.items() if key != "preset"}
            found = chosen.discover(
                released.model(name),
                released.relp_prompts(),
                ablation=Ablation.parse("patch"),
                objective=OBJECTIVES.get("logit-difference"),
                **chosen.resolve(given, options["preset"]),
            ).scores.values.nan_to_num()
            theirs = released.relp_scores(name, run)
            yield "relp", "RelP aa0e228", f"edges, {name}, {run}", float((found - theirs).abs().max())


def of_ibcircuit() -> Iterator[Row]:
    method, record = METHODS.get("ibcircuit"), released.record("ibcircuit")
    given = {name: value for name, value in released.IBCIRCUIT.items() if name != "preset"}
    found = method.discover(
        released.model("gpt2"),
        released.relp_prompts(),
        ablation=Ablation.parse("mean"),
        objective=OBJECTIVES.get("kl"),
        **method.resolve(given, released.IBCIRCUIT["preset"]),
    )
    gates = [gate for name, gate in found.diagnostics["masks"][0]["gates"].items() if ".h" in name]
    difference = max(abs(ours - theirs) for ours, theirs in zip(gates, record["gates"], strict=True))
    yield "ibcircuit", "IBCircuit e143899 (its 1e-7 taken as 0)", "gates after 6 steps, `reference-code`", difference


def of_peap() -> Iterator[Row]:
    twin, data = released.peap_problem()
    found = _scores(twin, data, "peap", "patch", "logit-difference", {}).nan_to_num()
    difference = float((found - released.peap_scores()).abs().max())
    yield "peap", "PEAP a1e8462 (scores in float32)", "edges by position, patch", difference


def of_ugs() -> Iterator[Row]:
    model, chosen, code = released.model("gpt2"), METHODS.get("ugs"), "UGS ac02e85"
    for ablation in dict.fromkeys(ablation for ablation, _ in released.UGS_RUNS):
        worst = 0.0
        for clip in (clip for its, clip in released.UGS_RUNS if its == ablation):
            found = chosen.discover(
                model,
                released.ugs_prompts(),
                ablation=Ablation.parse(ablation),
                objective=OBJECTIVES.get("kl"),
                **chosen.resolve({**released.UGS, "clip": clip}, "reference-code"),
            ).scores.values[model.graph.exists]
            worst = max(worst, float((found - released.ugs_run(ablation, clip)[1].sigmoid()).abs().max()))
        yield "ugs", code, f"gates after 6 steps, {ablation}, `reference-code`", worst
    different = 0
    for each in released.record("ugs")["read-out"]:
        circuit = read_out(model.graph, (1e-3,), torch.tensor([each["logits"]]), 0.5, {}).circuits[0].circuit
        different += int((circuit.edges != to_matrix(model.graph, torch.tensor(each["kept"])).bool()).sum())
    yield "ugs", code, "edges of one read-out only", float(different)


def _scores(model: Transformer, data: Data, method: str, ablation: str, objective: str, given: dict) -> Tensor:
    chosen = METHODS.get(method)
    return chosen.discover(
        model,
        data,
        ablation=Ablation.parse(ablation),
        objective=OBJECTIVES.get(objective),
        **chosen.resolve(given),
    ).scores.values


if __name__ == "__main__":
    with torch.no_grad():
        main()
