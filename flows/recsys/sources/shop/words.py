"""Titles and usual prices of the simulated shop's items.

In a title such as "Walnut desk lamp, navy", "desk lamp" depends on the item's category and the other two words on its style. So a
recommender can learn from titles about items that nobody has bought yet.
"""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

OWN_STYLE = 0.85  # chance of a word of the item's own style; otherwise the style is random
WORDS = 6  # of each style

# Words by style, one row each: natural, urban, classic, playful. No word is in two rows.
COLOURS = """sage sand moss clay oatmeal fern
    black graphite slate white smoke anthracite
    navy burgundy ivory emerald plum bronze
    coral turquoise yellow pink orange lilac"""
FLAVOURS = """honey almond chamomile oat elderflower nettle
    ginger cardamom charcoal juniper cedar salt
    lavender rose bergamot vanilla fig jasmine
    mango berry lemon coconut peach cherry"""

# Words before and after the kind of an item, by palette: materials or qualities, and colours or flavours.
PALETTES = {
    "solid": ("""oak birch bamboo rattan ash pine
        steel concrete iron glass aluminium zinc
        walnut brass marble copper mahogany porcelain
        enamel acrylic tin resin beech terrazzo""", COLOURS),
    "woven": ("""linen wool hemp cotton jute flannel
        denim canvas felt nylon jersey twill
        velvet silk satin cashmere tweed damask
        fleece corduroy patchwork quilted crochet knitted""", COLOURS),
    "consumable": ("""organic raw wild pure whole gentle
        bold strong deep intense cool smooth
        fine royal heritage grand noble vintage
        sunny happy tropical zesty bright breezy""", FLAVOURS),
}  # fmt: skip

# Category, its palette, and its kinds of item with their usual prices. The first two of each five categories have items that users
# buy again and again (World.period).
CATEGORIES = [
    ("Coffee", "consumable", "espresso beans 14, filter coffee 12, ground coffee 9, coffee pods 11, cold brew 7"),
    ("Soap", "consumable", "hand soap 6, soap bar 4, shower gel 7, bath salts 9, body scrub 12"),
    ("Lighting", "solid", "desk lamp 59, floor lamp 129, pendant light 89, wall light 69, night light 24, lantern 34"),
    ("Kitchen", "solid", "salad bowl 39, serving tray 29, bread box 45, pepper mill 32, spice rack 36, egg cups 16"),
    ("Bedding", "woven", "duvet cover 79, pillowcase 24, throw 54, bedspread 99, fitted sheet 44"),
    ("Tea", "consumable", "green tea 9, breakfast tea 8, herbal tea 7, iced tea 5, tea sampler 19"),
    ("Candles", "consumable", "scented candle 18, tea lights 6, pillar candle 9, reed diffuser 24, incense 8"),
    ("Furniture", "solid", "side table 119, bookcase 249, stool 79, coat stand 89, bench 169, nightstand 139"),
    ("Bags", "woven", "tote bag 29, backpack 79, weekend bag 119, pouch 19, laptop sleeve 35"),
    ("Office", "solid", "pen holder 19, letter tray 29, bookends 25, monitor stand 59, magazine file 22"),
    ("Chocolate", "consumable", "truffles 14, chocolate bar 4, hot chocolate 8, pralines 16, cocoa nibs 7"),
    ("Skin care", "consumable", "hand cream 11, face mask 8, lip balm 5, body lotion 13, face oil 22"),
    ("Tableware", "solid", "coasters 19, fruit bowl 35, cake stand 42, candle holder 22, napkin rings 18"),
    ("Living room", "woven", "cushion 32, rug 149, curtain 69, pouffe 95, blanket 59"),
    ("Garden", "solid", "planter 45, bird house 29, plant stand 55, herb pot 17, garden stool 85"),
    ("Snacks", "consumable", "granola bar 3, trail mix 6, rice crackers 4, popcorn 4, roasted nuts 7"),
    ("Cleaning", "consumable", "dish soap 5, surface spray 6, floor cleaner 8, window cleaner 5, scouring paste 7"),
    ("Decor", "solid", "vase 39, picture frame 25, wall clock 65, mirror 99, jewellery box 38"),
    ("Bath", "woven", "bath towel 29, bath mat 35, bathrobe 79, face cloth 9, shower curtain 39"),
    ("Games", "solid", "chess set 69, domino set 29, dice set 15, puzzle box 24, backgammon set 79"),
    ("Drinks", "consumable", "lemonade 4, syrup 8, tonic water 3, kombucha 5, cola 3"),
    ("Laundry", "consumable", "laundry liquid 12, fabric softener 7, stain remover 8, ironing water 5, starch 6"),
    ("Storage", "solid", "storage box 29, wall hooks 19, key rack 24, shoe rack 69, umbrella stand 55"),
    ("Clothing", "woven", "scarf 39, apron 35, beanie 25, slippers 42, pyjamas 69"),
    ("Jewellery", "solid", "bracelet 35, earrings 29, brooch 25, cufflinks 45, pendant 49"),
    ("Breakfast", "consumable", "muesli 6, jam 5, pancake mix 7, porridge 5, fruit spread 6"),
    ("Hair care", "consumable", "shampoo 9, conditioner 9, hair oil 15, hair mask 14, styling gel 8"),
    ("Toys", "solid", "building blocks 35, spinning top 12, toy train 45, ball track 59, stacking rings 22"),
    ("Nursery", "woven", "baby blanket 45, soft toy 25, bib 12, play mat 65, sleeping bag 59"),
    ("Outdoor", "woven", "picnic blanket 45, hammock 79, sun hat 29, deck chair 95, camping pillow 25"),
]  # fmt: skip


def name_categories(count: int) -> NDArray[np.str_]:
    """Returns `count` category names. After the last name of the list they are numbered, such as "Lighting 2"."""
    names = [CATEGORIES[place % len(CATEGORIES)][0] for place in range(count)]
    rounds = [place // len(CATEGORIES) for place in range(count)]
    return np.array([f"{name} {again + 1}" if again else name for name, again in zip(names, rounds, strict=True)])


def name_items(category: Ints, style: Ints, draw: np.random.Generator) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Returns a title and a usual price for each item, by its category and style (0 to 3). Equal titles are numbered."""
    kinds = [[kind.strip().rsplit(" ", 1) for kind in listed.split(",")] for _, _, listed in CATEGORIES]
    names, prices = (np.array(column) for column in zip(*(kind for some in kinds for kind in some), strict=True))
    counts = np.array([len(some) for some in kinds])
    listed = category % len(CATEGORIES)
    kind = (np.cumsum(counts) - counts)[listed] + (draw.random(len(category)) * counts[listed]).astype(np.int64)

    words = np.array([[text.split() for text in texts] for texts in PALETTES.values()])  # (palettes, places in a title, words)
    is_own = draw.random((2, len(category))) < OWN_STYLE
    styles = np.where(is_own, style, draw.integers(words.shape[2] // WORDS, size=is_own.shape))
    first, last = styles * WORDS + draw.integers(WORDS, size=is_own.shape)
    palette = np.array([list(PALETTES).index(name) for _, name, _ in CATEGORIES])[listed]

    copy = _count_earlier((kind * words.shape[2] + first) * words.shape[2] + last)
    number = np.where(copy > 0, np.char.add(" ", (copy + 1).astype(str)), "")
    parts = [np.char.capitalize(words[palette, 0, first]), " ", names[kind], number, ", ", words[palette, 1, last]]
    return reduce(np.char.add, parts), prices.astype(float)[kind]


def _count_earlier(codes: Ints) -> Ints:
    """For each element of an array, the number of earlier elements that are equal to it."""
    _, same, counts = np.unique(codes, return_inverse=True, return_counts=True)
    earlier = np.empty_like(codes)
    earlier[np.argsort(same, kind="stable")] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return earlier
