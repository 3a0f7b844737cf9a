"""BLiMP (Warstadt et al. 2020, arXiv 1912.00582; DiscoGP): the model chooses the grammatical one of two next words.

The prompt is what a pair of sentences has in common before their tokens first differ. Pairs that differ in the first
token are left out. There is no counterfactual.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from . import hub
from .draw import Draw
from .family import Family, split_of
from .prompt import Prompt, Text
from .tokenizer import Tokenizer

_REPOSITORY = "nyu-mll/blimp"
PARADIGMS = (
    "adjunct_island anaphor_gender_agreement anaphor_number_agreement animate_subject_passive animate_subject_trans "
    "causative complex_NP_island coordinate_structure_constraint_complex_left_branch "
    "coordinate_structure_constraint_object_extraction determiner_noun_agreement_1 determiner_noun_agreement_2 "
    "determiner_noun_agreement_irregular_1 determiner_noun_agreement_irregular_2 determiner_noun_agreement_with_adj_2 "
    "determiner_noun_agreement_with_adj_irregular_1 determiner_noun_agreement_with_adj_irregular_2 "
    "determiner_noun_agreement_with_adjective_1 distractor_agreement_relational_noun "
    "distractor_agreement_relative_clause drop_argument ellipsis_n_bar_1 ellipsis_n_bar_2 "
    "existential_there_object_raising existential_there_quantifiers_1 existential_there_quantifiers_2 "
    "existential_there_subject_raising expletive_it_object_raising inchoative intransitive "
    "irregular_past_participle_adjectives irregular_past_participle_verbs irregular_plural_subject_verb_agreement_1 "
    "irregular_plural_subject_verb_agreement_2 left_branch_island_echo_question left_branch_island_simple_question "
    "matrix_question_npi_licensor_present npi_present_1 npi_present_2 only_npi_licensor_present only_npi_scope "
    "passive_1 passive_2 principle_A_c_command principle_A_case_1 principle_A_case_2 principle_A_domain_1 "
    "principle_A_domain_2 principle_A_domain_3 principle_A_reconstruction regular_plural_subject_verb_agreement_1 "
    "regular_plural_subject_verb_agreement_2 sentential_negation_npi_licensor_present sentential_negation_npi_scope "
    "sentential_subject_island superlative_quantifiers_1 superlative_quantifiers_2 tough_vs_raising_1 "
    "tough_vs_raising_2 transitive wh_island wh_questions_object_gap wh_questions_subject_gap "
    "wh_questions_subject_gap_long_distance wh_vs_that_no_gap wh_vs_that_no_gap_long_distance wh_vs_that_with_gap "
    "wh_vs_that_with_gap_long_distance"
).split()

VARIANTS = {"none": "none (zero, mean and resample ablations only)"}


def prompts(paradigm: str, tokenizer: Tokenizer, variant: str, split: str, draw: Draw) -> Iterator[Prompt]:
    rows = list(hub.rows("blimp", _REPOSITORY, paradigm, "train", ("sentence_good", "sentence_bad")))
    for row in draw.shuffled(rows):
        good, bad = row["sentence_good"], row["sentence_bad"]
        right, wrong = tokenizer.tokens([good, bad])
        shared = next((i for i, (a, b) in enumerate(zip(right.ids, wrong.ids, strict=False)) if a != b), 0)
        prefix = good[: right.spans[shared - 1][1]]
        if shared and tuple(tokenizer(prefix)) == right.ids[:shared]:
            yield Prompt(
                clean=Text(prefix),
                counterfactual=None,
                answers=(right.ids[shared],),
                wrong=(wrong.ids[shared],),
                split=split_of(prefix),
                template=0,
            )


def family(paradigm: str) -> Family:
    """The task of a paradigm."""
    return Family(
        name=f"blimp/{paradigm}",
        description=f"the grammatical of two next words: {paradigm.replace('_', ' ')}",
        paper="Warstadt et al. 2020, arXiv 1912.00582",
        variants=VARIANTS,
        objective="logit-difference",
        prompts=partial(prompts, paradigm),
        models="any",
    )


FAMILIES = [family(paradigm) for paradigm in PARADIGMS]
