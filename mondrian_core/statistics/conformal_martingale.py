"""Conformal test martingales: evidence that a stream has left its reference, valid after every observation.

Each new value is ranked in the bag: the reference and all values before it. While reference and stream are exchangeable
the smoothed ranks are independent and uniform, whatever the distribution is and however small the reference (Vovk,
Gammerman and Shafer 2022, "Algorithmic Learning in a Random World", chapter 8). Bets against uniformity therefore win
nothing on average: capital that starts at 1 ever reaches 1/alpha with probability at most alpha (Ville's inequality).

A stream may change at any time, so only a part of the capital is staked at the start. The rest is a reserve, and a
small part of it is staked again with every value: a change after a thousand quiet values costs the logarithm of that
part, and not the losses of a thousand bets.

Shapes: `...` independent streams, `S` signals, `B` bins of a signal's values, `E` bets. All functions are pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Counts = NDArray[np.int32]  # a bag holds far fewer than 2^31 values, and half the bytes take half the time
BetKind = Literal["two_sided", "upper", "rate"]

FIRST_STAKE = 0.4  # of the capital, when a watch begins
STAKE_PER_VALUE = 1 / 8000  # of the reserve: after a year of 50 values a day a tenth of it is left
SHIFTS = (0.4, 0.8, 1.5)  # alternatives: the values are higher or lower by so many standard deviations
SPREADS = (0.5, 1.6)  # alternatives: their spread is so many times as large
SHIFT_SHARE = 0.8  # of a two-sided stake
TOP_SHARES = (1 / 64, 1 / 16, 1 / 4)  # alternatives of a rate: more values than expected are in this top share
TOP_STAKES = (0.1, 0.3, 0.8)  # the part of the capital that is bet on the top share
BETS = len(TOP_SHARES) * len(TOP_STAKES)


@dataclass(frozen=True, kw_only=True)
class MartingaleState:
    """Everything that the next value needs.

    Attributes:
        bag: (..., S, B), how many values of the bag are in each bin or a lower one.
        reserve: (..., S), capital that is not staked.
        stakes: (..., S, E), capital of each bet.
    """

    bag: Counts
    reserve: Vector
    stakes: Vector

    @property
    def evidence(self) -> Vector:
        """(..., S) the capital, an e-value."""
        return np.asarray(self.reserve + self.stakes.sum(axis=-1))


def start_martingale(reference: ArrayLike, kinds: tuple[BetKind, ...], capital: ArrayLike = 1.0) -> MartingaleState:
    """The state before the first value.

    Args:
        reference: (..., S, B), how many values of the reference are in each bin.
        kinds: (S,), what is bet on: any change, higher values only, or more values in the upper bins.
        capital: (..., S) or one number, at most 1; less when earlier watches of the same year have spent some.
    """
    counts = np.asarray(reference, dtype=np.int32)
    given = np.minimum(np.broadcast_to(np.asarray(capital, dtype=np.float64), counts.shape[:-1]), 1.0)
    return MartingaleState(
        bag=counts.cumsum(axis=-1, dtype=np.int32),
        reserve=given * (1.0 - FIRST_STAKE),
        stakes=given[..., None] * FIRST_STAKE * bet_shares(kinds),
    )


def add_values(
    state: MartingaleState, kinds: tuple[BetKind, ...], bins: ArrayLike, ties: ArrayLike, known: ArrayLike = True
) -> MartingaleState:
    """The state after one more value of each signal.

    Args:
        state: before it.
        kinds: (S,), as at the start.
        bins: (..., S), the bin of each value, 0 to B - 1.
        ties: (..., S), numbers in (0, 1) that place a value among equal ones: uniform, and independent of the values.
        known: (..., S), False for a signal without a value; it stays unchanged.
    """
    places = np.asarray(bins, dtype=np.int64)
    counted = np.broadcast_to(np.asarray(known, dtype=bool), places.shape)
    moved = np.where(counted, state.reserve * STAKE_PER_VALUE, 0.0)
    factors = bet_factors(smoothed_ranks(state.bag, places, ties), kinds)
    staked = (state.stakes + moved[..., None] * bet_shares(kinds)) * factors
    added = (np.arange(state.bag.shape[-1]) >= places[..., None]) & counted[..., None]
    return replace(
        state,
        bag=state.bag + added,
        reserve=state.reserve - moved,
        stakes=np.where(counted[..., None], staked, state.stakes),
    )


def smoothed_ranks(bag: Counts, bins: ArrayLike, ties: ArrayLike) -> Vector:
    """(..., S) ranks in (0, 1) of values among the bag and themselves; equal values share their interval by `ties`."""
    places = np.asarray(bins, dtype=np.int64)[..., None]
    at_most = np.take_along_axis(bag, places, axis=-1)[..., 0]
    below = np.where(places[..., 0] > 0, np.take_along_axis(bag, np.maximum(places - 1, 0), axis=-1)[..., 0], 0)
    return np.asarray((below + np.asarray(ties) * (at_most - below + 1)) / (bag[..., -1] + 1))


def bet_shares(kinds: tuple[BetKind, ...]) -> Vector:
    """(S, E) how a stake is divided among the bets; unused places have 0."""
    shares = np.zeros((len(kinds), BETS))
    shifts, spreads = len(SHIFTS), len(SPREADS)
    for row, kind in zip(shares, kinds, strict=True):
        if kind == "two_sided":
            row[: 2 * shifts] = SHIFT_SHARE / (2 * shifts)
            row[2 * shifts : 2 * shifts + spreads] = (1.0 - SHIFT_SHARE) / spreads
        elif kind == "upper":
            row[:shifts] = 1.0 / shifts
        else:
            row[:] = 1.0 / BETS
    return shares


def bet_factors(ranks: Vector, kinds: tuple[BetKind, ...]) -> Vector:
    """(..., S, E) what each bet returns for one unit; the mean over uniform ranks is 1.

    A shift bets on the density of the ranks of normal values that moved, a spread on that of values that scatter
    differently, and a rate on the top share of the ranks. Only the ranks are used: the values need not be normal.
    """
    from scipy.special import ndtri

    normal = np.asarray(ndtri(ranks))[..., None]
    moved = np.concatenate([np.array(SHIFTS), -np.array(SHIFTS)])
    wide = np.array(SPREADS)
    factors = np.ones((*ranks.shape, BETS))
    factors[..., : len(moved)] = np.exp(moved * normal - moved**2 / 2)
    spread = np.exp(normal**2 * (1 - wide**-2) / 2) / wide
    factors[..., len(moved) : len(moved) + len(wide)] = spread
    rates = [place for place, kind in enumerate(kinds) if kind == "rate"]
    if rates:
        top = np.repeat(np.array(TOP_SHARES), len(TOP_STAKES))
        part = np.tile(np.array(TOP_STAKES), len(TOP_SHARES))
        factors[..., rates, :] = 1 - part + part * (ranks[..., rates, None] > 1 - top) / top
    return factors
