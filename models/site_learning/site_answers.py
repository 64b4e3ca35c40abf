"""The edge's eyes at a site that labels: the general eye's sights, named by the site's own head where it has learned better.

::

    crop or vector --general eye--> EdgePrediction (species, vector) --SiteHead--> EdgePrediction (model lite0@3+home.17, site's word)

Where the site has learned nothing, or another model saw than the one that its head was transferred from (a release is being
tried), a sight stays as the general eye saw it. The vector that the cloud reads and the look for persons are always the general
eye's: a site's labels can raise a person, never hide one.

`word` is what the site's labels name: from the kingdom down to the deepest label that was given here and is likelier than not
(`models.site_learning.site_model.STANDS_FROM`), never past it. Below that the general head goes on, and so may the cloud. Before the site has labelled
`models.site_learning.site_model.CALIBRATED_FROM` visits its probabilities are nobody's measure: then it has a word for labels alone that the general head's
tree lacks, and all else stands by the general thresholds.

Example::

    eyes = SiteModels(serving)
    eyes.serve(ServedHead(site.name, site.general, site.head(), own=frozenset()))
    _, sight = eyes.look("home/cam1/garden", lambda eye: eye.predict(crop))
    sight.model                 # "lite0@3+home.17"
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from models.answering.model_source import ModelSource
from models.labels.calibration import answer
from models.labels.scores import Scores
from models.labels.taxonomy import Taxonomy
from models.site_learning.site_head import SiteHead
from models.site_learning.site_model import STANDS_FROM
from models.vision.tier_models import EdgePrediction, SitePrediction, rolled

SURE_FROM = 0.8
"""From this probability a label of the site's own needs no asking, and the cloud does not overrule it: above the half at which it stands,
since nobody looks again."""


M = TypeVar("M")


@dataclass(frozen=True, slots=True, eq=False)
class ServedHead:
    """A site's head as it answers: under `name`, for sights of the model `general`. `own` are labels that its tree lacks; `weighed`
    says whether the site had visits enough to calibrate its probabilities by.
    """

    name: str
    general: str
    head: SiteHead
    own: frozenset[str] = frozenset()
    weighed: bool = True


class SiteModels(Generic[M]):
    """General eyes whose answers follow the site's labels; swapped head by head, by one assignment, from any thread."""

    def __init__(self, general: ModelSource[M, EdgePrediction]) -> None:
        self._general = general
        self._served: ServedHead | None = None

    def name_beside(self, general: str) -> str:
        """What a sight by this general model is named for."""
        served = self._served
        return served.name if served and served.general == general else general

    def serve(self, served: ServedHead | None) -> None:
        """From the next sight on; None: the general eyes alone."""
        self._served = served

    def look(self, source: str, ask: Callable[[M], EdgePrediction]) -> tuple[M, EdgePrediction]:
        """The eye of this stream, and what it and the site's labels see."""
        eye, sight = self._general.look(source, ask)
        return eye, refined(sight, self._served)


def refined(sight: EdgePrediction, served: ServedHead | None) -> EdgePrediction:
    """A general eye's sight as the site's head has it; unchanged, where it has none for this eye."""
    if served is None or served.general != sight.model or sight.species is None:
        return sight
    start, tree = time.perf_counter(), served.head.tree
    probabilities = served.head.consensus(sight.vector[None], sight.species.probabilities[None])
    species, family, kingdom = rolled(tree, probabilities)
    return replace(
        sight,
        species=species,
        family=family,
        kingdom=kingdom,
        person_raised=sight.person_raised or kingdom.best[0] == "person",
        ms=sight.ms + (time.perf_counter() - start) * 1e3,
        model=served.name,
        tree=tree,
        site=word(tree, (species, family, kingdom), served),
    )


def word(tree: Taxonomy, scores: Sequence[Scores], served: ServedHead) -> SitePrediction | None:
    """What the site's own labels say; None where what is likelier than not lies under none of them."""
    path = answer(tree, scores, STANDS_FROM).path
    spoken = served.head.labels if served.weighed else served.own
    learned = [depth for depth, label in enumerate(path, start=1) if label in spoken]
    if not learned:
        return None
    path = path[: learned[-1]]
    # A leaf (`other`), and a family that came as a label itself, are species of their own: the deepest rank that knows it is asked.
    probability = next(its[path[-1]] for its in scores if path[-1] in its.labels)
    return SitePrediction(path, probability, probability >= SURE_FROM or path[-1] in served.own)
