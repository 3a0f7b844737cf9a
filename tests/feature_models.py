"""Small models with dictionaries of random features, for tests."""

import torch

from circuitmeter.suite.model.features.dictionary import FeatureDictionary
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.features.transformer import FeatureTransformer

N_FEATURES = 9


def dictionary(width, activation="relu", seed=3, **more):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    parts = draw(width, N_FEATURES), draw(N_FEATURES), draw(N_FEATURES, width), draw(width)
    if activation == "jumprelu":
        more["threshold"] = draw(N_FEATURES).abs()
    if activation == "gated":
        more["gate"] = draw(N_FEATURES), draw(N_FEATURES)
    if activation == "topk":
        more["k"] = 3
    return FeatureDictionary(*parts, activation, **more)


def feature_model(model, sites, activation="relu", nodes=(0, 2, 5, 8), **more):
    return FeatureTransformer.of(
        model,
        {
            Site.parse(site): (dictionary(model.config.d_model, activation, seed=i, **more), nodes)
            for i, site in enumerate(sites)
        },
    )
