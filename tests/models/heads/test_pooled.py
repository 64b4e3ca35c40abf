"""Two pooled heads answer better than one, and a temperature changes how sure an answer is, never the answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.heads.pooled import (
    Novelty,
    PooledHeads,
    Temperatures,
    new_probability,
    pooled,
    pooled_species,
    sums_over,
    tempered,
)
from models.heads.solve import discriminants
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.labels.taxonomy_growth import grown, row_under
from models.shipped import load_zoo
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

TREE = load_taxonomy()
KINGDOM_OF = TREE.kingdom_of[TREE.family_of]
logits = arrays(np.float32, len(TREE.species), elements=st.floats(-6, 6, width=32))
temperature = st.floats(0.3, 3.0)


def probabilities(values: np.ndarray) -> np.ndarray:
    return (np.exp(values) / np.exp(values).sum()).astype(np.float32)


def families(species: np.ndarray) -> np.ndarray:
    return sums_over(species.astype(np.float64), TREE.family_of, len(TREE.families))


@given(logits, temperature, temperature, temperature)
@settings(deadline=None, max_examples=30)
def test_tempered_probabilities_sum_to_one_and_keep_the_order_of_siblings(values, kingdom, family, species) -> None:
    before = probabilities(values)
    after = tempered(TREE, before, Temperatures(kingdom, family, species))
    assert after.sum() == pytest.approx(1, abs=1e-4)
    felids = np.flatnonzero(np.array(TREE.families)[TREE.family_of] == "Felidae")
    assert before[felids].argmax() == after[felids].argmax()
    animals = np.flatnonzero(np.array(TREE.kingdom_of) == KINGDOMS.index("animal"))
    assert families(before)[animals].argmax() == families(after)[animals].argmax()


@given(logits)
@settings(deadline=None, max_examples=30)
def test_a_temperature_of_one_changes_nothing(values) -> None:
    before = probabilities(values)
    np.testing.assert_allclose(tempered(TREE, before, Temperatures()), before, atol=1e-5)


def test_a_rank_is_tempered_by_itself() -> None:
    before = probabilities(np.random.default_rng(0).normal(size=len(TREE.species)))
    after = tempered(TREE, before, Temperatures(species=0.5))
    np.testing.assert_allclose(families(after), families(before), atol=1e-6)
    assert (after.max() - before.max()) > 0


def test_several_pictures_are_answered_as_each_alone() -> None:
    both = np.stack([probabilities(np.random.default_rng(at).normal(size=len(TREE.species))) for at in (0, 1)])
    temperatures = Temperatures(0.8, 0.9, 1.2)
    np.testing.assert_allclose(
        tempered(TREE, both, temperatures), [tempered(TREE, one, temperatures) for one in both], atol=1e-7
    )


@given(logits)
@settings(deadline=None, max_examples=30)
def test_witnesses_that_agree_are_believed_and_none_can_veto(values) -> None:
    one = probabilities(values)
    animals = np.flatnonzero(KINGDOMS.index("animal") == KINGDOM_OF)
    assert pooled(TREE, one, one)[animals].argmax() == one[animals].argmax()
    sure = np.full(len(one), 0.0, np.float32)
    sure[3] = 1.0
    assert pooled(TREE, sure, one).argmax() == 3
    assert pooled(TREE, one, sure).min() > 0


@given(logits, logits)
@settings(deadline=None, max_examples=30)
def test_the_kingdom_stays_the_tuned_head_s(tuned, solved) -> None:
    before, after = probabilities(tuned), pooled(TREE, probabilities(tuned), probabilities(solved))
    np.testing.assert_allclose(
        sums_over(after.astype(np.float64), KINGDOM_OF, len(KINGDOMS)),
        sums_over(before.astype(np.float64), KINGDOM_OF, len(KINGDOMS)),
        atol=1e-5,
    )


def shipped() -> PooledHeads:
    return load_zoo().cloud_model().head


def test_the_shipped_sums_are_of_the_shipped_space_and_hold_every_species() -> None:
    zoo, sums = load_zoo(), load_zoo().sums()
    assert sums.space == zoo.cloud_model().space == zoo.edge_model().space
    assert sums.labels == TREE.species
    assert (sums.counts > 0).all()
    np.testing.assert_array_equal(sums.gram, sums.gram.T)


def test_the_shipped_solved_witness_is_the_head_of_the_shipped_sums() -> None:
    solved = discriminants(load_zoo().sums())
    np.testing.assert_array_equal(shipped().solved.weights, solved.weights)


def test_what_is_learned_later_merges_with_what_was_shipped_and_is_heard() -> None:
    """Thirty vectors of a species that no photo of the packs showed, drawn where none of the known species lies."""
    sums, head = load_zoo().sums(), shipped()
    rare = TREE.species.index(TREE.find("koala"))
    vectors = np.clip(
        np.random.default_rng(0).normal(128, 32, (1, 256)) + np.random.default_rng(1).normal(0, 12, (60, 256)),
        0,
        255,
    ).astype(np.uint8)
    learned = Sums.empty(sums.space, 256, sums.labels).add(vectors[:30], np.full(30, rare))
    before, after = head.solved, discriminants(sums.merge(learned))
    likelier = [after.scores(one).probabilities[rare] - before.scores(one).probabilities[rare] for one in vectors[30:]]
    assert min(likelier) > 0
    restored = discriminants(sums.merge(learned).subtract(learned))
    np.testing.assert_array_equal(restored.weights, before.weights)


def test_a_vector_of_another_length_is_refused_by_the_solved_witness() -> None:
    with pytest.raises(Rejected, match="has 256 components"):
        shipped().solved.logits(np.zeros(255, np.uint8))


def test_a_species_beyond_the_tuned_heads_takes_the_share_that_it_is_heard_with() -> None:
    tree = grown(TREE, (row_under(TREE, "Solenodon paradoxus", "animal/Solenodontidae"),))
    rng = np.random.default_rng(1)
    tuned = probabilities(rng.normal(size=len(TREE.species)))
    solved = np.append(rng.normal(size=len(TREE.species)), 9.0).astype(np.float32)
    loud, silent = (
        pooled_species(tree, tuned, solved, Temperatures(), novelty=Novelty(1.0, offset)) for offset in (6.0, -60.0)
    )
    assert loud.sum() == pytest.approx(1, abs=1e-4)
    assert tree.species[int(loud.argmax())] == "Solenodon paradoxus"
    np.testing.assert_allclose(silent[:-1], pooled_species(TREE, tuned, solved[:-1], Temperatures()), atol=1e-6)


def test_who_is_sure_of_an_old_species_hears_less_of_new_ones() -> None:
    odds = np.zeros(2)
    sure, unsure = new_probability(odds, np.log(np.array([0.01, 0.9])), Novelty(doubt=1.0))
    assert sure < unsure
