"""The edge's models at a site that labels: the general model's predictions, refined by the site's own head.

::

    crop or vector --general model--> EdgePrediction --SiteHead--> EdgePrediction (model lite0@3+home.17, `site`)

Where the site has learned nothing, or the prediction is by another model than the one that the site's head was
transferred from (a release is on trial), the prediction stays as it is. The vector that the cloud gets and the check
for persons are always the general model's: a site's labels can raise a person, never hide one.

`site_prediction` names from the kingdom down to the deepest label that was given here and is likelier than not
(`models.site_learning.site_model.STANDS_FROM`), never deeper: that is left to the general head and the cloud. Before
the site has labelled `models.site_learning.site_model.CALIBRATED_FROM` visits its probabilities are not calibrated;
until then it names only labels that the general head's tree lacks, and all others stand by the general thresholds.

Example::

    models = SiteModels(serving)
    models.serve(ServedHead(site.name, site.general, site.head(), own=frozenset()))
    _, prediction = models.look("home/cam1/garden", lambda model: model.predict(crop))
    prediction.model            # "lite0@3+home.17"
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
"""From this probability on, an answer by the site's own labels is sure: the cloud is not asked and does not overrule
it. It is above the half from which an answer stands, since no tier checks it again."""


M = TypeVar("M")


@dataclass(frozen=True, slots=True, eq=False)
class ServedHead:
    """A site's head as it answers: under `name`, for predictions of the model `general`.

    `own` are labels that the general tree lacks; `weighed` is true if the probabilities are calibrated.
    """

    name: str
    general: str
    head: SiteHead
    own: frozenset[str] = frozenset()
    weighed: bool = True


class SiteModels(Generic[M]):
    """General models whose predictions follow the site's labels. One assignment swaps the head, from any thread."""

    def __init__(self, general: ModelSource[M, EdgePrediction]) -> None:
        self._general = general
        self._served: ServedHead | None = None

    def name_beside(self, general: str) -> str:
        """Return the name under which a prediction of this general model is published."""
        served = self._served
        return served.name if served and served.general == general else general

    def serve(self, served: ServedHead | None) -> None:
        """Use this head from the next prediction on; None leaves the general models alone."""
        self._served = served

    def look(self, source: str, ask: Callable[[M], EdgePrediction]) -> tuple[M, EdgePrediction]:
        """Return the general model of this stream, and its prediction refined by the site's head."""
        model, prediction = self._general.look(source, ask)
        return model, refined(prediction, self._served)


def refined(prediction: EdgePrediction, served: ServedHead | None) -> EdgePrediction:
    """Return a general model's prediction as the site's head refines it; unchanged where no head fits the model."""
    if served is None or served.general != prediction.model or prediction.species is None:
        return prediction
    start, tree = time.perf_counter(), served.head.tree
    probabilities = served.head.consensus(prediction.vector[None], prediction.species.probabilities[None])
    species, family, kingdom = rolled(tree, probabilities)
    return replace(
        prediction,
        species=species,
        family=family,
        kingdom=kingdom,
        person_raised=prediction.person_raised or kingdom.best[0] == "person",
        ms=prediction.ms + (time.perf_counter() - start) * 1e3,
        model=served.name,
        tree=tree,
        site=site_prediction(tree, (species, family, kingdom), served),
    )


def site_prediction(tree: Taxonomy, scores: Sequence[Scores], served: ServedHead) -> SitePrediction | None:
    """Return the answer by the site's own labels, or None where no label given here is likelier than not."""
    path = answer(tree, scores, STANDS_FROM).path
    named = served.head.labels if served.weighed else served.own
    depths = [depth for depth, label in enumerate(path, start=1) if label in named]
    if not depths:
        return None
    path = path[: depths[-1]]
    # A leaf (`other`), and a family that was given as a label, are species of their own: ask the deepest rank first.
    probability = next(of_rank[path[-1]] for of_rank in scores if path[-1] in of_rank.labels)
    return SitePrediction(path, probability, probability >= SURE_FROM or path[-1] in served.own)
