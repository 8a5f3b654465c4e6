"""What each voice advises about each fault, in short sentences with the scene's facts filled in.

Keys are the kinds of `scene_faults`. `RECOMMENDATIONS` holds a voice's advice, `PRIORITIES` the same in a few words,
`STRENGTHS` what a good dimension is praised for. No two kinds share a priority, so a reader can tell what is meant.
"""

from __future__ import annotations

from collections.abc import Mapping

Phrases = Mapping[str, tuple[str, ...]]

_PLAIN_ADVICE: Phrases = {
    "centred": (
        "Move the {subject} from the middle to the {side} third.",
        "Turn the camera until the {subject} stands on the {side} third.",
    ),
    "edged": (
        "Give the {subject} more room at the {side} edge.",
        "Step back so that the {subject} leaves the {side} edge.",
    ),
    "halved": (
        "Raise or lower the camera so that the horizon leaves the middle.",
        "Put the horizon on a third instead of the middle.",
    ),
    "over": ("Expose {stops} less to keep the highlights.", "Reduce the exposure by {stops} and hold the sky."),
    "under": ("Expose {stops} more to open the shadows.", "Raise the exposure by {stops} and keep the ground."),
    "flat_light": ("Come back when the sun stands low and to the side.", "Wait for side light that models the land."),
    "blurred": (
        "Use a tripod and focus again; the whole view is blurred.",
        "Repeat it with a faster shutter and exact focus.",
    ),
    "soft": ("Stop the lens down two stops for crisper edges.", "Check the focus at full magnification next time."),
    "clash": (
        "Correct the white balance and calm the saturation in post.",
        "Remove the colour cast and keep one family of hues.",
    ),
    "split_tone": ("Neutralise the split tone for pure greys.", "Take the toning out of shadows and highlights."),
    "rivals": (
        "Wait or move until fewer bright shapes compete with the {subject}.",
        "Leave the {rival} and its like out of the frame.",
    ),
    "rival": (
        "Take one step aside to hide the {rival}.",
        "Darken the {rival} in post so that it stops competing.",
    ),
    "rival_at_edge": ("Crop the {rival} off the {side} edge.", "Cut the {side} edge until the {rival} is gone."),
    "merged": (
        "Lighten the {subject} so that it leaves its ground.",
        "Find an angle that parts the {subject} from the ground.",
    ),
    "few_planes": ("Include a near and a middle ground for depth.", "Climb higher so that more planes open behind."),
    "no_lead": ("Look for a path or line that leads into the view.", "Use a track as a lead into the distance."),
    "no_haze": ("Shoot in morning mist so that the planes part.", "Wait for haze that lightens the far land."),
    "tilted": (
        "Level the horizon: turn the picture {degrees} {turn}.",
        "Rotate it {degrees} {turn} so that the horizon lies level.",
    ),
    "heavy_side": (
        "Leave out part of the dark mass on the {side}.",
        "Balance the dark {side} with weight on the other side.",
    ),
    "empty_sky": ("Wait for clouds, or show less of the empty sky.", "Return when the weather gives the sky a shape."),
    "flat_contrast": ("Add contrast with a gentle curve in post.", "Set a true black and a true white in post."),
}

_ANSEL_ADVICE: Phrases = {
    "centred": (
        "I would swing the view camera until the {subject} finds the {side} third.",
        "Previsualise again and let the {subject} stand on the {side} third.",
    ),
    "edged": (
        "I would carry the tripod back and free the {subject} from the {side} edge.",
        "Let the {subject} breathe; the {side} edge holds it captive.",
    ),
    "halved": (
        "I would use the rising front until the horizon leaves the middle.",
        "Give the sky or the ground two thirds of the plate.",
    ),
    "over": (
        "Place the sky on Zone VII: {stops} less, then print down.",
        "I would expose {stops} less behind a deep yellow filter.",
    ),
    "under": (
        "Place the shadows on Zone III and give {stops} more.",
        "I would give {stops} more and develop the negative less.",
    ),
    "flat_light": ("I would wait for low light across the stone.", "Wait for the hour when light shapes the range."),
    "blurred": (
        "Set the tripod on rock, stop down to f/64, release by cable.",
        "I would focus again under the cloth; a fuzzy image can't be printed.",
    ),
    "soft": ("I would stop down to f/64 and focus on the near third.", "Use a smaller aperture and a firmer tripod."),
    "clash": (
        "I would translate these colours to grey and print the values.",
        "Leave colour aside and let the values speak.",
    ),
    "split_tone": (
        "Tone the whole print in selenium, or not at all.",
        "I would print this on neutral paper without toning.",
    ),
    "rivals": (
        "Simplify: I would burn down the {rival} and its companions.",
        "I would wait until the stage around the {subject} is clear.",
    ),
    "rival": ("Burn the {rival} down two zones in the print.", "I would move the tripod until the {rival} is hidden."),
    "rival_at_edge": (
        "Trim the print: the {rival} on the {side} edge must go.",
        "I would mask the {side} edge and lose the {rival}.",
    ),
    "merged": (
        "Dodge the {subject} one zone above its ground.",
        "A red filter would lift the {subject} from its ground.",
    ),
    "few_planes": (
        "I would climb until the valley opens plane behind plane.",
        "Stand higher and set rock before the far range.",
    ),
    "no_lead": (
        "Let a stream or trail carry the eye to the range.",
        "I would seek a line of stones that leads inward.",
    ),
    "no_haze": ("A blue filter would let the far planes recede.", "I would wait for morning haze between the ridges."),
    "tilted": (
        "Level the camera by {degrees} {turn} before the next plate.",
        "I would true the horizon, {degrees} {turn}, under the enlarger.",
    ),
    "heavy_side": (
        "Burn less on the {side}; the dark mass pulls the print over.",
        "I would move until the {side} wall takes less of the plate.",
    ),
    "empty_sky": (
        "Wait for a clearing storm; this sky says nothing.",
        "I would come back for weather and a red filter.",
    ),
    "flat_contrast": ("Print it on a harder paper grade.", "I would develop this negative longer for contrast."),
}

_WATKINS_ADVICE: Phrases = {
    "centred": (
        "Let the {subject} hold the centre with a firmer frame.",
        "Keep the {subject} central and mind the margins.",
    ),
    "edged": (
        "Set the stand so that the {subject} commands the centre.",
        "Bring the {subject} from the {side} edge to the heart of the plate.",
    ),
    "halved": ("Divide the plate evenly and with intent.", "Let water mirror the upper half of the plate."),
    "over": (
        "Cap the lens sooner; {stops} less would hold the tone.",
        "Shorten the exposure by {stops} and keep the sky's tone.",
    ),
    "under": (
        "Leave the cap off longer; the collodion wants {stops} more.",
        "Expose {stops} more and let the plate drink the light.",
    ),
    "flat_light": ("Rise early; the morning sun draws the cliff.", "Make the plate while the shadows are long."),
    "blurred": (
        "Weight the stand with stones and let the wind die.",
        "Make the plate again; the great lens was shaken.",
    ),
    "soft": ("Use the smallest stop and a longer sitting.", "Rack the lens with a magnifier before the plate."),
    "clash": ("Make an albumen print and spare us the colours.", "Let one sober brown tone carry the view."),
    "split_tone": ("Gold tone the whole print evenly.", "Fix and wash longer; the tones are stained."),
    "rivals": (
        "Have the camp cleared before the plate is coated.",
        "Wait until nothing but the {subject} stands there.",
    ),
    "rival": ("Send the {rival} away before you uncap the lens.", "Hide the {rival} behind the {subject}."),
    "rival_at_edge": (
        "Trim the mount at the {side}; the {rival} intrudes.",
        "Shift the stand until the {rival} leaves the {side} edge.",
    ),
    "merged": ("Wait for sun upon the {subject} alone.", "Choose a standpoint with sky behind the {subject}."),
    "few_planes": (
        "Haul the camera to the high point; the vista is shut.",
        "Take the far rim; set forest before the cliffs.",
    ),
    "no_lead": ("Let the river lead into the valley.", "Place the wagon road in the foreground."),
    "no_haze": ("Make the plate at dawn, while mist fills the valley.", "A veil of morning air would part the cliffs."),
    "tilted": (
        "Use the plumb line: {degrees} {turn} makes the view true.",
        "Level the stand by {degrees} {turn}; poise comes first.",
    ),
    "heavy_side": ("Answer the dark {side} with a mass opposite.", "Step out from under the {side} wall."),
    "empty_sky": ("Mask in a second negative of quiet cloud.", "Wait for thin, still cloud above the dome."),
    "flat_contrast": ("Print it longer in the sun for a richer tone.", "Use a denser negative for the albumen."),
}

_OKONKWO_ADVICE: Phrases = {
    "centred": (
        "Push the {subject} off the middle; let the {side} carry it.",
        "Break the symmetry: shove the {subject} to the {side}.",
    ),
    "edged": (
        "Let the {subject} lean on the {side} edge harder.",
        "Cut into the {subject} at the {side}, if you dare.",
    ),
    "halved": ("Tip the horizon high and fill the frame with ground.", "Drop to your knees and let the sky take over."),
    "over": ("Drop {stops}; keep the colour in the bright parts.", "Meter for the skin of the light: {stops} less."),
    "under": ("Open up {stops}; faces need light.", "Push the film {stops} and keep the night alive."),
    "flat_light": ("Come back at six, when the light cuts sideways.", "Find a hard shadow and let someone walk in."),
    "blurred": (
        "Faster shutter, at least a five-hundredth, and try again.",
        "Prefocus at three metres and let life come in.",
    ),
    "soft": ("Trust zone focus at f/8 and stop hunting.", "One notch more shutter would hold the moment."),
    "clash": ("Pick one accent colour and quiet the rest.", "Keep the boldest hue; mute its neighbours by half."),
    "split_tone": ("Give me colour back, or drop the toning.", "Shoot this in colour; toned grey hides the life."),
    "rivals": (
        "Wait for a gap so that the {subject} takes the stage.",
        "Let the {rival} overlap the {subject}; connect them.",
    ),
    "rival": ("Bring a second person near the {rival}; one is lonely.", "Wait until somebody walks past the {rival}."),
    "rival_at_edge": (
        "Cut the {rival} at the {side} edge, or include all of it.",
        "Lose the half {rival} on the {side}.",
    ),
    "merged": ("Wait until the {subject} crosses something bright.", "Shift a metre until the {subject} pops out."),
    "few_planes": ("Shoot through something near; build layers.", "Add a foreground: a shoulder, a fence, a window."),
    "no_lead": ("Let a kerb or rail run into the corner.", "Follow a line in; I want to walk there."),
    "no_haze": ("Backlight the dust so that the layers part.", "Shoot toward the light for some glow."),
    "tilted": (
        "Either lean further or turn it {degrees} {turn}.",
        "A half lean is a mistake: turn it {degrees} {turn}.",
    ),
    "heavy_side": ("Put a bright thing against the dark {side}.", "Step {side} and let the wall fall out."),
    "empty_sky": ("Fill that sky with a wire, a bird, a kite.", "Crop the dead sky and come closer to life."),
    "flat_contrast": ("Crush the blacks and let the colour shout.", "Give it punch: deeper blacks, brighter accents."),
}

RECOMMENDATIONS: Mapping[str, Phrases] = {
    "generic": _PLAIN_ADVICE,
    "ansel": _ANSEL_ADVICE,
    "watkins": _WATKINS_ADVICE,
    "okonkwo": _OKONKWO_ADVICE,
}

PRIORITIES: Phrases = {
    "centred": ("Move the {subject} out of the centre.",),
    "edged": ("Free the {subject} from the {side} edge.",),
    "halved": ("Take the horizon out of the middle.",),
    "over": ("Hold the highlights: {stops} less.",),
    "under": ("Open the shadows: {stops} more.",),
    "flat_light": ("Find light from the side.",),
    "blurred": ("Get the picture sharp.",),
    "soft": ("Make the edges crisper.",),
    "clash": ("Calm the colours.",),
    "split_tone": ("Clean the greys.",),
    "rivals": ("Clear the bright shapes away.",),
    "rival": ("Hide the {rival}.",),
    "rival_at_edge": ("Crop the {rival} off the {side} edge.",),
    "merged": ("Part the {subject} from its ground.",),
    "few_planes": ("Build more depth.",),
    "no_lead": ("Add a line that leads in.",),
    "no_haze": ("Use haze between the planes.",),
    "tilted": ("Level the horizon.",),
    "heavy_side": ("Lighten the dark {side} side.",),
    "empty_sky": ("Wait for a sky with shape.",),
    "flat_contrast": ("Strengthen the contrast.",),
}

STRENGTHS: Mapping[str, Phrases] = {
    "generic": {
        "composition": ("The {subject} is well placed.", "A clear arrangement."),
        "lighting": ("The exposure holds every tone.", "Well judged light."),
        "focus_sharpness": ("Crisp detail throughout.", "Exact focus."),
        "color_harmony": ("The tones belong together.", "A calm, consistent palette."),
        "subject_isolation": ("The {subject} stands clear.", "Nothing distracts from the {subject}."),
        "depth_perspective": ("Convincing depth.", "The planes recede well."),
        "visual_balance": ("The frame is steady.", "Even weight on both sides."),
        "emotional_impact": ("The sky gives it mood.", "A strong feeling of place."),
    },
    "ansel": {
        "composition": ("A previsualised frame.", "The {subject} stands where I would set it."),
        "lighting": ("The zones fall where they must.", "A negative that holds everything."),
        "focus_sharpness": ("The clarity of f/64.", "The lens resolves every leaf."),
        "color_harmony": ("The values sing.", "A full scale of greys."),
        "subject_isolation": ("Simple, true seeing.", "The {subject} is seen at once."),
        "depth_perspective": ("The valley opens.", "Planes that recede as in Yosemite."),
        "visual_balance": ("The masses rest in the print.", "A sure tripod."),
        "emotional_impact": ("The grandeur of the place.", "Weather and light perform."),
    },
    "watkins": {
        "composition": ("The stand was well chosen.", "The {subject} holds the plate."),
        "lighting": ("The collodion drank it in.", "A plate full of light."),
        "focus_sharpness": ("The great lens excels.", "Every stone can be counted."),
        "color_harmony": ("Noble tones.", "A sober, even print."),
        "subject_isolation": ("The {subject} commands the view.", "The monument stands alone."),
        "depth_perspective": ("An immense vista.", "Cliff behind cliff."),
        "visual_balance": ("Perfect poise.", "The view stands plumb."),
        "emotional_impact": ("A grand silence.", "Stillness well kept."),
    },
    "okonkwo": {
        "composition": ("A frame with nerve.", "The {subject} is caught just right."),
        "lighting": ("The light does the talking.", "Light that falls like a shout."),
        "focus_sharpness": ("The moment is held.", "Every edge is awake."),
        "color_harmony": ("The colours sing.", "An accent that hits."),
        "subject_isolation": ("Life fills the frame.", "The {subject} takes the stage."),
        "depth_perspective": ("Layers I can walk into.", "Space that pulls me in."),
        "visual_balance": ("The frame dances.", "A lean with energy."),
        "emotional_impact": ("It has a pulse.", "Something happened here."),
    },
}
