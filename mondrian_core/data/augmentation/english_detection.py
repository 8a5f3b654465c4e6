"""Detecting English comments: the text rules of augmentation know English words only.

No language is identified, because a wrong guess costs more than a missing variant: every comment must show that it is
English, by words that other languages in Latin script don't have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MIN_ENGLISH_SHARE = 0.1  # share (0-1) of a comment's words that are English only; prose has 0.3 and more
MAX_FOREIGN_WORDS = 1

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff'\u2019]+")


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Common words, and words of texts about photographs. Words that Dutch, German or French spell the same (in, is, of, on,
# water, composition) are left out.
_ENGLISH = _set_of("""
    the and with this that these those which who whose from but not there their its it it's isn't doesn't by into
    through throughout could would should than very too both while where when what how your you they them are be
    been being has does here only just between toward towards across along against without within every each more
    most much many little few enough above below behind beneath beyond beside around about near because if then
    though although never always almost again away together makes make made gives give given holds hold keeps keep
    leads lead draws draw pulls pull feels feel looks look sits stands falls runs turns leaves lets brings helps
    works reads shows says gets takes needs adds loses lacks opens closes invites rests anchors follows carries
    reveals creates catches fills breaks divides light lights lighting lit bright brightness dark darkness shadow
    shadows highlights soft softness softly hard strong strongly weak sharp sharpness sharply blurred blurry focus
    focused eye eyes sky skies cloud clouds rock rocks river mountain mountains tree trees leaf snow road path
    bridge field hill valley lake sea stone window door wall street face head hands child woman people animal bird
    flower grass fence left right upper lower middle centre center centred centered foreground background
    midground subject viewer photographer picture photograph edge edges frame framing framed corner line lines
    leading shape shapes shade shades tone tones tonal color colors colour colours colourful hue depth weight
    balanced unbalanced balance mood moody quiet calm restless empty busy heavy cool warmth warmer cooler deep
    shallow flat crisp clear clean clearly fine good great better best poor bad rich full whole half large small
    tall short long wide narrow thin thick high low dull muted subtle subtly gentle gently careful carefully
    simple simply beautiful beautifully lovely striking strikingly stunning dramatic powerful emotional
    distracting pleasing well nothing something everything anything way place point part side top bottom first
    second third last time day night morning evening sunset sunrise moment story feeling sense impact space
    cluttered clutter separated separation stand isolated layered layers texture textures exposure exposed
    underexposed overexposed noise grain detail details
""")

# Words that are common in other languages and not English, and their words for left and right.
_FOREIGN = _set_of("""
    der das und ist nicht ein eine einen einem einer eines im mit von vom zu zum zur auf für den dem des sehr aber
    auch wird sind aus bei durch über wie noch nur oder als rechts linke linken linker rechte rechten rechter oben
    unten licht bild baum les une est et dans pas sur avec du au aux qui que très mais sont cette ce gauche droite
    lumière los las una es por para muy pero son está del al como izquierda derecha luz il lo gli di che molto
    sono è della nel nella sinistra destra luce um uma com não muito mas são da nos esquerda direita het een niet
    op te zeer maar ook wordt zijn naar voor uit rechterkant linkerkant och att det är ett på inte mycket men
    vänster höger og ikke av til venstre højre høyre nie jest bardzo lewo lewej lewa prawo prawej prawa je se
    vlevo vpravo levé pravé az egy és nem balra jobb jobbra și este stânga dreapta ve bir sağ solda sağda yang
    kiri kanan ja ei vasen vasemmalla oikea oikealla
""")
_SIDES = _set_of("""
    rechts linke linken linker rechte rechten rechter gauche droite izquierda derecha sinistra destra esquerda
    direita rechterkant linkerkant vänster höger venstre højre høyre lewo lewej prawo prawej vlevo vpravo balra
    jobbra stânga dreapta solda sağ sağda kiri kanan vasen vasemmalla oikea oikealla
""")


def is_english(comments: Iterable[str]) -> bool:
    """True when every comment that has words is recognizably English."""
    return all(_shows_english(comment) for comment in comments)


def shows_another_language(text: str) -> bool:
    """True for a text that shows it isn't English; a text of a few words may show neither."""
    words = [word.lower() for word in _WORD.findall(text)]
    if not all(_LATIN.fullmatch(word) for word in words) or any(word in _SIDES for word in words):
        return True
    foreign = sum(word in _FOREIGN for word in words)
    return foreign > 0 and foreign >= sum(word in _ENGLISH for word in words)


def _shows_english(comment: str) -> bool:
    words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(comment)]
    if not words:
        return not any(character.isalpha() for character in comment)
    if not all(_LATIN.fullmatch(word) for word in words):
        return False
    english = sum(word in _ENGLISH or word.removesuffix("'s") in _ENGLISH for word in words)
    foreign = sum(word in _FOREIGN for word in words)
    sides = any(word in _SIDES for word in words)
    return (
        not sides and foreign <= MAX_FOREIGN_WORDS and english > foreign and english >= MIN_ENGLISH_SHARE * len(words)
    )
