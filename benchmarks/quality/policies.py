"""All policies of the benchmark, by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import baselines, peers
from benchmarks.quality.conduit import ConduitPolicy
from benchmarks.quality.stream import Policy, Requests, Stream, play
from conduit_policy.algorithms import ALGORITHMS
from conduit_schemas import ConfigurationError, LearningSettings

__all__ = ["CONDUIT", "ONLINE", "POLICIES", "REFERENCES", "Contestant", "available", "chosen_arms"]

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One policy of the benchmark."""

    about: str
    arms: Callable[[Stream, int], Indices]
    """Maps a stream and a seed to the arm chosen at each position."""
    needs: str | None = None
    """Module that the policy needs; without it, the policy is left out."""
    package: str | None = None
    """Package that provides the module."""
    half: bool = False
    """Only its choices on the second half of the stream count."""


def _online(make: Callable[[Requests, int], Policy]) -> Callable[[Stream, int], Indices]:
    return lambda stream, seed: play(make(stream.requests(), seed), stream)


def _fixed(arm: Callable[[Stream], int]) -> Callable[[Stream, int], Indices]:
    return lambda stream, seed: np.full(len(stream), arm(stream), np.intp)


def _conduit(algorithm: str | None = None, *, prices: bool = True) -> Callable[[Stream, int], Indices]:
    settings = None if algorithm is None else LearningSettings(algorithm=algorithm)
    return _online(lambda requests, seed: ConduitPolicy(requests, settings, prices=prices))


def _vw(exploration: str) -> Contestant:
    return Contestant(
        about=f"Vowpal Wabbit --cb_explore_adf {exploration}",
        arms=_online(lambda requests, seed: peers.VowpalWabbitPolicy(requests, seed, exploration)),
        needs="vowpalwabbit",
        package="vowpalwabbit",
    )


def _mabwiser(policy: str, **parameters: float) -> Contestant:
    text = ", ".join(f"{name}={value:g}" for name, value in parameters.items())
    return Contestant(
        about=f"MABWiser {policy}({text})",
        arms=_online(lambda requests, seed: peers.MabWiserPolicy(requests, seed, policy, parameters)),
        needs="mabwiser",
        package="mabwiser",
    )


CONDUIT: Mapping[str, Contestant] = {
    "conduit": Contestant("Conduit with default settings", _conduit()),
    "conduit_without_prices": Contestant("the same, without a price map for the models", _conduit(prices=False)),
    **{
        f"conduit_{name}": Contestant(f"Conduit, algorithm {name}", _conduit(name))
        for name in ALGORITHMS
        if name != LearningSettings().algorithm
    },
}

ONLINE: Mapping[str, Contestant] = {
    "random": Contestant("uniformly random choice", _online(baselines.RandomPolicy)),
    "cheapest": Contestant("the model with the lowest mean cost", _fixed(lambda s: int(s.data.mean_cost.argmin()))),
    "most_expensive": Contestant(
        "the model with the highest mean cost", _fixed(lambda s: int(s.data.mean_cost.argmax()))
    ),
    "litellm_simple_shuffle": Contestant("LiteLLM simple-shuffle, equal weights", _online(baselines.RandomPolicy)),
    "litellm_cost_based": Contestant(
        "LiteLLM cost-based-routing", _online(lambda requests, seed: baselines.CheapestPerTokenPolicy(requests))
    ),
    "litellm_adaptive_router": Contestant(
        "LiteLLM adaptive_router, given the feedback",
        _online(baselines.AdaptiveRouterPolicy),
        needs="litellm.router_strategy.adaptive_router",
        package="litellm",
    ),
    "river_linucb": Contestant(
        "river LinUCBDisjoint(alpha=10)", _online(peers.RiverPolicy), needs="river", package="river"
    ),
    # Parameters are the best of those tried on three sets of real outcomes; with its package's defaults, every one of
    # them performs worse.
    "vw_squarecb": _vw("--squarecb --gamma_scale 1000 -l 0.1"),
    "vw_regcb": _vw("--regcbopt --mellowness 0.00001"),
    "vw_cover": _vw("--cover 5 --psi 0.01 --nounif -l 0.1"),
    "vw_bag": _vw("--bag 5 --greedify -l 0.1"),
    "mabwiser_linucb": _mabwiser("LinUCB", alpha=0.25, l2_lambda=10.0),
    "mabwiser_lints": _mabwiser("LinTS", alpha=0.1, l2_lambda=10.0),
    "paretobandit": Contestant(
        "paretobandit BanditRouter, cold start",
        _online(peers.ParetoBanditPolicy),
        needs="pareto_bandit",
        package="paretobandit",
    ),
}

REFERENCES: Mapping[str, Contestant] = {
    "best_fixed": Contestant("the best single model in hindsight", _fixed(baselines.best_fixed)),
    "full_information": Contestant(
        "trained offline on every model's outcome in the first half, same contexts; evaluated on the second half",
        lambda stream, seed: baselines.full_information(stream, stream.requests().features),
        half=True,
    ),
    "full_information_words": Contestant(
        "the same with 1,024 additional hashed word weights",
        lambda stream, seed: baselines.full_information(stream, baselines.text_features(stream)),
        half=True,
    ),
    "oracle": Contestant("the best model of every single request", lambda stream, seed: baselines.oracle(stream)),
}

POLICIES: Mapping[str, Contestant] = {**CONDUIT, **ONLINE, **REFERENCES}


def available(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split names into the policies that can run and those that cannot, with the package to install.

    Raises
    ------
    ConfigurationError
        When there is no policy with such a name.
    """
    if unknown := [name for name in names if name not in POLICIES]:
        raise ConfigurationError(f"unknown policy {unknown[0]!r}; known policies are {', '.join(POLICIES)}")
    missing = {name: POLICIES[name].package or "" for name in names if not _importable(POLICIES[name].needs)}
    return [name for name in names if name not in missing], missing


def chosen_arms(name: str, stream: Stream) -> Indices:
    """Return the arm that a policy chooses at each position of a stream; reproducible."""
    seed = crc32(f"{name}/{stream.seed}/{stream.tradeoff!r}".encode())
    return POLICIES[name].arms(stream, seed)


def _importable(module: str | None) -> bool:
    try:
        return module is None or find_spec(module) is not None
    except ModuleNotFoundError:
        return False
