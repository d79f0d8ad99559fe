"""The words of the generated shop: categories with brands, products, prices and seasons. All brands are invented."""

from dataclasses import dataclass
from typing import Final

ALL_YEAR: Final = (1.0,) * 12


@dataclass(frozen=True, slots=True)
class Category:
    """A shelf of the shop: brand + adjective + noun is a name, use and detail are its description.

    `nouns` go from the cheapest to the dearest, `prices` (whole dollars) are the two ends; `months` weighs how well it
    sells from January to December; `bought_again` is the share of purchases that repeat an earlier one.
    """

    name: str
    brands: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    uses: tuple[str, ...]
    details: tuple[str, ...]
    prices: tuple[int, int]
    months: tuple[float, ...] = ALL_YEAR
    bought_again: float = 0.05


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


_WINTER: Final = (2.0, 1.6, 1.0, 0.6, 0.4, 0.3, 0.3, 0.4, 0.7, 1.2, 1.8, 2.4)
_SUMMER: Final = (0.3, 0.4, 0.8, 1.4, 2.0, 2.4, 2.2, 1.6, 0.9, 0.5, 0.3, 0.3)
_GIFTS: Final = (0.6, 0.7, 0.7, 0.8, 0.8, 0.8, 0.7, 0.8, 0.9, 1.2, 2.2, 2.8)
_NEW_YEAR: Final = (2.6, 1.8, 1.3, 1.0, 1.0, 0.9, 0.7, 0.7, 1.0, 0.8, 0.7, 0.9)
_SCHOOL: Final = (1.6, 1.0, 0.9, 0.8, 0.8, 0.7, 0.8, 1.8, 1.7, 1.0, 0.9, 0.9)

CATEGORIES: Final = (
    Category(
        name="Electronics",
        brands=_words("Voltaray, Nimbrix, Quellon, Arkadeo, Lumetrik"),
        adjectives=_words(
            "Wireless, Compact, Portable, Smart, Slim, Rugged, Quiet, Mini, Pro, Classic, Travel, Studio"
        ),
        nouns=_words(
            "Mouse, Charger, Power Bank, Keyboard, Webcam, Radio, Earbuds, Speaker, Router, Microphone, "
            "Docking Station, Hard Drive, E-Reader, Headphones, Smart Watch, Projector, Monitor, Tablet, Camera, Laptop"
        ),
        uses=_words("for travel, for the desk, for music, for the whole family"),
        details=_words("long battery life, USB-C, two-year warranty, low power, ready in a minute"),
        prices=(15, 900),
        months=_GIFTS,
    ),
    Category(
        name="Books",
        brands=_words("Harrowgate Press, Lantern & Quill, Blue Heron Books, Meridian Pages"),
        adjectives=_words(
            "Silent, Hidden, Last, Distant, Broken, Golden, Forgotten, Burning, Winter, Paper, Hollow, Secret"
        ),
        nouns=_words(
            "Harbor, Orchard, Cartographer, River, Lighthouse, Library, Astronomer, Garden, Island, Clockmaker, "
            "Voyage, Bridge, Kingdom, Archive, Signal, Mountain, Letter, Tide, Theorem, Cathedral"
        ),
        uses=_words("a novel, a mystery, science fiction, a family saga, short stories, a history"),
        details=_words("hardcover, paperback, illustrated, large print"),
        prices=(9, 32),
        months=_GIFTS,
    ),
    Category(
        name="Fitness Equipment",
        brands=_words("Corvanta, Stridewell, Ironmere, Pulsara"),
        adjectives=_words("Adjustable, Heavy, Light, Ergonomic, Compact, Pro, Starter, Studio, Classic, Soft, Travel"),
        nouns=_words(
            "Jump Rope, Yoga Block, Resistance Bands, Foam Roller, Yoga Mat, Step, Medicine Ball, Balance Board, "
            "Pull-Up Bar, Kettlebell, Dumbbell Set, Weight Bench, Rowing Machine, Exercise Bike, Treadmill"
        ),
        uses=_words("for home training, for beginners, for daily practice, for strength, for stretching"),
        details=_words("easy to store, non-slip grip, with workout plan, eco-friendly, sweat resistant"),
        prices=(9, 650),
        months=_NEW_YEAR,
    ),
    Category(
        name="Fashion",
        brands=_words("Ostrava Lane, Fenwick Vale, Mirabeau Street, Tallgrass, Noorline"),
        adjectives=_words("Striped, Classic, Relaxed, Everyday, Soft, Vintage, Navy, Olive, Charcoal, Crimson, Sand"),
        nouns=_words(
            "Socks, Cap, Gloves, Belt, Scarf, Shirt, Blouse, Skirt, Trousers, Sandals, Sweater, Cardigan, Dress, "
            "Sneakers, Raincoat, Boots, Jacket, Coat"
        ),
        uses=_words("for every day, for the office, for weekends, for evenings out"),
        details=_words("organic cotton, machine washable, recycled fibers, soft lining, made to last"),
        prices=(8, 220),
    ),
    Category(
        name="Home & Kitchen",
        brands=_words("Casa Brenna, Kettlemoor, Hearthly, Pomodine"),
        adjectives=_words("Copper, Classic, Retro, Large, Small, Compact, Rustic, Matte, Everyday, Family, Nordic"),
        nouns=_words(
            "Cutting Board, Spice Rack, Salad Bowl, Storage Jars, Mixing Bowls, Baking Dish, Teapot, Saucepan, Kettle, "
            "Skillet, Toaster, Table Lamp, Knife Set, Blender, Coffee Maker, Dutch Oven, Espresso Machine"
        ),
        uses=_words("for four people, for small kitchens, for slow Sundays, a good gift"),
        details=_words("dishwasher safe, easy to clean, compact design, made to last, easy to use"),
        prices=(9, 320),
    ),
    Category(
        name="Garden",
        brands=_words("Fernhollow, Greenmarch, Tilden & Root"),
        adjectives=_words("Cedar, Galvanized, Classic, Rustic, Large, Small, Sturdy, Weatherproof, Terrace, Cottage"),
        nouns=_words(
            "Pruner, Watering Can, Bird Feeder, Rake, Spade, Lantern, Plant Stand, Hose, Planter, Trellis, "
            "Compost Bin, Parasol, Hammock, Fire Bowl, Bench, Greenhouse"
        ),
        uses=_words("for balcony and terrace, for small gardens, for vegetables, for roses"),
        details=_words("rustproof, easy to assemble, stores flat, stays out all winter"),
        prices=(8, 280),
        months=_SUMMER,
    ),
    Category(
        name="Outdoor",
        brands=_words("Ridgeborn, Northfell, Trailmoss, Summitar"),
        adjectives=_words("Ultralight, Trail, Expedition, Weekend, Rugged, Compact, Classic, Summit, Forest, Coastal"),
        nouns=_words(
            "Compass, Water Bottle, Dry Bag, Headlamp, Camping Chair, Cooler, Trekking Poles, Camp Stove, Hammock, "
            "Fleece, Backpack, Rain Shell, Hiking Boots, Sleeping Bag, Tent"
        ),
        uses=_words("for two people, for long walks, for wet days, for families"),
        details=_words("under one kilo, taped seams, fits a daypack, repairable, recycled fabric"),
        prices=(12, 480),
        months=_SUMMER,
    ),
    Category(
        name="Winter Sports",
        brands=_words("Glacienne, Frosthaven, Alpinore"),
        adjectives=_words("Alpine, Nordic, Glacier, Racing, Junior, Touring, Classic, Pro, Light, Thermal, Freeride"),
        nouns=_words(
            "Ski Wax, Hand Warmers, Ski Socks, Neck Warmer, Balaclava, Ski Gloves, Boot Bag, Sled, Base Layer, "
            "Goggles, Ski Poles, Ski Helmet, Ice Skates, Snow Pants, Ski Jacket, Snowboard"
        ),
        uses=_words("for icy slopes, for deep snow, for beginners, for long days"),
        details=_words("stays dry, breathable, reflective, warm to minus twenty"),
        prices=(9, 420),
        months=_WINTER,
    ),
    Category(
        name="Toys & Games",
        brands=_words("Puzzlewick, Little Otter, Brindlebox, Castle & Crow"),
        adjectives=_words("Wooden, Giant, Classic, Travel, Painted, Rainbow, Forest, Ocean, Little, Deluxe, Family"),
        nouns=_words(
            "Spinning Top, Card Game, Puzzle, Kite, Balance Game, Plush Bear, Tea Set, Board Game, Building Blocks, "
            "Chess Set, Science Kit, Marble Run, Train Set, Robot Kit, Doll House, Tricycle"
        ),
        uses=_words("from three years, from six years, for two to six players, for rainy days"),
        details=_words("solid beech, plays in half an hour, no batteries, in a cotton bag"),
        prices=(7, 140),
        months=_GIFTS,
    ),
    Category(
        name="Beauty",
        brands=_words("Solenne, Verbena Row, Aquilore, Petal & Stone"),
        adjectives=_words("Gentle, Hydrating, Herbal, Mineral, Unscented, Nourishing, Daily, Calming, Fresh, Rich"),
        nouns=_words(
            "Soap Bar, Lip Balm, Hand Balm, Deodorant, Bath Salt, Shampoo, Conditioner, Shaving Cream, Body Lotion, "
            "Cleanser, Toner, Face Mask, Sun Lotion, Hair Oil, Face Cream, Serum"
        ),
        uses=_words("for sensitive skin, for dry skin, for every day, for the night"),
        details=_words("refillable, vegan, without perfume, dermatologically tested"),
        prices=(4, 60),
        bought_again=0.45,
    ),
    Category(
        name="Pet Supplies",
        brands=_words("Pawbrook, Whiskerly, Barkstead"),
        adjectives=_words("Natural, Sturdy, Everyday, Deluxe, Small, Large, Soft, Classic, Premium, Travel, Country"),
        nouns=_words(
            "Treats, Chew Toy, Feeding Bowl, Grooming Brush, Leash, Cat Litter, Cat Food, Harness, Dog Food, Dog Coat, "
            "Scratching Post, Travel Crate, Dog Bed, Bird Cage, Cat Tree, Aquarium"
        ),
        uses=_words("for young animals, for old animals, for lively animals, for indoors"),
        details=_words("vet approved, easy to clean, made of recycled material, a favourite"),
        prices=(5, 150),
        bought_again=0.5,
    ),
    Category(
        name="Office",
        brands=_words("Deskwright, Papyra, Linden & Sons"),
        adjectives=_words("Minimal, Classic, Modern, Recycled, Compact, Walnut, Slate, Studio, Large, Slim, Everyday"),
        nouns=_words(
            "Pencil Case, Notebook, Bookend, Paper Tray, Wall Calendar, Planner, Desk Mat, Filing Box, Desk Organizer, "
            "Footrest, Whiteboard, Fountain Pen, Monitor Stand, Desk Lamp, Office Chair, Standing Desk"
        ),
        uses=_words("for small desks, for the home office, for tidy people, for students"),
        details=_words("keeps cables tidy, made of recycled material, two-year warranty, a good gift"),
        prices=(5, 380),
        months=_SCHOOL,
    ),
)
TIME_ZONES: Final = (
    "America/New_York",
    "America/Chicago",
    "America/Los_Angeles",
    "Europe/London",
    "Europe/Berlin",
    "Asia/Tokyo",
    "Australia/Sydney",
)
LOYALTY: Final = (("Bronze Member", 5.0), ("Silver Member", 3.0), ("Gold Member", 1.5), ("Platinum Member", 0.5))
