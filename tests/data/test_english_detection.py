"""English detection, comment by comment: in doubt the answer is no."""

from __future__ import annotations

import pytest

from mondrian_core.data.augmentation.english_detection import is_english
from mondrian_core.data.augmentation.image_variants import (
    Mirror,
    forbidden_operations,
    is_operation_allowed,
    plan_variants,
)
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS

ENGLISH = [
    "The tree on the left carries the picture; the right side is empty.",
    "Soft light.",
    "Calm light across the valley.",
    "It’s “soft” light – truly… no more — no less.",
    "Strong leading lines draw the eye into the frame.",
    "A café at dusk; its neon sign is the only warm tone.",
    "The path links the foreground to the peaks.",
    "Deep shadows hold detail.",
    "Everything sits too far to the right.",
    "A great sunrise 🌅 here.",
]
OTHERS = {
    "German": "Der Baum links trägt das Bild; rechts ist es leer.",
    "German, short": "Baum links, Haus rechts.",
    "German without umlauts": "Das Licht kommt von links und ist warm.",
    "German terms": "Starke Komposition, links offen.",
    "French": "L'arbre à gauche porte l'image; la droite est vide.",
    "French, short": "Arbre gauche.",
    "Spanish": "El árbol de la izquierda sostiene la imagen.",
    "Italian": "L'albero a sinistra regge la fotografia.",
    "Portuguese": "A árvore à esquerda sustenta a imagem.",
    "Dutch": "De boom links draagt het beeld; rechts is het leeg.",
    "Dutch, like English": "Water in de hand, wind over land.",
    "Swedish": "Trädet till vänster bär bilden.",
    "Norwegian": "Treet til venstre bærer bildet.",
    "Polish": "Drzewo po lewej niesie zdjęcie.",
    "Czech": "Strom vlevo nese obraz.",
    "Hungarian": "A bal oldali fa viszi a képet.",
    "Finnish": "Vasemmalla oleva puu kantaa kuvaa.",
    "Turkish": "Soldaki ağaç resmi taşıyor.",
    "Indonesian": "Pohon di kiri memikul gambar.",
    "Latin": "Arbor sinistra imaginem portat.",
    "Welsh": "Mae'r goeden ar y chwith yn cynnal y llun.",
    "Swahili": "Mti wa kushoto unabeba picha.",
    "Chinese": "光线柔和而有层次。左边的树。",
    "Japanese": "左の木が良い。",
    "Korean": "왼쪽 나무가 좋다.",
    "Russian": "Дерево слева держит кадр.",
    "Greek": "Το δέντρο αριστερά.",
    "Arabic": "الشجرة على اليسار.",
    "Hebrew": "העץ משמאל.",
    "Hindi": "बाईं ओर का पेड़।",
    "mixed": "The light is soft, aber der Baum links ist zu dunkel.",
    "mixed scripts": "The tree 左边 is strong.",
    "an English word in another text": "Der Baum links ist ein Highlight mit Bokeh.",
    "terms alone": "Bokeh, Chiaroscuro.",
}


@pytest.mark.parametrize("comment", ENGLISH)
def test_english_comments_are_recognized(comment: str) -> None:
    assert is_english([comment])


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_are_not_english(language: str) -> None:
    assert not is_english([OTHERS[language]])


def test_single_foreign_comment_makes_critique_non_english() -> None:
    assert is_english(ENGLISH)
    assert not any(is_english([*ENGLISH, other]) for other in OTHERS.values())
    assert is_english(["The sky is calm.", "", "7/10."])


@pytest.mark.parametrize("language", OTHERS)
def test_non_english_comments_get_no_mirrored_variant(language: str) -> None:
    comments = dict.fromkeys(DIMENSIONS, "Calm light across the valley.")
    recipe = DataRecipe(flips=True, variants=6)
    assert any(Mirror() in variant.operations for variant in plan_variants("a", comments, recipe))
    mixed = {**comments, "lighting": OTHERS[language]}
    for comments in (mixed, dict.fromkeys(DIMENSIONS, OTHERS[language])):
        made = plan_variants("a", comments, recipe)
        assert not any(Mirror() in variant.operations for variant in made)
        assert "mirror" in forbidden_operations(comments, recipe)
        assert not is_operation_allowed(Mirror(), comments)
    assert len(plan_variants("a", mixed, recipe)) > 1, "the other variants stay"
