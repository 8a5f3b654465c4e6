"""What each voice says about a dimension that is weak, middling or strong to it: three tuples (1-3, 4-6, 7-9)."""

from __future__ import annotations

from collections.abc import Mapping

Bands = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
Verdicts = Mapping[str, Bands]

GENERIC_VERDICTS: Verdicts = {
    "composition": (
        ("the placement is weak", "the frame feels unplanned", "the arrangement falls apart"),
        ("the placement is acceptable", "the frame works in part", "the arrangement is ordinary"),
        ("the placement is strong", "the frame is well planned", "the arrangement guides the eye"),
    ),
    "lighting": (
        ("the exposure is poor", "the light is badly handled", "much tone is lost"),
        ("the exposure is fair", "the light is usable", "some tone is lost"),
        ("the exposure is good", "the light is well handled", "the tones are complete"),
    ),
    "focus_sharpness": (
        ("the picture is out of focus", "detail is lost", "nothing is sharp"),
        ("the picture is a little soft", "detail is fair", "the focus is not exact"),
        ("the picture is sharp", "detail is excellent", "the focus is exact"),
    ),
    "color_harmony": (
        ("the palette does not agree", "the tones disturb", "the treatment is harsh"),
        ("the palette is uneven", "the tones agree in part", "the treatment is passable"),
        ("the palette agrees", "the tones sit well together", "the treatment is consistent"),
    ),
    "subject_isolation": (
        ("the subject gets lost", "the scene is crowded", "the eye wanders"),
        ("the subject holds on", "the scene is a little busy", "the eye finds its way"),
        ("the subject stands clear", "the scene is clean", "the eye rests at once"),
    ),
    "depth_perspective": (
        ("the space is flat", "there is little depth", "the scene lacks distance"),
        ("the space is moderate", "there is some depth", "the distance is suggested"),
        ("the space is deep", "there is great depth", "the distance is convincing"),
    ),
    "visual_balance": (
        ("the frame tips over", "the weight is lopsided", "the picture is unstable"),
        ("the frame is nearly steady", "the weight is uneven", "the picture is a bit unsettled"),
        ("the frame is steady", "the weight is even", "the picture is stable"),
    ),
    "emotional_impact": (
        ("there is little feeling", "the mood is dull", "the picture leaves one cold"),
        ("there is some feeling", "the mood is mild", "the picture pleases"),
        ("there is strong feeling", "the mood is powerful", "the picture stays in mind"),
    ),
}

ANSEL_VERDICTS: Verdicts = {
    "composition": (
        ("I see no previsualisation here", "I would move the camera", "this was taken, not made"),
        ("I feel a picture beginning", "I would wait and step aside", "the ground glass asks for more"),
        ("I recognise a previsualised frame", "this was made, not taken", "I would set my tripod there too"),
    ),
    "lighting": (
        ("the Zone scale has collapsed", "I can print no detail from this", "the negative is lost"),
        ("I would place the shadows higher", "the zones are nearly right", "I would meter once more"),
        ("the zones fall where they must", "I could print this straight", "the negative holds everything"),
    ),
    "focus_sharpness": (
        ("I cannot forgive a fuzzy image", "the lens was not stopped down", "f/64 would weep"),
        ("I want a smaller aperture", "the lens could give more", "I would refocus under the cloth"),
        ("this is the f/64 clarity I seek", "the lens resolves every leaf", "I admire the fine definition"),
    ),
    "color_harmony": (
        ("I would leave colour aside", "the values quarrel in print", "I hear noise, not music"),
        ("I would translate this to grey", "the values are half resolved", "I would filter deep yellow"),
        ("the values sing in print", "I hear a full tonal scale", "the greys are orchestrated"),
    ),
    "subject_isolation": (
        ("I would clear the stage", "I cannot tell what was seen", "simplify, always simplify"),
        ("I would simplify the ground", "the seeing is half done", "a longer lens would help"),
        ("I know at once what was seen", "the seeing is simple and true", "nothing here is wasted"),
    ),
    "depth_perspective": (
        ("I find no distance in the land", "the valley is missing", "the plane is a wall"),
        ("I begin to feel the valley", "I would seek higher ground", "the planes half open"),
        ("I feel the whole valley open", "the planes recede as in Yosemite", "the distance breathes"),
    ),
    "visual_balance": (
        ("I would level the camera", "the masses fall off the print", "the tripod was careless"),
        ("I would adjust the masses", "the level needs a touch", "the print nearly rests"),
        ("the masses rest in the print", "the camera stood level and sure", "I feel at rest here"),
    ),
    "emotional_impact": (
        ("I felt nothing of the mountain", "the equivalent is missing", "I would wait for weather"),
        ("I sense a quiet equivalent", "I would wait for clearing storm", "the spirit stirs a little"),
        ("I feel the grandeur of the place", "the equivalent is complete", "this performance of light moves me"),
    ),
}

WATKINS_VERDICTS: Verdicts = {
    name: (
        (f"{weak}", f"the plate is wasted on this {noun}"),
        (f"{fair}", f"the plate records a fair {noun}"),
        (f"{good}", f"the plate is worthy of this {noun}"),
    )
    for name, noun, weak, fair, good in (
        ("composition", "view", "the stand was ill chosen", "the stand will serve", "the stand was well chosen"),
        ("lighting", "light", "the collodion saw little", "the collodion saw enough", "the collodion drank it in"),
        ("focus_sharpness", "detail", "the great lens was idle", "the lens did its duty", "the great lens excels"),
        ("color_harmony", "tone", "the tones jar", "the tones are sober", "the tones are noble"),
        ("subject_isolation", "monument", "the monument is hidden", "the monument shows", "the monument commands"),
        ("depth_perspective", "vista", "the vista is shut", "the vista is narrow", "the vista is immense"),
        ("visual_balance", "poise", "the poise is broken", "the poise is uncertain", "the poise is perfect"),
        ("emotional_impact", "silence", "the silence is empty", "the silence is gentle", "the silence is grand"),
    )
}

OKONKWO_VERDICTS: Verdicts = {
    "composition": (
        ("nobody lives in this frame", "the frame has no nerve", "I would walk on past it"),
        ("the frame wakes up slowly", "I would step half a pace left", "it is a fair first frame"),
        ("the frame has nerve", "I would stop right here too", "everything meets at the right moment"),
    ),
    "lighting": (
        ("the light kills the street", "I see no skin in this light", "the meter was asleep"),
        ("the light does half the work", "I would come back at six", "the light is honest enough"),
        ("the light does the talking", "this light is worth the wait", "the light falls like a shout"),
    ),
    "focus_sharpness": (
        ("the lens missed the moment", "nothing holds still here", "I can't read a face in this"),
        ("it is sharp where it must be", "I would trust zone focus", "the moment is nearly held"),
        ("the moment is held", "every edge is awake", "zone focus did its job"),
    ),
    "color_harmony": (
        ("the colours say nothing", "I miss one brave red", "the palette is asleep"),
        ("the colours whisper", "one accent would wake it", "the palette nearly sings"),
        ("the colours sing", "the accent hits its mark", "I would wear this palette"),
    ),
    "subject_isolation": (
        ("I can't tell who matters", "the crowd eats the picture", "nobody takes the stage"),
        ("the hero is half seen", "I would wait for a gap", "the stage is nearly set"),
        ("the hero takes the stage", "life fills the frame gladly", "each shape has its part"),
    ),
    "depth_perspective": (
        ("it is a wall, not a place", "I can't walk into it", "the space is shut"),
        ("the space opens a little", "I would crouch lower", "there is room for one step"),
        ("I can walk right in", "the space pulls me forward", "layers of life go back and back"),
    ),
    "visual_balance": (
        ("the frame just stands there", "it sits too still", "the frame trips over itself"),
        ("the frame starts to dance", "it leans but won't jump", "the rhythm is half there"),
        ("the frame dances", "the lean gives it energy", "the rhythm is right"),
    ),
    "emotional_impact": (
        ("I feel no pulse", "nothing happened here", "it leaves my heart slow"),
        ("there is a faint pulse", "something nearly happened", "I smile, then move on"),
        ("my pulse jumps", "something happened here", "I want to know what came next"),
    ),
}
